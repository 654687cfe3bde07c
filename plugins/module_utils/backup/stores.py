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
# Where a store is put together beside what is live, and what was live is kept, in the same directory.
BESIDE, KEPT = ".slipway-restoring", ".slipway-before-"
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
                f"nothing was done: the set has the store {name}, and this host has none of that name; run the "
                "playbook provision with redis_mode: store first, or restore the other parts alone (slipway_restore)",
            )
    return [there[name] for name in names]


@contextmanager
def replaced(wanted: Sequence[tuple[Store, Path]], at: str, run: Run = command.run) -> Iterator[list[dict[str, Any]]]:
    """Each store with what was saved of it, and its server on that; what the block raises has what was there back.

    Args:
        wanted: stores of this host, and where the saved files of each are
        at: the time that what was there is kept by
        run: how programs are run

    Raises BackupError and OSError; everything is as it was then.
    """
    done: list[dict[str, Any]] = []
    moves: list[tuple[Path, Path]] = []
    stopped: list[Store] = []
    try:
        for store, source in wanted:
            _beside(store, source)
        for store, _ in wanted:
            stopped.append(store)
            _told(run, store.stop, f"the store {store.name} cannot be stopped")
            kept = store.data / f"{KEPT}{at}"
            _exchange(store.data, kept, moves)
            _told(run, store.start, f"the store {store.name} does not start on what was saved of it")
            done.append({"name": f"{PART}{store.name}", "kept": str(kept)})
        yield done
    except BaseException:
        for store in stopped:
            run(list(store.stop), PATIENCE)
        for source, target in reversed(moves):
            os.rename(target, source)
        for store in stopped:
            run(list(store.start), PATIENCE)
        raise
    finally:
        for store, _ in wanted:
            shutil.rmtree(store.data / BESIDE, ignore_errors=True)


def heal(store: Store, run: Run = command.run) -> None:
    """Have a store serve again what a restore that was killed has put aside of it. Raises BackupError and OSError."""
    beside = store.data / BESIDE
    if not beside.exists():
        return
    kept = sorted(store.data.glob(f"{KEPT}*"))
    if kept and not any((store.data / name).exists() for name in READ):
        for one in kept[-1].iterdir():
            os.rename(one, store.data / one.name)
        kept[-1].rmdir()
    shutil.rmtree(beside)
    _told(run, store.start, f"the store {store.name} cannot be started")


def _beside(store: Store, source: Path) -> None:
    """The saved files in the store's own file system, with the owner that its data has."""
    into, owner = files.empty(store.data / BESIDE), store.data.stat()
    files.room(f"the store {store.name}", (store.data, sum(one.stat().st_size for one in source.rglob("*"))))
    shutil.copytree(source, into, dirs_exist_ok=True)
    for path in (into, *into.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
        path.chmod(0o700 if path.is_dir() else 0o600)


def _exchange(data: Path, kept: Path, moves: list[tuple[Path, Path]]) -> None:
    """Have what is beside in the place of what Redis would read, and that in `kept`; each step is added to `moves`."""
    kept.mkdir(mode=0o700)
    wanted = [(data / name, kept / name) for name in READ if (data / name).exists()]
    wanted += [(one, data / one.name) for one in (data / BESIDE).iterdir()]
    for source, target in wanted:
        os.rename(source, target)
        moves.append((source, target))
    sync_directory(data)


def _told(run: Run, words: Sequence[str], what: str) -> None:
    try:
        ran = run(list(words), PATIENCE)
    except SlipwayError as error:
        raise BackupError(FAILED, f"{what}: {error}") from error
    if ran.returncode:
        raise BackupError(FAILED, f"{what}: {ran.said}")
