"""What a package is made from, on the controller: the code, the lock, and the wheels that the lock names."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from ansible_collections.slipway.fleet.plugins.module_utils.host.durable import older
from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import PackageError, Target
from packaging.requirements import InvalidRequirement, Requirement

_HASH = re.compile(r"\s--hash[= ](sha256:[0-9a-f]{64})")
_NO_WHEEL = re.compile(r"No matching distribution found for ([^\s=]+)==(\S+)")
# The oldest C library that a wheel may ask for, by the processor; older tags have names of their own.
_OLDEST_GLIBC = {"x86_64": 5, "aarch64": 17}
_NAMED_GLIBC = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}


# How many lists of wheels the controller keeps; each is one lock for one kind of host.
FETCHED_KEPT = 12


@dataclass(frozen=True)
class Pin:
    """One line of a lock."""

    requirement: Requirement
    hashes: tuple[str, ...]


@dataclass(frozen=True)
class Wheel:
    """A wheel that the controller has."""

    path: Path
    sha256: str


class PackageSource:
    """The code and the lock of an app. Raises PackageError that names the path and the mend."""

    def __init__(self, root: Path, files: list[str], lock: str) -> None:
        self.root = root.resolve()
        self.wanted = files
        self.lock = self.root / lock
        if not self.lock.is_file():
            raise PackageError(f"there is no lock {self.lock}; name it with fastapi_package_lock, below the source")

    def check(self, own: Path | None, ca_file: Path | None) -> None:
        """Raise PackageError for what would stop the package later, when hosts are being changed already."""
        parse_lock(self.lock.read_text(encoding="utf-8"), self.lock)
        if own and not own.is_dir():
            raise PackageError(
                f"fastapi_package_wheels is {own}, which is no directory; name one with wheels, or nothing"
            )
        if ca_file and not ca_file.is_file():
            raise PackageError(f"fastapi_package_ca_file is {ca_file}, which is no file; name a PEM bundle, or nothing")

    def files(self) -> list[Path]:
        """Regular files of the code, relative to the root, sorted; no bytecode and nothing hidden."""
        found = []
        for name in self.wanted:
            path = self.root / name
            if not path.exists():
                raise PackageError(f"there is no {name} in {self.root}; fastapi_package_files names it")
            candidates = [path] if path.is_file() else [item for item in path.rglob("*") if item.is_file()]
            found += [item.relative_to(self.root) for item in candidates]
        return sorted(path for path in set(found) if not _unwanted(path))

    def key(self) -> str:
        """A hash of every name, mode bit for execution and byte of the code, and of the lock."""
        digest = hashlib.sha256(b"package\0" + self.lock.read_bytes())
        for path in self.files():
            full = self.root / path
            digest.update(f"\0{path.as_posix()}\0{full.stat().st_mode & 0o111:o}\0".encode())
            digest.update(hashlib.sha256(full.read_bytes()).digest())
        return digest.hexdigest()

    def requirements(self, target: Target) -> str:
        """The lines of the lock that hold for a host, without their conditions.

        pip would decide a condition by the Python that runs it, which here is the controller's.
        """
        environment = _marker_environment(target)
        return "".join(
            f"{pin.requirement.name}{_extras(pin.requirement)}{pin.requirement.specifier}"
            f"{''.join(f' --hash={digest}' for digest in pin.hashes)}\n"
            for pin in parse_lock(self.lock.read_text(encoding="utf-8"), self.lock)
            if pin.requirement.marker is None or pin.requirement.marker.evaluate(environment)
        )

    def write(self, archive: Path, requirements: str, wheels: list[Wheel], present: set[str]) -> None:
        """Write what a host needs: code, requirements, and the wheels that it has not got."""
        content = {"wheels": [wheel.sha256 for wheel in wheels]}
        with tarfile.open(archive, "w") as tar:
            _add(tar, "content.json", json.dumps(content).encode())
            _add(tar, "requirements.txt", requirements.encode())
            for path in self.files():
                full = self.root / path
                _add(tar, f"srv/{path.as_posix()}", full.read_bytes(), full.stat().st_mode)
            for wheel in wheels:
                if wheel.sha256 not in present:
                    _add(tar, f"wheels/{wheel.sha256}/{wheel.path.name}", wheel.path.read_bytes())


def parse_lock(text: str, name: Path) -> list[Pin]:
    """The requirements of a lock. Raises PackageError for one without an exact version or without a hash."""
    pins = []
    for line in text.replace("\\\n", " ").splitlines():
        stated = line.split(" #", 1)[0].strip()
        if not stated or stated.startswith("#"):
            continue
        hashes = tuple(_HASH.findall(stated))
        try:
            requirement = Requirement(stated.split(" --hash", 1)[0].strip())
        except InvalidRequirement:
            raise PackageError(
                f"{name}: `{stated[:80]}` is no requirement; a lock holds nothing else. "
                "`uv export --no-dev --no-emit-project` writes one from uv.lock"
            ) from None
        if not hashes or [item.operator for item in requirement.specifier] != ["=="]:
            raise PackageError(
                f"{name}: {requirement.name} has no exact version with a sha256 hash; "
                "`uv pip compile --generate-hashes` or `pip-compile --generate-hashes` writes such a lock"
            )
        pins.append(Pin(requirement, hashes))
    return pins


def cached_wheels(
    requirements: str, target: Target, own: Path | None, ca_file: Path | None, offline: bool = False
) -> list[Wheel]:
    """As `fetch`, into the controller's cache; by one of Ansible's parallel workers, while the others wait for it."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    cache = Path(home) / "slipway" / "wheels"
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(cache / "lock", "w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        return fetch(requirements, target, cache, own, ca_file, offline)


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
    place = cache / name[:24]
    if not place.is_dir():
        with tempfile.TemporaryDirectory(dir=cache, prefix=".part-") as directory:
            listed = Path(directory) / "requirements.txt"
            listed.write_text(requirements, encoding="utf-8")
            fetched = Path(directory) / "wheels"
            fetched.mkdir()
            _download(listed, fetched, target, own, ca_file, offline)
            fetched.rename(place)
    os.utime(place)
    for old in older(cache.glob("[0-9a-f]*"), FETCHED_KEPT):
        shutil.rmtree(old, ignore_errors=True)
    return [
        Wheel(path, hashlib.sha256(path.read_bytes()).hexdigest()) for path in sorted(place.iterdir()) if path.is_file()
    ]


def _download(listed: Path, place: Path, target: Target, own: Path | None, ca_file: Path | None, offline: bool) -> None:
    version = target.short.replace(".", "")
    command = [*_pip(), "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes"]
    command += ["--only-binary", ":all:", "--dest", str(place), "--implementation", "cp"]
    command += ["--python-version", target.short, "--abi", f"cp{version}", "--abi", "abi3", "--abi", "none"]
    command += [part for tag in platform_tags(target) for part in ("--platform", tag)]
    command += ["--find-links", str(own)] if own else []
    command += ["--no-index"] if offline else []
    command += ["--cert", str(ca_file)] if ca_file else []
    result = subprocess.run(
        [*command, "--requirement", str(listed)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=1800,
        check=False,
    )
    if result.returncode == 0:
        return
    said = result.stderr.strip()
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
        command = [str(python), "-m", "pip"]
        if python and subprocess.run([*command, "--version"], capture_output=True, check=False).returncode == 0:
            return command
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


def _extras(requirement: Requirement) -> str:
    return f"[{','.join(sorted(requirement.extras))}]" if requirement.extras else ""


def _unwanted(path: Path) -> bool:
    return path.suffix == ".pyc" or any(part == "__pycache__" or part.startswith(".") for part in path.parts)


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    item = tarfile.TarInfo(name)
    item.size = len(data)
    item.mode = 0o755 if mode & 0o100 else 0o644
    tar.addfile(item, BytesIO(data))
