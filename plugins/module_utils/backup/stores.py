"""Stores: what Redis keeps that cannot be made again (redis_mode: store), by its append-only files.

Redis makes such a file anew beside the one before and names those that count in a manifest, which it replaces last; to
the newest of them it only appends. So the files of one manifest, copied while that one stands, are the store of one
moment. Source: redis.io/docs/latest/operate/oss_and_stack/management/persistence, "Backing up AOF persistence".
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from ..host import command
from ..host.durable import read_json, sync_directory
from ..host.errors import SlipwayError
from . import files
from .model import FAILED, REFUSED, BackupError, Manifest

# What Redis has since 7.0, and the one file that it had before.
DIRECTORY, BEFORE_7 = READ = ("appendonlydir", "appendonly.aof")
# A store has a directory of the first word and its name in the spool, and is restored as a part of the second and that.
SAVED, PART = "store-", "store:"
# Where a store is put together beside what is live, and what was live is kept, in the same directory, by the same time.
BESIDE, KEPT = ".slipway-restoring-", ".slipway-before-"
# How often one is copied whose files change meanwhile; seconds that its server has to end, and to read them.
TRIES, PATIENCE = 20, 900.0
Run = Callable[..., command.Ran]


@dataclass(frozen=True)
class Store:
    """A store of this host: its name, the directory of its data, and how its server is stopped and started."""

    name: str
    data: Path
    stop: Sequence[str]
    start: Sequence[str]

    @property
    def bytes(self) -> int:
        """Of its files as they are now."""
        return sum(path.stat().st_size for path in self._files() if path.exists())

    def copy(self, into: Path) -> None:
        """Its files of one moment. Raises BackupError where it has none, or none that stand still, and OSError."""
        for _ in range(TRIES):
            shutil.rmtree(into, ignore_errors=True)
            into.mkdir(parents=True)
            manifest = self._manifest()
            try:
                for path in self._files():
                    target = into / path.relative_to(self.data)
                    target.parent.mkdir(exist_ok=True)
                    shutil.copyfile(path, target)
            except FileNotFoundError:
                if self._manifest() == manifest:
                    raise
                continue
            if self._manifest() == manifest:
                if manifest is not None:
                    (into / manifest[0].relative_to(self.data)).write_text(manifest[1], encoding="utf-8")
                return
        raise BackupError(FAILED, f"the store {self.name} changed its files in {self.data} each time they were copied")

    def _manifest(self) -> Optional[tuple[Path, str]]:
        """The file that names those that count, and what it says; None for a store of before 7.0."""
        found = sorted((self.data / DIRECTORY).glob("*.manifest"))
        if found:
            return found[0], found[0].read_text(encoding="utf-8")
        if (self.data / BEFORE_7).is_file():
            return None
        raise BackupError(FAILED, f"the store {self.name} has no append-only file in {self.data}; does its server run?")

    def _files(self) -> list[Path]:
        manifest = self._manifest()
        if manifest is None:
            return [self.data / BEFORE_7]
        named = re.findall(r'^file "?([^\s"]+)"? seq \d+ type [bi]\b', manifest[1], re.MULTILINE)
        return [manifest[0].parent / name for name in named]


def stores(apps: Path, run: Run = command.run) -> list[Store]:
    """The stores of this host, as the role redis has written them down. `apps` is /opt/slipway. Raises BackupError."""
    roots = [apps / "redis", *sorted((apps / "redis" / "instances").glob("*"))]
    return [_store(said, run) for root in roots if (said := read_json(root / "config" / "store.json"))]


def _store(said: Mapping[str, Any], run: Run) -> Store:
    data = str(said.get("data") or "")
    if volume := said.get("volume"):
        ran = run(["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", str(volume)], 60)
        if ran.returncode:
            raise BackupError(FAILED, f"the store {said['name']} has no volume {volume}: {ran.said}")
        data = ran.stdout.strip()
    return Store(str(said["name"]), Path(data), tuple(said["stop"]), tuple(said["start"]))


def saved(manifest: Manifest) -> list[str]:
    """The names of the stores that a set has."""
    begin = f"{manifest.spool}/{SAVED}"
    return sorted({path[len(begin) :].split("/")[0] for path in manifest.files if path.startswith(begin)})


def chosen(manifest: Manifest, parts: Sequence[str]) -> tuple[list[str], list[str]]:
    """The stores that the words name, and the other words. Raises BackupError for one that the set has not."""
    there = saved(manifest)
    names = [part[len(PART) :] for part in parts if part.startswith(PART)]
    for name in names:
        if name not in there:
            offered = ", ".join(f"{PART}{one}" for one in there) or "none"
            raise BackupError(REFUSED, f"nothing was done: the set has no store {name}; it has: {offered}")
    return (there if list(parts) == ["all"] else names), [part for part in parts if not part.startswith(PART)]


def live(apps: Path, names: Sequence[str], run: Run = command.run) -> list[Store]:
    """Those of this host, by their names. Raises BackupError where it has no such store."""
    there = {store.name: store for store in stores(apps, run)} if names else {}
    for name in names:
        if name not in there:
            raise BackupError(
                REFUSED,
                f"nothing was done: the set has the store {name}, and this host has none of that name; run "
                "slipway.fleet.provision with redis_mode: store first, or restore the other parts alone "
                "(slipway_restore)",
            )
    return [there[name] for name in names]


def unreadable(manifest: Manifest, store: Store) -> str:
    """Why the server of a store would start empty on what a set has of it; empty where it reads that."""
    begin = f"{manifest.spool}/{SAVED}{store.name}/{DIRECTORY}/"
    there = {name for name in READ if (store.data / name).exists()}
    if there != {BEFORE_7} or not any(path.startswith(begin) for path in manifest.files):
        return ""
    return (
        f"the set has it as Redis 7 and later keep it ({DIRECTORY}), and that of this host is before 7, reads "
        f"{BEFORE_7} alone and would start empty"
    )


@contextmanager
def laid(wanted: Sequence[tuple[Store, Path]], at: str) -> Iterator[list[Store]]:
    """Have the saved files of each store beside what it reads, until the block ends. Raises BackupError and OSError.

    Args:
        wanted: stores of this host, and where the saved files of each are
        at: the time that what is there will be kept by

    Yields the stores; of one that the block takes out of the list what is beside stays.
    """
    there = [store for store, _ in wanted]
    try:
        for store, source in wanted:
            _lay(store, source, store.data / f"{BESIDE}{at}")
        yield there
    finally:
        for store in there:
            shutil.rmtree(store.data / f"{BESIDE}{at}", ignore_errors=True)


@contextmanager
def replaced(wanted: list[Store], at: str, run: Run = command.run) -> Iterator[list[dict[str, Any]]]:
    """Each store with what is `laid` beside it, and its server on that; what the block raises has what was there back.

    Raises BackupError and OSError; everything is as it was then, or the message says what is not. A store that is not
    is taken out of `wanted`, for `heal`.
    """
    done: list[dict[str, Any]] = []
    stopped: list[Store] = []
    try:
        for store in wanted:
            stopped.append(store)
            _told(run, store.stop, f"the store {store.name} cannot be stopped")
            kept = _exchange(store.data, at)
            _told(run, store.start, f"the store {store.name} does not start on what was saved of it")
            done.append({"name": f"{PART}{store.name}", "kept": str(kept)})
        yield done
    except BaseException as error:
        wrong = {store: errors for store in stopped if (errors := _undone(store, at, run))}
        if not wrong:
            raise
        wanted[:] = [store for store in wanted if store not in wrong]
        raise BackupError(
            getattr(error, "fault", FAILED),
            f"{str(error) or type(error).__name__}; and what was there before is not back: "
            f"{'; '.join(str(one) for errors in wrong.values() for one in errors)}. Mend that; the next run of "
            "slipway-backup on this host (backup, drill or restore) puts it back",
        ) from error


def _undone(store: Store, at: str, run: Run) -> list[Exception]:
    """Have a store as it was, and its server on that. What goes wrong stops no later step, and is returned."""
    wrong: list[Exception] = []

    def tried(step: Callable[..., None], *arguments: Any) -> None:
        try:
            step(*arguments)
        except (SlipwayError, OSError) as error:
            wrong.append(error)

    if (store.data / f"{KEPT}{at}").exists():
        tried(_told, run, store.stop, f"the store {store.name} cannot be stopped")
        tried(_put_back, store.data, at, store.data / f"{BESIDE}{at}")
    tried(_told, run, store.start, f"the store {store.name} cannot be started")
    return wrong


def heal(store: Store, run: Run = command.run, start: bool = True) -> None:
    """Have a store as it was before a restore that was killed, which has left what was beside, and its server on that.

    What its server has written since on something else is kept as well. Without `start` it is left stopped. Raises
    BackupError and OSError.
    """
    for beside in sorted(store.data.glob(f"{BESIDE}*")):
        _told(run, store.stop, f"the store {store.name} cannot be stopped")
        at = beside.name[len(BESIDE) :]
        _put_back(store.data, at, store.data / f"{KEPT}{at}-since")
        if start:
            _told(run, store.start, f"the store {store.name}, which a restore that was killed left, cannot be started")
        shutil.rmtree(beside)


def _lay(store: Store, source: Path, beside: Path) -> None:
    """The saved files in the store's own file system, with the owner that its data has."""
    into, owner = files.empty(beside), store.data.stat()
    files.room(f"the store {store.name}", (store.data, sum(one.stat().st_size for one in source.rglob("*"))))
    shutil.copytree(source, into, dirs_exist_ok=True)
    for path in (into, *into.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
        path.chmod(0o700 if path.is_dir() else 0o600)


def _exchange(data: Path, at: str) -> Path:
    """Have what is beside in the place of what Redis would read, and that where it is kept, which is returned."""
    kept = data / f"{KEPT}{at}"
    kept.mkdir(mode=0o700)
    _moved(READ, data, kept)
    _moved(READ, data / f"{BESIDE}{at}", data)
    sync_directory(data)
    return kept


def _put_back(data: Path, at: str, aside: Path) -> None:
    """Have what `_exchange` has put aside in its place again, however far that came, and what is there in `aside`."""
    kept = data / f"{KEPT}{at}"
    if not kept.exists():
        return
    if before := [one.name for one in kept.iterdir()]:
        # While what was restored lies beside, only what a server has made anew is in the place of what is kept.
        beside = any((data / f"{BESIDE}{at}" / name).exists() for name in READ)
        _moved(before if beside else READ, data, aside)
        _moved(before, kept, data)
    kept.rmdir()
    sync_directory(data)


def _moved(names: Sequence[str], source: Path, target: Path) -> None:
    for name in names:
        if (source / name).exists():
            target.mkdir(mode=0o700, exist_ok=True)
            os.rename(source / name, target / name)


def _told(run: Run, words: Sequence[str], what: str) -> None:
    try:
        ran = run(list(words), PATIENCE)
    except SlipwayError as error:
        raise BackupError(FAILED, f"{what}: {error}") from error
    if ran.returncode:
        raise BackupError(FAILED, f"{what}: {ran.said}")
