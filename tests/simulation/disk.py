"""The disk of a host in memory, behind the names by which host code reaches a real one.

A process that dies leaves everything as the kernel has it. A host that loses power keeps what was synced: the content
of a file since its last fsync, the entries of a directory since its own. What was not synced may be there or not.
Directories themselves count as durable once made.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import stat as stat_bits
from collections.abc import Callable, Iterator
from fnmatch import translate
from functools import cache, total_ordering
from types import SimpleNamespace
from typing import Any

from tests.simulation.kernel import Killed, Process

# Directories that a reboot empties.
VOLATILE = ("/run", "/tmp", "/dev")
DIRECTORY = None
MISSING = os.strerror(errno.ENOENT)
BLOCK = 4096
# What makes a name a pattern.
WILD = frozenset("*?[")


@cache
def _fits(pattern: str) -> Callable[[str], re.Match[str] | None]:
    return re.compile(translate(pattern)).match


class Inode:
    """One file: its content now, and what a power cut leaves of it (None: nothing was synced yet)."""

    __slots__ = ("data", "locks", "mode", "modified", "synced")

    def __init__(self, modified: float) -> None:
        self.data = b""
        self.synced: bytes | None = None
        self.modified = modified
        self.mode = 0o644
        self.locks: list[tuple[Process | None, bool, Handle | _DirectoryHandle]] = []


Entries = dict[str, Any]


class Disk:
    """Files by directory. `effect` is called before each thing that a crash may come between; `fail` may raise."""

    def __init__(
        self, wall: Callable[[], float], effect: Callable[[str], None], process: Callable[[], Process | None]
    ) -> None:
        self.wall = wall
        self.effect = effect
        self.process = process
        self.fail: Callable[[str, str], None] = lambda what, path: None
        self.free = 10 << 30
        self.tree: dict[str, Entries] = {"/": {}}
        # What stands for a directory where one is locked; its content is in `tree`.
        self.directories: dict[str, Inode] = {}
        self.durable: dict[str, Entries] = {"/": {}}
        self.made: dict[str, float] = {}
        self.open_files: dict[int, Any] = {}  # handles of files, and of directories
        self.last_descriptor = 10
        self._temporary = 0

    # Looking.
    def inode(self, path: str) -> Inode:
        directory, _, name = path.rpartition("/")
        entries = self.tree.get(directory or "/")
        if entries is None or name not in entries:
            raise FileNotFoundError(errno.ENOENT, MISSING, path)
        found = entries[name]
        if found is DIRECTORY:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        return found  # type: ignore[no-any-return]

    def exists(self, path: str) -> bool:
        directory, _, name = path.rpartition("/")
        return path in self.tree or name in self.tree.get(directory or "/", ())

    def is_file(self, path: str) -> bool:
        directory, _, name = path.rpartition("/")
        return self.tree.get(directory or "/", {}).get(name) is not DIRECTORY

    def names(self, path: str) -> list[str]:
        if path not in self.tree:
            raise FileNotFoundError(errno.ENOENT, MISSING, path)
        return sorted(self.tree[path])

    def matching(self, path: str, pattern: str) -> list[str]:
        """The names in a directory that fit a pattern, none where there is no such directory."""
        names = self.tree.get(path, {})
        if not WILD.intersection(pattern):
            return [pattern] if pattern in names else []
        return sorted(filter(_fits(pattern), names))

    def read(self, path: str) -> bytes:
        self.fail("read", path)
        return self.inode(path).data

    # Changing; each is one effect.
    def mkdir(self, path: str, parents: bool = False, exist_ok: bool = False) -> None:
        if path in self.tree:
            if exist_ok:
                return
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)
        directory, _, name = path.rpartition("/")
        directory = directory or "/"
        if directory not in self.tree:
            if not parents:
                raise FileNotFoundError(errno.ENOENT, MISSING, path)
            self.mkdir(directory, parents=True, exist_ok=True)
        self.effect(f"mkdir {path}")
        self.fail("write", path)
        self.made[path] = self.wall()
        for tree in (self.tree, self.durable):
            tree[path] = {}
            tree.setdefault(directory, {})[name] = DIRECTORY

    def create(self, path: str) -> Inode:
        directory, _, name = path.rpartition("/")
        if directory not in self.tree:
            raise FileNotFoundError(errno.ENOENT, MISSING, path)
        if not name.startswith("."):  # one that is hidden is seen by nobody before it is renamed
            self.effect(f"create {path}")
        self.fail("write", path)
        # Another process may have been quicker.
        return self.tree[directory].setdefault(name, Inode(self.wall()))  # type: ignore[no-any-return]

    def replace(self, source: str, target: str) -> None:
        moved = self.inode(source)
        self.effect(f"rename {target}")
        self.fail("rename", target)
        directory, _, name = source.rpartition("/")
        if self.tree.get(directory, {}).get(name) is not moved:
            raise FileNotFoundError(errno.ENOENT, MISSING, source)
        del self.tree[directory][name]
        directory, _, name = target.rpartition("/")
        self.tree[directory][name] = moved

    def unlink(self, path: str) -> None:
        self.inode(path)
        self.effect(f"unlink {path}")
        self.fail("unlink", path)
        directory, _, name = path.rpartition("/")
        if self.tree[directory].pop(name, DIRECTORY) is DIRECTORY:
            raise FileNotFoundError(errno.ENOENT, MISSING, path)

    def rmdir(self, path: str) -> None:
        self.effect(f"rmdir {path}")
        if self.tree[path]:
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), path)
        directory, _, name = path.rpartition("/")
        for tree in (self.tree, self.durable):
            tree.pop(path, None)
            tree.get(directory or "/", {}).pop(name, None)

    def rmtree(self, path: str, ignore_errors: bool = False, **_: Any) -> None:
        if path not in self.tree:
            if ignore_errors:
                return
            raise FileNotFoundError(errno.ENOENT, MISSING, path)
        for name in self.names(path):
            inner = f"{path}/{name}"
            if inner in self.tree:
                self.rmtree(inner)
            else:
                self.unlink(inner)
        self.rmdir(path)

    def sync_directory(self, path: str) -> None:
        self.effect(f"fsync {path}")
        self.fail("fsync", path)
        self.durable[path] = dict(self.tree[path])

    # What happens to it.
    def put(self, path: str, text: str) -> None:
        """Write a file from outside of the story: there, whole and synced."""
        directory, _, name = path.rpartition("/")
        for end in range(1, len(parts := directory.split("/")) + 1):
            inner = "/".join(parts[:end]) or "/"
            for tree in (self.tree, self.durable):
                if inner not in tree:
                    tree[inner] = {}
                    self.made[inner] = self.wall()
                    tree[inner.rpartition("/")[0] or "/"][inner.rpartition("/")[2]] = DIRECTORY
        found = Inode(self.wall())
        found.data = found.synced = text.encode()
        self.tree[directory][name] = self.durable[directory][name] = found

    def power_cut(self, keeps: Callable[[], bool]) -> None:
        """Lose what was not synced; `keeps` decides for each thing that might have reached the disk by itself."""
        self.open_files.clear()
        for path, entries in self.tree.items():
            if path.startswith(VOLATILE):
                self.durable[path] = {name: inode for name, inode in entries.items() if inode is DIRECTORY}
            elif entries != self.durable.get(path) and keeps():
                self.durable[path] = dict(entries)
        self.tree = {path: dict(entries) for path, entries in self.durable.items()}
        self.directories = {}
        for entries in self.tree.values():
            for inode in entries.values():
                if inode is DIRECTORY:
                    continue
                inode.locks = []
                if inode.data != inode.synced and not keeps():
                    added = len(inode.data) - len(inode.synced or b"")
                    torn = keeps() and added > 1 and inode.data.startswith(inode.synced or b"")
                    inode.data = inode.data[: -added // 2] if torn else inode.synced or b""
                inode.synced = inode.data

    def released(self, process: Process) -> None:
        """A process ended, so its files are closed and its locks free."""
        for handle in [handle for handle in self.open_files.values() if handle.process is process]:
            handle.shut()


class Handle:
    """An open file, as `open` and `os.fdopen` give one. What is written is there when it is flushed or closed."""

    def __init__(self, disk: Disk, path: str, inode: Inode, mode: str) -> None:
        self.disk = disk
        self.path = path
        self.inode = inode
        self.text = "b" not in mode
        self.append = "a" in mode
        self.process = disk.process()
        self.position = len(inode.data) if self.append else 0
        self.pending = b""
        disk.last_descriptor += 1
        self.descriptor = disk.last_descriptor
        disk.open_files[self.descriptor] = self

    def __enter__(self) -> Handle:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def raw(self) -> Handle:
        """The file below the buffer, whose content is forgotten."""
        self.pending = b""
        return self

    def fileno(self) -> int:
        return self.descriptor

    def read(self, size: int = -1) -> Any:
        self.flush()
        end = len(self.inode.data) if size < 0 else self.position + size
        found = self.inode.data[self.position : end]
        self.position += len(found)
        return found.decode(errors="replace") if self.text else found

    def __iter__(self) -> Iterator[Any]:
        return iter(self.read().splitlines(keepends=True))

    def write(self, data: Any) -> int:
        self.pending += data.encode() if isinstance(data, str) else data
        return len(data)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.flush()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: len(self.inode.data)}[whence]
        self.position = base + offset
        return self.position

    def truncate(self, size: int | None = None) -> int:
        self.flush()
        end = self.position if size is None else size
        if end != len(self.inode.data):
            self.disk.effect(f"truncate {self.path}")
            self.inode.data = self.inode.data[:end]
        return end

    def flush(self) -> None:
        if not self.pending:
            return
        pending, self.pending = self.pending, b""
        if "/." not in self.path:
            self.disk.effect(f"write {self.path}")
        self.disk.fail("write", self.path)
        data = self.inode.data
        begin = len(data) if self.append else self.position
        self.inode.data = data[:begin] + pending + data[begin + len(pending) :]
        self.inode.modified = self.disk.wall()
        self.position = begin + len(pending)

    def close(self) -> None:
        if self.descriptor in self.disk.open_files:
            try:
                self.flush()
            finally:
                self.shut()

    def shut(self) -> None:
        """The end of it without anything more being written."""
        self.disk.open_files.pop(self.descriptor, None)
        self.inode.locks = [lock for lock in self.inode.locks if lock[2] is not self]
        self.pending = b""


def open_on(disk: Disk, path: str, mode: str = "r") -> Any:
    """`open` of a file on this disk."""
    plain = mode.replace("b", "").replace("t", "")
    if plain in ("r", "r+"):
        inode = disk.inode(path)
        disk.fail("read", path)
    else:
        try:
            inode = disk.inode(path)
        except FileNotFoundError:
            inode = disk.create(path)
    if "w" in plain:
        inode.data = b""
    return Handle(disk, path, inode, mode)


@total_ordering
class DiskPath:
    """A path on the disk of one host; each host has a subclass of its own with `disk`.

    As `pathlib.PurePosixPath` where host code uses it, and several times as fast.
    """

    disk: Disk
    __slots__ = ("text",)

    def __init__(self, *parts: Any) -> None:
        self.text = posixpath.join(*map(str, parts)) if len(parts) > 1 else str(parts[0])

    def __str__(self) -> str:
        return self.text

    __fspath__ = __str__

    def __repr__(self) -> str:
        return f"DiskPath({self.text!r})"

    def __truediv__(self, other: Any) -> DiskPath:
        # By hand: this is a tenth of what a story costs.
        found, text = object.__new__(type(self)), str(other)
        found.text = text if text[:1] == "/" else f"{self.text}/{text}"
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DiskPath) and self.text == other.text

    def __lt__(self, other: DiskPath) -> bool:
        return self.text < other.text

    def __hash__(self) -> int:
        return hash(self.text)

    @property
    def name(self) -> str:
        return self.text.rpartition("/")[2]

    @property
    def parent(self) -> DiskPath:
        return type(self)(self.text.rpartition("/")[0] or "/")

    def with_suffix(self, suffix: str) -> DiskPath:
        return type(self)(posixpath.splitext(self.text)[0] + suffix)

    def relative_to(self, other: Any) -> DiskPath:
        return type(self)(posixpath.relpath(self.text, str(other)))

    def exists(self) -> bool:
        return self.disk.exists(self.text)

    def is_file(self) -> bool:
        return self.disk.is_file(self.text)

    def is_dir(self) -> bool:
        return self.text in self.disk.tree

    def is_symlink(self) -> bool:
        return False

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return self.disk.read(self.text).decode(encoding, errors)

    def read_bytes(self) -> bytes:
        return self.disk.read(self.text)

    def write_text(self, text: str, encoding: str = "utf-8") -> int:
        with open_on(self.disk, self.text, "w") as stream:
            stream.write(text)
        return len(text.encode(encoding))

    def write_bytes(self, data: bytes) -> int:
        return self.write_text(data.decode())

    def open(self, mode: str = "r", *_: Any, **__: Any) -> Any:
        return open_on(self.disk, self.text, mode)

    def touch(self, mode: int = 0o666, exist_ok: bool = True) -> None:
        if not self.exists():
            self.disk.create(self.text)
        self.disk.inode(self.text).modified = self.disk.wall()

    def iterdir(self) -> Iterator[DiskPath]:
        return iter([self / name for name in self.disk.names(self.text)])

    def glob(self, pattern: str) -> Iterator[DiskPath]:
        """Only one level of stars, as host code uses it."""
        first, _, rest = pattern.partition("/")
        for name in self.disk.matching(self.text, first):
            found = self / name
            if not rest:
                yield found
            elif found.is_dir():
                yield from found.glob(rest)

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        self.disk.mkdir(self.text, parents, exist_ok)

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            self.disk.unlink(self.text)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rmdir(self) -> None:
        self.disk.rmdir(self.text)

    def rename(self, target: Any) -> DiskPath:
        self.disk.replace(self.text, str(target))
        return type(self)(target)

    def replace(self, target: Any) -> DiskPath:
        return self.rename(target)

    def chmod(self, mode: int) -> None:
        pass

    def resolve(self) -> DiskPath:
        return self

    def stat(self) -> Any:
        if self.is_dir():
            made = self.disk.made.get(self.text, 0.0)
            return SimpleNamespace(st_mode=stat_bits.S_IFDIR | 0o755, st_mtime=made, st_dev=1)
        inode = self.disk.inode(self.text)
        return _stat(inode)


def _stat(inode: Inode) -> Any:
    return SimpleNamespace(
        st_mode=stat_bits.S_IFREG | inode.mode, st_mtime=inode.modified, st_size=len(inode.data), st_uid=0, st_gid=0,
        st_ino=id(inode), st_dev=1, st_mtime_ns=int(inode.modified * 1e9),
    )  # fmt: skip


class OsOf:
    """`os` of the process that runs now; what is not about files is the real one."""

    def __init__(self, disk: Callable[[], Disk]) -> None:
        self._disk = disk

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: Any, flags: int = 0, mode: int = 0o777) -> int:
        disk, name = self._disk(), str(path)
        if name in disk.tree:
            disk.last_descriptor += 1
            disk.open_files[disk.last_descriptor] = _DirectoryHandle(disk, name)
            return disk.last_descriptor
        if flags & os.O_CREAT and flags & os.O_EXCL and disk.exists(name):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name)
        text = "r" if not flags & (os.O_WRONLY | os.O_RDWR) else "w" if flags & os.O_TRUNC else "r+"
        if flags & os.O_CREAT and not disk.exists(name):
            disk.create(name)
        handle = open_on(disk, name, text)
        return int(handle.descriptor)

    def close(self, descriptor: int) -> None:
        self._disk().open_files[descriptor].close()

    def fdopen(self, descriptor: int, mode: str = "r", **_: Any) -> Any:
        handle = self._disk().open_files[descriptor]
        handle.text = "b" not in mode
        return handle

    def write(self, descriptor: int, data: bytes) -> int:
        return int(self._disk().open_files[descriptor].write(data))

    def fsync(self, descriptor: int) -> None:
        disk = self._disk()
        handle = disk.open_files[descriptor]
        if isinstance(handle, _DirectoryHandle):
            disk.sync_directory(handle.path)
            return
        disk.effect(f"fsync {handle.path}")
        disk.fail("fsync", handle.path)
        handle.inode.synced = handle.inode.data

    def replace(self, source: Any, target: Any) -> None:
        self._disk().replace(str(source), str(target))

    rename = replace

    def unlink(self, path: Any) -> None:
        self._disk().unlink(str(path))

    remove = unlink

    def fchmod(self, descriptor: int, mode: int) -> None:
        handle = self._disk().open_files[descriptor]
        handle.inode.mode = mode

    def fchown(self, *_: Any) -> None:
        pass

    def chmod(self, *_: Any, **__: Any) -> None:
        pass

    def chown(self, *_: Any, **__: Any) -> None:
        pass

    def utime(self, path: Any, times: tuple[float, float] | None = None) -> None:
        inode = self._disk().inode(str(path))
        self._disk().effect(f"touch {path}")
        inode.modified = times[1] if times else self._disk().wall()

    def fstat(self, descriptor: int) -> Any:
        return _stat(self._disk().open_files[descriptor].inode)

    def stat(self, path: Any, **_: Any) -> Any:
        return type(path)(path).stat() if isinstance(path, DiskPath) else _stat(self._disk().inode(str(path)))

    def listdir(self, path: Any) -> list[str]:
        return self._disk().names(str(path))

    def makedirs(self, path: Any, mode: int = 0o777, exist_ok: bool = False) -> None:
        self._disk().mkdir(str(path), parents=True, exist_ok=exist_ok)

    def statvfs(self, path: Any) -> Any:
        free = self._disk().free // BLOCK
        return SimpleNamespace(
            f_bavail=free, f_bfree=free, f_frsize=BLOCK, f_bsize=BLOCK, f_blocks=1 << 24, f_favail=1 << 20,
            f_ffree=1 << 20, f_files=1 << 21,
        )  # fmt: skip


class _DirectoryHandle:
    def __init__(self, disk: Disk, path: str) -> None:
        self.disk = disk
        self.path = path
        self.process = disk.process()
        self.inode = disk.directories.setdefault(path, Inode(0.0))

    def close(self) -> None:
        self.inode.locks = [lock for lock in self.inode.locks if lock[2] is not self]
        for descriptor in [number for number, handle in self.disk.open_files.items() if handle is self]:
            del self.disk.open_files[descriptor]

    shut = close


class FcntlOf:
    """`fcntl.flock`, whose locks belong to an open file and end with it."""

    LOCK_SH, LOCK_EX, LOCK_NB, LOCK_UN = 1, 2, 4, 8

    def __init__(self, disk: Callable[[], Disk]) -> None:
        self._disk = disk

    def flock(self, stream: Any, operation: int) -> None:
        disk = self._disk()
        descriptor = stream if isinstance(stream, int) else stream.fileno()
        handle = disk.open_files[descriptor]
        inode = handle.inode
        if operation & self.LOCK_UN:
            inode.locks = [lock for lock in inode.locks if lock[2] is not handle]
            return
        exclusive = bool(operation & self.LOCK_EX)
        while any(other is not handle and (exclusive or held) for _, held, other in inode.locks):
            if operation & self.LOCK_NB:
                raise BlockingIOError(errno.EWOULDBLOCK, os.strerror(errno.EWOULDBLOCK))
            process = disk.process()
            if process is None:
                raise Killed
            process.sleep(0.05)
        inode.locks = [lock for lock in inode.locks if lock[2] is not handle] + [(disk.process(), exclusive, handle)]


class TempfileOf:
    """`tempfile.mkstemp` on the disk of the process that runs now."""

    def __init__(self, disk: Callable[[], Disk]) -> None:
        self._disk = disk

    def gettempdir(self) -> str:
        return "/tmp"

    def mkstemp(self, suffix: str = "", prefix: str = "tmp", dir: Any = "/tmp", **_: Any) -> tuple[int, str]:  # noqa: A002 - the name of the real one
        disk = self._disk()
        disk._temporary += 1
        path = f"{dir}/{prefix}{disk._temporary:06d}{suffix}"
        return open_on(disk, path, "w").descriptor, path


class ShutilOf:
    """What host code takes from `shutil`."""

    def __init__(self, disk: Callable[[], Disk]) -> None:
        self._disk = disk

    def rmtree(self, path: Any, ignore_errors: bool = False, **more: Any) -> None:
        self._disk().rmtree(str(path), ignore_errors, **more)

    def disk_usage(self, path: Any) -> Any:
        return SimpleNamespace(total=20 << 30, used=(20 << 30) - self._disk().free, free=self._disk().free)

    def which(self, name: str) -> str | None:
        return f"/usr/bin/{name}"
