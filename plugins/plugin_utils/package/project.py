# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The project of an app, as pyproject.toml has it: whether it is installed itself, what of it is code, its wheel."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomllib
from ansible_collections.slipway.fleet.plugins.module_utils.host import command
from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import PackageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.lock import PYPROJECT

# Whether the project itself is installed: as pyproject.toml says, always, or never.
INSTALLS = ("found", "installed", "left_out")
# What is code where the inventory names nothing, besides the package of the project's name and every *.py beside it.
CODE = ("src", "app", "api", "alembic", "alembic.ini", "migrations", "static", "templates")
_NO_CODE = ("setup.py", "conftest.py", "noxfile.py", "tasks.py")
# What a build reads besides the code and what pyproject.toml names.
_BUILT_WITH = (PYPROJECT, "setup.py", "setup.cfg", "MANIFEST.in", "hatch_build.py")
_LICENCES = ("LICEN[CS]E*", "COPYING*", "NOTICE*", "AUTHORS*", "README*")
# Seconds for a build, and the moment of all files in a wheel: a wheel is a zip, and those begin in 1980.
LIMIT = 900
_EPOCH = "315532800"
# How programs that take the version from Git, which a build does not see, are told one.
_VERSIONED = ("SETUPTOOLS_SCM_PRETEND_VERSION", "PDM_BUILD_SCM_VERSION", "UV_DYNAMIC_VERSIONING_BYPASS")
_POETRY_VERSIONED = "POETRY_DYNAMIC_VERSIONING_BYPASS"


class Project:
    """What there is of a project in a directory. Raises PackageError that names the path and the mend."""

    def __init__(self, root: Path, install: str = INSTALLS[0]) -> None:
        self.root = root
        self.path = root / PYPROJECT
        try:
            self._said: dict[str, Any] = tomllib.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self._said = {}
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise PackageError(f"{self.path} cannot be read: {error}") from error
        if install not in INSTALLS:
            raise PackageError(f"fastapi_package_project is {install!r}; it is one of {', '.join(INSTALLS)}")
        if install == "installed" and not self._said:
            raise PackageError(f"fastapi_package_project is installed, and there is no {self.path} to install it by")
        self.installed = install == "installed" or (install == "found" and self._is_package())

    @property
    def name(self) -> str:
        """As it is imported; empty where pyproject.toml has none."""
        return str(self._part("project").get("name") or self._tool("poetry").get("name") or "").replace("-", "_")

    @property
    def requires_python(self) -> str:
        """The versions of Python that it takes, as PEP 440 writes them; empty for any."""
        return str(self._part("project").get("requires-python") or "")

    def code(self) -> list[str]:
        """Files and directories that an app of this project reads, as far as their names tell."""
        modules = sorted(path.name for path in self.root.glob("*.py") if path.name not in _NO_CODE)
        names = [name for name in (*CODE, self.name) if name and (self.root / name).exists()]
        if not names and not modules:
            raise PackageError(f"no code was found in {self.root}; name it with fastapi_package_files")
        return list(dict.fromkeys([*names, *modules]))

    def build_files(self) -> list[str]:
        """What a build of it reads besides the code; nothing where it is not installed."""
        if not self.installed:
            return []
        project, poetry = self._part("project"), self._tool("poetry")
        named = [project.get("readme"), project.get("license"), poetry.get("readme")]
        texts = [text for item in named for text in (item if isinstance(item, list) else [item])]
        files = [item.get("file") if isinstance(item, dict) else item for item in texts]
        found = [path.name for pattern in _LICENCES for path in sorted(self.root.glob(pattern))]
        candidates = [*_BUILT_WITH, *(str(name) for name in files if name), *found]
        return [name for name in dict.fromkeys(candidates) if (self.root / name).is_file()]

    def _is_package(self) -> bool:
        uv, poetry = self._tool("uv").get("package"), self._tool("poetry").get("package-mode")
        if uv is False or poetry is False:
            return False
        return uv is True or "build-system" in self._said

    def _part(self, name: str) -> dict[str, Any]:
        part = self._said.get(name)
        return part if isinstance(part, dict) else {}

    def _tool(self, name: str) -> dict[str, Any]:
        part = self._part("tool").get(name)
        return part if isinstance(part, dict) else {}


def build(
    pip: Sequence[str], root: Path, files: Sequence[Path], key: str, place: Path, own: Path | None, ca_file: Path | None
) -> None:
    """Write the wheel of a project into a directory, built of these files of it and of nothing else.

    Args:
        pip: the words that start pip
        root: of the project
        files: relative to it
        key: of the content, for a version where the project takes its own from Git
        place: directory for the wheel
        own: directory with wheels of one's own, that of a build backend among them
        ca_file: CA bundle for the index that pip is configured for
    """
    with tempfile.TemporaryDirectory(prefix="slipway-") as directory:
        for path in files:
            target = Path(directory) / path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / path, target)
        # It is for the hosts' Python, not for the one that builds.
        words = [*pip, "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-cache-dir"]
        words += ["--ignore-requires-python"]
        words += ["--find-links", str(own)] if own else []
        words += ["--cert", str(ca_file)] if ca_file else []
        version = f"0+{key[:12]}"
        told = {"SOURCE_DATE_EPOCH": _EPOCH, _POETRY_VERSIONED: version} | dict.fromkeys(_VERSIONED, version)
        ran = command.run([*words, "--wheel-dir", str(place), directory], LIMIT, os.environ | told)
    if ran.returncode:
        raise PackageError(
            f"{root} could not be built: {ran.said[-2000:]}; a build sees what "
            f"fastapi_package_files names and {', '.join(_BUILT_WITH)} alone: name there what it lacks, or leave the "
            "project itself out with fastapi_package_project: left_out"
        )
    (wheel,) = place.glob("*.whl")
    if not wheel.name.endswith("-none-any.whl"):
        raise PackageError(
            f"{root} is built to {wheel.name}, which fits the controller and perhaps no host; build the wheel for the "
            "hosts, lock its version and hash, name its directory with fastapi_package_wheels, and leave the project "
            "itself out with fastapi_package_project: left_out"
        )
