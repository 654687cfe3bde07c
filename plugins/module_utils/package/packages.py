"""Packages of an app on a host: its code and a virtual environment, by content, and the wheels they were made from.

    /opt/slipway/<app>/packages/<key>/srv     the code, seen by the app as /srv
    /opt/slipway/<app>/packages/<key>/venv    what the lock names, bytecode compiled
    /opt/slipway/<app>/wheels/<sha256>/       wheels, so that none is sent twice
    /usr/local/lib/slipway/python/<version>   Pythons that the controller brought, for all apps

All of it belongs to root, and the app cannot write to it. Releases that differ in configuration only share a package.
"""

from __future__ import annotations

import filecmp
import hashlib
import json
import os
import re
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Optional

from ..host import command
from ..host.durable import read_json, write_durably
from ..host.errors import SlipwayError
from ..host.reading import NO_ARCHIVE, object_of
from ..host.shown import tail

KEY_LENGTH = 12
# Seconds for one program that puts a package in place.
LIMIT = 900.0
OLDEST_PYTHON = (3, 11)
# What the controller sends.
_SENT = re.compile(r"content\.json|requirements\.txt|srv/.+|project/[^/]+|wheels/[0-9a-f]{64}/[^/]+", re.DOTALL)
_MARK = "package.json"
_REQUIREMENTS = "requirements.txt"
# Where pip lies for virtual environments: a Python has one of its age in ensurepip, that of Debian has it here.
_BUNDLED = "import ensurepip; print(ensurepip.__path__[0] + '/_bundled')"
_PIP_WHEELS = Path("/usr/share/python-wheels")
PYTHONS = Path("/usr/local/lib/slipway/python")
_DESCRIBE = """
import json, platform, sys
try:
    import ensurepip, venv
    complete = True
except ImportError:
    complete = False
print(json.dumps({
    "version": platform.python_version(),
    "implementation": platform.python_implementation(),
    "machine": platform.machine(),
    "glibc": platform.libc_ver()[1],
    "complete": complete,
}))
"""


class PackageError(SlipwayError):
    """The package could not be put in place; the text says why and what to do."""


@dataclass(frozen=True)
class Target:
    """What wheels must fit: the host's Python, processor and C library."""

    version: str  # 3.13.5
    machine: str  # x86_64
    glibc: str  # 2.41

    @property
    def short(self) -> str:
        """3.13, what virtual environments and wheels depend on."""
        return ".".join(self.version.split(".")[:2])

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def interpreter(python: str) -> str:
    """The path of a Python that is named by its path, or by the version of one that the controller brought."""
    return python if "/" in python else str(PYTHONS / python / "bin/python3")


def keep_python(archive: Path, version: str) -> str:
    """Put a Python in place that the controller sent, whole or not at all; returns its exact version."""
    part, place = PYTHONS / f".{version}.part", PYTHONS / version
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        tar.extractall(part)  # noqa: S202 - made by the controller, and sent over the connection that has root here
    try:
        found = target_of(str(part / "bin/python3"))
    except PackageError:
        shutil.rmtree(part, ignore_errors=True)
        raise
    shutil.rmtree(place, ignore_errors=True)
    part.rename(place)
    return found.version


def target_of(python: str) -> Target:
    """What the host's Python is. Raises PackageError that names what does not suit."""
    python = interpreter(python)
    try:
        ran = command.run([python, "-c", _DESCRIBE], 30.0)
    except command.CommandError:
        raise PackageError(f"there is no {python} on this host; run slipway.fleet.provision") from None
    if ran.returncode:
        raise PackageError(f"{python} does not run: {ran.said}")
    seen: dict[str, Any] = json.loads(ran.stdout)
    if seen["implementation"] != "CPython" or _numbers(seen["version"]) < OLDEST_PYTHON:
        raise PackageError(
            f"{python} is {seen['implementation']} {seen['version']}, and CPython 3.11 is the oldest that works: "
            "Debian 12, Ubuntu 24.04 and later have it; or name another one with fastapi_package_python"
        )
    if not seen["complete"]:
        raise PackageError(f"{python} has no venv module; run slipway.fleet.provision, which installs python3-venv")
    return Target(seen["version"], seen["machine"], seen["glibc"])


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


class Packages:
    """The packages of one app below its directory on the host."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.packages = root / "packages"
        self.wheels = root / "wheels"

    def path(self, key: str) -> Path:
        return self.packages / key[:KEY_LENGTH]

    def has(self, key: str, target: Target) -> bool:
        """Whether the package is whole and fits the Python that the host has now."""
        mark = read_json(self.path(key) / _MARK)
        return bool(mark and mark.get("key") == key and mark.get("python") == target.short)

    def wheels_here(self) -> list[str]:
        """SHA-256 of every wheel that need not be sent."""
        return sorted(path.name for path in self.wheels.iterdir()) if self.wheels.is_dir() else []

    def install(self, archive: Path, key: str, python: str) -> None:
        """Make a package from what the controller sent. Raises PackageError; nothing half made counts as there."""
        target = target_of(python)
        place = self.path(key)
        shutil.rmtree(place, ignore_errors=True)
        self.wheels.mkdir(parents=True, exist_ok=True)
        (place / "srv").mkdir(parents=True)
        content = self._unpack(archive, place)
        for directory in (self.packages, self.wheels, place, place / "srv"):
            directory.chmod(0o755)
        project = str(content.get("project") or "")
        mark: dict[str, Any] = {"key": key, "python": target.short, "interpreter": interpreter(python)}
        mark |= {"wheels": sorted(content["wheels"]), "project": _distribution(project)}
        twin = self._twin(place, mark)
        if not (twin and _linked(twin / "venv", place / "venv")):
            self._make_environment(place, python, content["wheels"])
        if project:
            self._install_project(place, project)
        compiled = [str(place / "venv/bin/python"), "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
        _run([*compiled, str(place / "srv")])
        write_durably(place / _MARK, json.dumps(mark) + "\n")

    def remove(self, keys: list[str]) -> None:
        """Remove packages, and then the wheels that none of the others was made from."""
        for key in keys:
            shutil.rmtree(self.path(key), ignore_errors=True)
        marks = [read_json(path) or {} for path in self.packages.glob(f"*/{_MARK}")]
        named = [mark.get("wheels") for mark in marks]
        needed = {str(wheel) for wheels in named if isinstance(wheels, list) for wheel in wheels}
        for wheel in set(self.wheels_here()) - needed:
            shutil.rmtree(self.wheels / wheel, ignore_errors=True)

    def _twin(self, place: Path, wanted: Mapping[str, Any]) -> Optional[Path]:
        """A whole package with the same environment: that of the release before, where only the code has changed."""
        for path in sorted(self.packages.glob(f"*/{_MARK}")):
            mark = read_json(path)
            same = mark and all(mark.get(name) == meant for name, meant in wanted.items() if name != "key")
            if same and filecmp.cmp(path.with_name(_REQUIREMENTS), place / _REQUIREMENTS, shallow=False):
                return path.parent
        return None

    def _unpack(self, archive: Path, place: Path) -> dict[str, Any]:
        """Code and requirements to the package, wheels to the store, each checked by its hash."""
        content: Optional[dict[str, Any]] = None
        try:
            with tarfile.open(archive) as tar:
                for item in tar:
                    stream = tar.extractfile(item) if item.isreg() else None
                    if stream is None or not _SENT.fullmatch(item.name) or ".." in Path(item.name).parts:
                        raise PackageError(f"the archive has {item.name[:200]!r}, which is no plain file of an app")
                    data = stream.read()
                    if item.name == "content.json":
                        content = object_of(data)
                    elif item.name.startswith("wheels/"):
                        _, digest, name = item.name.split("/")
                        self._keep_wheel(digest, name, data)
                    else:
                        _write(place / item.name, data, 0o755 if item.mode & 0o100 else 0o644)
        except NO_ARCHIVE as error:
            raise PackageError(f"the archive is not whole ({error}); it was cut on its way, so deploy again") from error
        if content is None or not isinstance(content.get("wheels"), list):
            raise PackageError("the archive is not whole; it was cut on its way, so deploy again")
        return content

    def _keep_wheel(self, digest: str, name: str, data: bytes) -> None:
        if hashlib.sha256(data).hexdigest() != digest:
            raise PackageError(f"{name} did not arrive as it was sent; deploy again")
        part = self.wheels / f".{digest}.part"
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        _write(part / name, data, 0o644)
        shutil.rmtree(self.wheels / digest, ignore_errors=True)
        part.rename(self.wheels / digest)

    def _make_environment(self, place: Path, python: str, wheels: list[str]) -> None:
        """A virtual environment without pip in it, filled offline by the pip of the host, every hash checked again."""
        absent = sorted(set(wheels) - set(self.wheels_here()))
        if absent:
            raise PackageError(f"{len(absent)} wheels were neither here nor sent; deploy again")
        _run([interpreter(python), "-m", "venv", "--without-pip", str(place / "venv")])
        links = [part for digest in wheels for part in ("--find-links", str(self.wheels / digest))]
        _install(place, [*links, "--require-hashes", "--requirement", str(place / _REQUIREMENTS)])

    def _install_project(self, place: Path, wheel: str) -> None:
        """The app's own wheel, over that of the package whose environment was taken, if it was."""
        _install(place, ["--force-reinstall", str(place / "project" / wheel)])
        shutil.rmtree(place / "project")


def _install(place: Path, words: list[str]) -> None:
    """Have the pip of the host install into the environment of a package, from wheels that are there."""
    _run(
        [
            *(str(place / "venv/bin/python"), f"{_pip(place)}/pip", "install", "--quiet", "--no-index", "--no-deps"),
            *("--only-binary", ":all:", "--compile", "--no-cache-dir", "--disable-pip-version-check"),
            *("--root-user-action", "ignore", *words),
        ]
    )


def _distribution(wheel: str) -> str:
    """The name of what a wheel installs, from the name of its file; empty for none."""
    return wheel.partition("-")[0]


def _pip(place: Path) -> Path:
    """The wheel of pip to fill a package with, that of its own Python first: an older one may fail under it."""
    bundled = Path(_run([str(place / "venv/bin/python"), "-c", _BUNDLED]).strip())
    for directory in (bundled, _PIP_WHEELS):
        if found := sorted(directory.glob("pip-*.whl")):
            return found[-1]
    raise PackageError(
        f"no wheel of pip is on this host to fill {place} with; run slipway.fleet.provision (python3-venv)"
    )


def _linked(old: Path, new: Path) -> bool:
    """Make an environment of the files of another one; tells whether that was possible.

    Nobody writes to the files, and each is there until the last environment that has it is gone. Only programs and the
    configuration name the place where they lie, so those are written anew.
    """
    try:
        shutil.copytree(old, new, symlinks=True, copy_function=os.link)
        for path in (new / "pyvenv.cfg", *(new / "bin").iterdir()):
            data = b"" if path.is_symlink() or not path.is_file() else path.read_bytes()
            if bytes(old) in data:
                mode = path.stat().st_mode & 0o777
                path.unlink()
                _write(path, data.replace(bytes(old), bytes(new)), mode)
    except (OSError, shutil.Error):
        shutil.rmtree(new, ignore_errors=True)
        return False
    return True


def _write(path: Path, data: bytes, mode: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(mode)


def _run(words: list[str]) -> str:
    # Neither the host's own configuration of pip nor modules of root change what is installed.
    clean = {"PATH": os.environ.get("PATH", os.defpath), "PIP_CONFIG_FILE": os.devnull, "PYTHONNOUSERSITE": "1"}
    try:
        ran = command.run(words, LIMIT, environment=clean)
    except command.CommandError as error:
        raise PackageError(str(error)) from error
    if ran.returncode:
        raise PackageError(f"`{' '.join(words[:4])} ...` failed: {tail(ran.said, 2000)}")
    return ran.stdout
