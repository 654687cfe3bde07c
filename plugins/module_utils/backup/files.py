"""Files of a set: which there are, whether there is room for them, and whether they came back as they were."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..host.ledger import ledgers
from .model import DIFFERENT, DISK_FULL, FAILED, MIB, MISSING_PART, BackupError, Manifest, Settings

# Beside a release's files, and made again from its lock, its image or its package.
NOT_SAVED = ("venv", ".venv", "assets")
# What stays free on a disk in any case.
RESERVE = 64 * MIB
MOUNTS = Path("/proc/self/mountinfo")


def absent(settings: Settings) -> list[str]:
    """Of the directories that were named those that are not there."""
    return [path for path in settings.directories if not os.path.isdir(path)]


def saved(settings: Settings, more: Iterable[str] = ()) -> list[str]:
    """The directories that are there and that a set has besides the dumps; `more` are some. Raises BackupError."""
    volumes = [path for pattern in settings.volumes for path in glob.glob(pattern)]
    there = [path for path in volumes if os.path.isdir(path) or os.path.islink(path)]
    named = {os.path.normpath(path) for path in set(settings.directories) - set(absent(settings))}
    found = sorted({*named, *map(os.path.normpath, (*there, *more, *map(str, apps(settings))))})
    for path in found:
        if os.path.islink(path):
            raise BackupError(FAILED, _of_a_link(path, path in named))
        if settings.local and settings.local.is_relative_to(path):
            raise BackupError(FAILED, f"{path} is to be backed up, and has the repository {settings.repository} in it")
    return found


def _of_a_link(path: str, named: bool) -> str:
    """Why it cannot be saved: restic keeps a link that it is told to save as a link, without what it leads to."""
    real = os.path.realpath(path)
    if named:
        return f"backup_directories names {path}, a link, of which a set would have no data; name {real} instead"
    return (
        f"{path} is a link, of which a set would have no data; have a directory there instead: rm {path}, "
        f"mkdir {path}, mount --bind {real} {path}, and a line for that in /etc/fstab"
    )


def apps(settings: Settings) -> list[Path]:
    """The directories of the apps of this host: records, rendered files and secrets.

    One without releases has a ledger alone (a database's host), and a restore is not to put an older one in its place.
    """
    return [root for root in ledgers(settings.apps) if (root / "releases").is_dir()]


def excluded(settings: Settings) -> list[str]:
    """What of an app's directory is not saved."""
    return [f"{settings.apps}/*/releases/*/{name}" for name in NOT_SAVED]


def room(what: str, *needs: tuple[Path, int]) -> None:
    """Raise BackupError where a disk has not enough bytes free for all that comes there, before anything is written."""
    disks: dict[int, tuple[Path, int]] = {}
    for path, needed in needs:
        there = next(one for one in (path, *path.parents) if one.exists())
        first, before = disks.get(os.stat(there).st_dev, (there, RESERVE))
        disks[os.stat(there).st_dev] = first, before + needed
    for path, needed in disks.values():
        free = shutil.disk_usage(path).free
        if free < needed:
            raise BackupError(
                DISK_FULL,
                f"nothing was done: {what} needs {needed // MIB} MiB on the disk of {path}, and {free // MIB} are free",
            )


def own_disk(settings: Settings, table: Path = MOUNTS) -> bool:
    """Whether the repository is a directory on the disk of what is backed up, and so is lost with it.

    A mount of its own is not touched: one whose server is gone fails, or does not answer for ever.
    """
    if settings.local is None:
        return False
    own = _device(os.path.realpath(settings.place), table)
    named = os.path.normpath(settings.local)
    return _device(named, table) == own and _device(os.path.realpath(named), table) == own


def own_disk_told(settings: Settings) -> list[str]:
    """That the repository is lost with what it has, for whoever makes a set or sets backups up; else nothing."""
    if not own_disk(settings):
        return []
    told = (
        f"the sets of {settings.host} are in {settings.repository}, on the disk that they are to outlive, and are lost "
        "with it; name another place in backup_repository"
    )
    return [told]


def _device(path: str, table: Path) -> str:
    """Of the file system that a path is in, what is mounted over another one in its place."""
    found = [(len(point), at, device) for at, (point, device) in enumerate(_mounted(table)) if below(path, point)]
    return max(found)[2] if found else ""


def mounts(table: Path = MOUNTS) -> list[str]:
    """Where something is mounted, a directory of the same file system included."""
    return [point for point, _ in _mounted(table)]


def _mounted(table: Path) -> list[tuple[str, str]]:
    """Each mount with the device of its file system, in their order (proc(5))."""
    lines = (line.split(" ") for line in table.read_text(encoding="utf-8", errors="surrogateescape").splitlines())
    return [(re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line[4]), line[2]) for line in lines]


def have_parents(path: Path) -> None:
    """Have the directories above it, those that are new open to all whatever the umask is."""
    for new in reversed([parent for parent in path.parents if not parent.exists()]):
        new.mkdir()
        new.chmod(0o755)


def sha256(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while piece := stream.read(MIB):
            digest.update(piece)
    return digest.hexdigest()


def digests(listing: Iterable[tuple[str, int, int]]) -> dict[str, tuple[int, str]]:
    """Size and hash of each file that was saved; the hash is empty where it changed since, or went."""
    found = {}
    for path, size, changed in listing:
        found[path] = (size, _digest(path, size, changed))
    return found


def _digest(path: str, size: int, changed: int) -> str:
    try:
        before = os.stat(path)
        if (before.st_size, before.st_mtime_ns) != (size, changed):
            return ""
        digest = sha256(path)
        after = os.stat(path)
    except OSError:
        return ""
    return digest if (after.st_size, after.st_mtime_ns) == (size, changed) else ""


def below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def differences(manifest: Manifest, root: Path, only: str = "/") -> Iterator[tuple[str, str]]:
    """Fault and sentence for each file below `only` that is not below `root` as it was saved."""
    for path, (size, digest) in manifest.files.items():
        if not below(path, only):
            continue
        restored = f"{root}{path}"
        try:
            found = os.stat(restored).st_size
        except OSError:
            yield MISSING_PART, f"{path} is missing"
            continue
        if found != size:
            yield DIFFERENT, f"{path} has {found} bytes instead of {size}"
        elif digest and sha256(restored) != digest:
            yield DIFFERENT, f"{path} is not what was saved"


def same(manifest: Manifest, root: Path, only: str = "/") -> None:
    """Raise BackupError where a file did not come back as it was saved."""
    found = list(differences(manifest, root, only))
    if found:
        sentences = "; ".join(sentence for _, sentence in found[:5])
        raise BackupError(found[0][0], f"what was restored is not what was saved ({len(found)} files): {sentences}")


def empty(directory: Path) -> Path:
    """The directory, for root alone and with nothing in it."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700, parents=True)
    return directory
