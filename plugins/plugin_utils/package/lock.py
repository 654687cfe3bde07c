# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The lock of an app, as projects have one: pip's requirements with hashes, or that of uv or Poetry.

What uv and Poetry wrote they also read: each exports its lock as requirements, on the controller.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ansible_collections.slipway.fleet.plugins.module_utils.host import command
from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import PackageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.repositories import names_commit
from packaging.requirements import InvalidRequirement, Requirement

# Where a lock is looked for below the source; the first one that is there is taken.
SEARCHED = ("requirements/app.lock", "uv.lock", "poetry.lock", "requirements.lock", "requirements.txt")
PYPROJECT = "pyproject.toml"
# Seconds for an export.
LIMIT = 300
_HASH = re.compile(r"\s--hash[= ](sha256:[0-9a-f]{64})")
_STALE = re.compile("needs to be updated|changed significantly|lock is not consistent with|lock file is not up to date")
_NO_PYTHON = re.compile(r"No interpreter found for Python (.+?) in ")
# uv would fetch a Python for itself in silence; what the controller gets is for its operator to say.
_NO_DOWNLOADS = {"UV_PYTHON_DOWNLOADS": "never"}
_INCLUDED = re.compile(r"(?:-r|--requirement)[= ]\s*(\S+)")
_DIRECTORY = re.compile(r"(?:(?:-e|--editable)[= ]\s*)?((?:file:|\.{0,2}/|\.$).*)")
# Where packages come from is for pip's own configuration to say; that there are hashes is asked of every line.
_PASSED_OVER = ("-i ", "--index", "--extra-index", "--trusted-host", "--only-binary", "--require-hashes")


@dataclass(frozen=True)
class Tool:
    """What reads a lock of its own; `install` is a command that installs it on the controller."""

    name: str
    export: tuple[str, ...]
    extra: str
    install: str


_TOOLS = {
    "uv.lock": Tool(
        "uv",
        ("export", "--locked", "--no-default-groups", "--no-emit-project", "--no-header", "--no-annotate"),
        "--extra",
        "pip install uv",
    ),
    "poetry.lock": Tool(
        "poetry",
        ("export", "--no-interaction", "--format", "requirements.txt", "--only", "main"),
        "--extras",
        "pipx install poetry && pipx inject poetry poetry-plugin-export",
    ),
}


@dataclass(frozen=True)
class Pin:
    """One line of a lock; that of a commit of a Git repository has no hashes."""

    requirement: Requirement
    hashes: tuple[str, ...]


class Lock:
    """A lock below the directory of a project. Raises PackageError that names the path and the mend.

    Args:
        root: of the project
        name: of the lock, relative to it; empty for the one that is found there
        extras: of the project that are wanted, too; for a lock of uv or Poetry, whose lines depend on them
    """

    def __init__(self, root: Path, name: str = "", extras: Sequence[str] = ()) -> None:
        there = [item for item in SEARCHED if (root / item).is_file()]
        if not name and not there:
            raise PackageError(
                f"there is no lock in {root}, which is one of {', '.join(SEARCHED)}; name another one with "
                "fastapi_package_lock, below the source"
            )
        self.root = root
        self.name = name or there[0]
        # The others that were found and are not taken; none where the inventory names one.
        self.others = () if name else tuple(there[1:])
        self.extras = tuple(extras)
        self.path = root / self.name
        self.tool = _TOOLS.get(self.path.name)
        if not self.path.is_file():
            raise PackageError(f"there is no lock {self.path}; name it with fastapi_package_lock, below the source")
        if self.tool and self.path.parent != root:
            raise PackageError(
                f"{self.path} is the lock of the project in {self.path.parent}; name that directory with "
                "fastapi_package_source"
            )
        if self.extras and not self.tool:
            raise PackageError(
                f"fastapi_package_extras is {list(self.extras)}, and {self.path} has what it has; choose extras where "
                "it is written, and leave the variable empty"
            )

    @property
    def note(self) -> str:
        """That there are others which are not taken; empty where there are none."""
        if not self.others:
            return ""
        return (
            f"{self.root} has {', '.join((self.name, *self.others))}: {self.name} is taken; fastapi_package_lock names "
            "it, or another one"
        )

    def parts(self) -> list[Path]:
        """The files that decide what it holds: itself, and those that it includes or is made from."""
        if self.tool:
            return [self.path, self.root / PYPROJECT]
        return [self.path, *_included(self.path, _text(self.path), ())]

    @cached_property
    def pins(self) -> list[Pin]:
        """Its lines."""
        if self.tool:
            return parse_lock(self._exported(self.tool), self.path)
        return [pin for path in self.parts() for pin in parse_lock(_text(path), path)]

    def _exported(self, tool: Tool) -> str:
        """The requirements that it holds, as its tool writes them; nothing is changed in the project."""
        program = program_named(tool.name)
        if not program:
            raise PackageError(
                f"{self.path} is read by {tool.name}, which the controller has not; install it there "
                f"(`{tool.install}`), or name a lock of pip's with fastapi_package_lock"
            )
        words = [program, *tool.export, *(part for extra in self.extras for part in (tool.extra, extra))]
        try:
            ran = command.run(words, LIMIT, os.environ | _NO_DOWNLOADS, limit=command.WHOLE, cwd=str(self.root))
        except command.CommandError as error:
            raise PackageError(f"{program} of the controller does not start, so {self.path} is not read") from error
        # Poetry 1 warns of a lock that is too old, and exports it.
        if ran.returncode == 0 and not _STALE.search(" ".join(ran.stderr.split())):
            return ran.stdout
        raise PackageError(self._refused(tool, " ".join((ran.stderr.strip() or ran.stdout.strip()).split())))

    def _refused(self, tool: Tool, said: str) -> str:
        """Why what a tool exported is not taken, and what to do; both tools say with which word."""
        if _STALE.search(said):
            return (
                f"{self.path} is older than {PYPROJECT} beside it, which asks for other packages; renew it "
                f"(`{tool.name} lock`), look at the difference and commit both"
            )
        if "command export does not exist" in said:
            return (
                f"{self.path} is exported by poetry-plugin-export, which the controller's Poetry has not; install it "
                "there (`pipx inject poetry poetry-plugin-export`, or `poetry self add poetry-plugin-export`)"
            )
        if python := _NO_PYTHON.search(said):
            return (
                f"{self.path} is read by {tool.name} with a Python {python[1]}, which the controller has not; install "
                f"one there (`uv python install '{python[1]}'`), or name a lock of pip's with fastapi_package_lock"
            )
        return f"{tool.name} could not export {self.path}: {said[-1500:]}"


def program_named(name: str) -> str | None:
    """The path of a program of the controller, beside the Python that runs Ansible or on PATH; None without one."""
    beside = str(Path(sys.executable).parent)
    return shutil.which(name, path=os.pathsep.join([beside, os.environ.get("PATH", os.defpath)]))


def parse_lock(text: str, name: Path) -> list[Pin]:
    """The requirements of a lock. Raises PackageError for one without an exact version or without a hash."""
    pins = []
    for stated in _lines(text):
        if stated.startswith(_PASSED_OVER) or _INCLUDED.match(stated):
            continue
        hashes = tuple(_HASH.findall(stated))
        try:
            requirement = Requirement(stated.split(" --hash", 1)[0].strip())
        except InvalidRequirement:
            if found := _DIRECTORY.match(stated):
                raise PackageError(
                    f"{name}: {found[1][:80]} is a directory and has no version with a sha256 hash; build its wheel "
                    "(`pip wheel --no-deps`), name the wheel's directory with fastapi_package_wheels and lock that "
                    "version with its hash; or lock without it, name its code in fastapi_package_files, and where that "
                    "is below /srv as PYTHONPATH in fastapi_app_environment"
                ) from None
            raise PackageError(
                f"{name}: `{stated[:80]}` is no requirement; a lock holds nothing else. "
                "`uv export --no-default-groups --no-emit-project` writes one from uv.lock"
            ) from None
        if requirement.url and names_commit(requirement.url):
            pins.append(Pin(requirement, ()))
            continue
        if requirement.url:
            raise PackageError(
                f"{name}: {requirement.name} comes from {requirement.url[:80]} and has no version with a sha256 hash; "
                "name the whole commit of a Git repository (`git+ssh://git@HOST/PATH@` and 40 digits), or build its "
                "wheel (`pip wheel --no-deps`), name its directory with fastapi_package_wheels and lock that version "
                "with its hash, or take a release of it from an index"
            )
        if not hashes or [item.operator for item in requirement.specifier] != ["=="]:
            raise PackageError(
                f"{name}: {requirement.name} has no exact version with a sha256 hash; "
                "`uv pip compile --generate-hashes` or `pip-compile --generate-hashes` writes such a lock"
            )
        pins.append(Pin(requirement, hashes))
    return pins


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise PackageError(f"{path} is no UTF-8 ({error.reason} at byte {error.start}); write it anew") from error


def _lines(text: str) -> Iterator[str]:
    """Logical lines of a requirements file, without comments (pip, Requirements File Format)."""
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        stated = re.split(r"(?:^|\s)#", line, maxsplit=1)[0].strip()
        if stated:
            yield stated


def _included(path: Path, text: str, above: tuple[Path, ...]) -> list[Path]:
    """The files that one includes by -r, and those that these include."""
    found: list[Path] = []
    for stated in _lines(text):
        if not (match := _INCLUDED.match(stated)):
            continue
        other = Path(os.path.normpath(path.parent / match[1]))
        if other in (path, *above):
            raise PackageError(f"{path} includes {match[1]}, which includes it")
        if not other.is_file():
            raise PackageError(f"{path} includes {match[1]}, and there is no {other}")
        found += [other, *_included(other, _text(other), (path, *above))]
    return found
