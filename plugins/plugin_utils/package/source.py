"""What a package is made from, on the controller: the code, the lock, and the wheels that the lock names."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from ansible_collections.slipway.fleet.plugins.module_utils.host import command
from ansible_collections.slipway.fleet.plugins.module_utils.host.durable import older
from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import PackageError, Target
from ansible_collections.slipway.fleet.plugins.plugin_utils.package import repositories
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.lock import Lock, Pin
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.project import Project, build
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

_NO_WHEEL = re.compile(r"No matching distribution found for ([^\s=]+)==(\S+)")
# The oldest C library that a wheel may ask for, by the processor; older tags have names of their own.
_OLDEST_GLIBC = {"x86_64": 5, "aarch64": 17}
_NAMED_GLIBC = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}


# How many lists of wheels the controller keeps; each is one lock for one kind of host.
FETCHED_KEPT = 12


@dataclass(frozen=True)
class Wheel:
    """A wheel that the controller has."""

    path: Path
    sha256: str


class PackageSource:
    """The code and the lock of an app. Raises PackageError that names the path and the mend.

    Args:
        root: directory of the project
        files: what of it is code, relative to it; empty for what is found
        lock: relative to it; empty for the one that is found
        project: whether the project itself is installed, one of `project.INSTALLS`
        extras: of the project, that its lock is to bring, too
    """

    def __init__(
        self, root: Path, files: Sequence[str] = (), lock: str = "", project: str = "found", extras: Sequence[str] = ()
    ) -> None:
        self.root = root.resolve()
        self.lock = Lock(self.root, lock, extras)
        self.project = Project(self.root, project)
        self.wanted = list(files)

    def check(self, own: Path | None, ca_file: Path | None) -> None:
        """Raise PackageError for what would stop the package later, when hosts are being changed already."""
        _ = self.lock.pins
        if own and not own.is_dir():
            raise PackageError(
                f"fastapi_package_wheels is {own}, which is no directory; name one with wheels, or nothing"
            )
        if ca_file and not ca_file.is_file():
            raise PackageError(f"fastapi_package_ca_file is {ca_file}, which is no file; name a PEM bundle, or nothing")

    def files(self) -> list[Path]:
        """Regular files of the code, relative to the root, sorted; nothing hidden, and nothing that a tool has made.

        Raises PackageError for one that is elsewhere, such as behind a link.
        """
        found = [Path(name) for name in self.project.build_files()]
        for name in self.wanted or self.project.code():
            path = self.root / name
            if not path.exists():
                raise PackageError(f"there is no {name} in {self.root}; fastapi_package_files names it")
            candidates = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
            found += [item.relative_to(self.root) for item in candidates]
        wanted = sorted(path for path in set(found) if not _unwanted(path))
        for path in wanted:
            if not (place := (self.root / path).resolve()).is_relative_to(self.root):
                raise PackageError(
                    f"{self.root / path} is {place}, which is outside of {self.root}, so it is not sent; put the file "
                    "itself there, or name a directory that has both with fastapi_package_source"
                )
        return wanted

    def key(self) -> str:
        """A hash of every name, mode bit for execution and byte of the code, and of the lock."""
        return self._read(lambda *_: None)

    def changed(self) -> PackageError:
        """That files are others than those that the key was made of."""
        return PackageError(
            f"{self.root} was changed while it was deployed, so that hosts would have different code under one key; "
            "leave it alone and deploy again"
        )

    def _read(self, take: Callable[[Path, bytes, int], None]) -> str:
        """The key of what is read now, with each file of the code, its bytes and its mode handed on."""
        digest = hashlib.sha256(b"package\0")
        for path in self.lock.parts():
            digest.update(path.read_bytes() if path.is_file() else b"")
        for path in self.files():
            data, mode = (self.root / path).read_bytes(), (self.root / path).stat().st_mode
            digest.update(f"\0{path.as_posix()}\0{mode & 0o111:o}\0".encode())
            digest.update(hashlib.sha256(data).digest())
            take(path, data, mode)
        if self.project.installed or self.lock.extras:
            digest.update(f"\0project {self.project.installed} {sorted(self.lock.extras)}".encode())
        return digest.hexdigest()

    def takes(self, target: Target) -> bool:
        """Whether a host's Python is one that the project asks for."""
        wanted = self.project.requires_python
        return not wanted or SpecifierSet(wanted).contains(target.version, prereleases=True)

    def refuse(self, target: Target, python: str) -> None:
        """Raise PackageError where the project does not take a host's Python, which the inventory names `python`."""
        if not self.takes(target):
            raise PackageError(
                f"{self.project.path} asks for Python {self.project.requires_python}, and {python} of the hosts is "
                f"{target.version}; name another one that they have with fastapi_package_python, or one that uv has by "
                'its version (fastapi_package_python: "3.13"), and run slipway.fleet.provision'
            )

    def requirements(self, target: Target) -> str:
        """The lines of the lock that hold for a host, without their conditions.

        pip would decide a condition by the Python that runs it, which here is the controller's.
        """
        environment = _marker_environment(target)
        lines = (
            f"{pin.requirement.name}{_extras(pin.requirement)}{_what(pin)}\n"
            for pin in self.lock.pins
            if pin.requirement.marker is None or pin.requirement.marker.evaluate(environment)
        )
        return "".join(dict.fromkeys(lines))

    def wheel(self, own: Path | None, ca_file: Path | None, bundle: Path | None = None) -> Wheel | None:
        """The wheel of the project itself, built once for a content on this controller; None where it has none.

        Args:
            own: directory with wheels of one's own
            ca_file: CA bundle for the index that pip is configured for
            bundle: directory with the wheels of a bundle; then nothing is built
        """
        if not self.project.installed:
            return None
        key = self.key()
        if bundle:
            found = sorted((bundle / project_directory(key)).glob("*.whl"))
            if not found:
                raise PackageError(
                    f"the bundle has no wheel of {self.root} as it is now; make it again with this source"
                )
            return _wheel(found[0])

        def built(into: Path) -> None:
            build(_pip(), self.root, self.files(), key, into, own, ca_file)
            if self.key() != key:
                raise self.changed()

        with _cache() as cache:
            place = _kept(cache, project_directory(key), built)
            return _wheel(next(place.glob("*.whl")))

    def write(
        self, archive: Path, requirements: str, wheels: list[Wheel], present: set[str], project: Wheel | None = None
    ) -> str:
        """Write what a host needs: code, requirements, the wheels that it has not got, and that of the project.

        Returns the key of what was written.
        """
        requirements = repositories.for_hosts(requirements, [(wheel.path, wheel.sha256) for wheel in wheels])
        content = {"wheels": [wheel.sha256 for wheel in wheels], "project": project.path.name if project else ""}
        with tarfile.open(archive, "w") as tar:
            _add(tar, "content.json", json.dumps(content).encode())
            _add(tar, "requirements.txt", requirements.encode())
            key = self._read(lambda path, data, mode: _add(tar, f"srv/{path.as_posix()}", data, mode))
            for wheel in wheels:
                if wheel.sha256 not in present:
                    _add(tar, f"wheels/{wheel.sha256}/{wheel.path.name}", wheel.path.read_bytes())
            if project:
                _add(tar, f"project/{project.path.name}", project.path.read_bytes())
        return key


def cached_wheels(
    requirements: str, target: Target, own: Path | None, ca_file: Path | None, offline: bool = False
) -> list[Wheel]:
    """As `fetch`, into the controller's cache; by one of Ansible's parallel workers, while the others wait for it."""
    with _cache() as cache:
        return fetch(requirements, target, cache, own, ca_file, offline)


def project_directory(key: str) -> str:
    """Where the wheel of a project lies among those of a cache or a bundle, for a content."""
    return f"project-{key[:24]}"


@contextmanager
def _cache() -> Iterator[Path]:
    """The controller's wheels, held for one of Ansible's parallel workers."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    cache = Path(home) / "slipway" / "wheels"
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(cache / "lock", "w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield cache


def _kept(cache: Path, name: str, make: Callable[[Path], None]) -> Path:
    """A directory of the cache, made when it is not there, whole or not at all; the oldest ones go."""
    place = cache / name
    if not place.is_dir():
        with tempfile.TemporaryDirectory(dir=cache, prefix=".part-") as directory:
            made = Path(directory) / "made"
            made.mkdir()
            make(made)
            made.rename(place)
    os.utime(place)
    for old in older([path for path in cache.glob("[0-9a-z]*") if path.is_dir()], FETCHED_KEPT):
        shutil.rmtree(old, ignore_errors=True)
    return place


def _wheel(path: Path) -> Wheel:
    return Wheel(path, hashlib.sha256(path.read_bytes()).hexdigest())


def fetch(
    requirements: str, target: Target, cache: Path, own: Path | None, ca_file: Path | None, offline: bool = False
) -> list[Wheel]:
    """The wheels of the requirements for a target, from the cache or by pip. Raises PackageError.

    Args:
        requirements: As PackageSource.requirements gives them.
        target: What the wheels must fit.
        cache: Directory that keeps the wheels of one list of requirements for one target.
        own: Directory with wheels of one's own, besides the index that pip is configured for.
        ca_file: CA bundle for that index.
        offline: No index is asked; `own` has all of them.
    """
    name = hashlib.sha256(f"{target.short} {target.machine} {target.glibc}\n{requirements}".encode()).hexdigest()

    hashed, taken = repositories.split(requirements)

    def download(into: Path) -> None:
        for package, url in taken:
            if offline and own:
                repositories.take(package, own, into)
            else:
                repositories.build(_pip(), package, url, into, own, ca_file)
        if not hashed:
            return
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="slipway-", suffix=".txt") as listed:
            listed.write(hashed)
            listed.flush()
            _download(Path(listed.name), into, target, own, ca_file, offline)

    place = _kept(cache, name[:24], download)
    return [_wheel(path) for path in sorted(place.iterdir()) if path.is_file()]


def _download(listed: Path, place: Path, target: Target, own: Path | None, ca_file: Path | None, offline: bool) -> None:
    version = target.short.replace(".", "")
    words = [*_pip(), "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    words += ["--only-binary", ":all:", "--dest", str(place), "--implementation", "cp"]
    words += ["--python-version", target.short, "--abi", f"cp{version}", "--abi", "abi3", "--abi", "none"]
    words += [part for tag in platform_tags(target) for part in ("--platform", tag)]
    words += ["--find-links", str(own)] if own else []
    words += ["--no-index"] if offline else []
    words += ["--cert", str(ca_file)] if ca_file else []
    ran = command.run([*words, "--requirement", str(listed)], 1800)
    if ran.returncode == 0:
        return
    said = ran.said
    if offline:
        raise PackageError(
            f"the bundle lacks wheels of the lock for Python {target.short} on {target.machine}: {said[-2000:]}; "
            "make it again with this lock"
        )
    if found := _NO_WHEEL.search(said):
        raise PackageError(
            f"{found.group(1)} {found.group(2)} has no wheel for Python {target.short} on {target.machine} with glibc "
            f"{target.glibc}, and source distributions are refused, since hosts have no compilers; lock a version that "
            "has one, or build it (`pip wheel --no-deps`), add its hash to the lock and name its directory with "
            "fastapi_package_wheels"
        )
    raise PackageError(f"pip could not fetch the wheels of the lock: {said[-2000:]}")


def platform_tags(target: Target) -> list[str]:
    """Platform tags that run on a host, newest first (PEP 600: a wheel for an older glibc runs on a newer one)."""
    newest, oldest = int(target.glibc.split(".")[1]), _OLDEST_GLIBC.get(target.machine, 17)
    tags = []
    for minor in range(newest, oldest - 1, -1):
        tags.append(f"manylinux_2_{minor}_{target.machine}")
        if minor in _NAMED_GLIBC:
            tags.append(f"{_NAMED_GLIBC[minor]}_{target.machine}")
    return [*tags, f"linux_{target.machine}"]


def _pip() -> list[str]:
    """The pip of the Python that runs Ansible, or of the one on PATH."""
    for python in (sys.executable, shutil.which("python3")):
        words = [str(python), "-m", "pip"]
        if python and command.run([*words, "--version"], 60).returncode == 0:
            return words
    raise PackageError(f"the controller has no pip to fetch wheels with; install it for {sys.executable}")


def _marker_environment(target: Target) -> dict[str, str]:
    return {
        "implementation_name": "cpython",
        "implementation_version": target.version,
        "os_name": "posix",
        "platform_machine": target.machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": target.version,
        "python_version": target.short,
        "sys_platform": "linux",
        "extra": "",
    }


def _what(pin: Pin) -> str:
    """The version and the hashes, or where a commit is."""
    if pin.requirement.url:
        return f" @ {pin.requirement.url}"
    return f"{pin.requirement.specifier}{''.join(f' --hash={digest}' for digest in pin.hashes)}"


def _extras(requirement: Requirement) -> str:
    return f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""


def _unwanted(path: Path) -> bool:
    made = path.suffix == ".pyc" or any(part == "__pycache__" or part.endswith(".egg-info") for part in path.parts)
    return made or any(part.startswith(".") for part in path.parts if part != "..")


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    item = tarfile.TarInfo(name)
    item.size = len(data)
    item.mode = 0o755 if mode & 0o100 else 0o644
    tar.addfile(item, BytesIO(data))
