"""Static files of an app, of the releases that a host keeps as well as of the one that serves: a page finds its own.

While a fleet rolls, a page of the new release asks a host for its script that serves the old one, and pages that were
open before ask the new one for theirs. So each release has two directories of them on the host: `own` as it brings
them, and `served`, which its slots have at that path: all of `own`, and links to what the others bring and it lacks.
Both directions are done when a release is staged, which is before any host switches.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from ..host.command import CommandError
from ..host.durable import make_public, sync_directory
from .runtime import RuntimeFailed

# Below a release's own directory; templates of the role name `served` as well.
ASSETS, OWN, SERVED, UNFINISHED = "assets", "own", "served", ".new-"

# Puts what a release brings at a path of the app into a directory; what it does not have is nothing.
Fill = Callable[[str, Path], None]


class Assets:
    """Those of one app on a host, whose releases are directories of `releases`."""

    def __init__(self, releases: Path) -> None:
        self.releases = releases

    def have(self, release: str, wanted: Sequence[str], fill: Fill) -> None:
        """Have what a release serves at these paths of the app. Raises RuntimeFailed where it brings nothing there.

        Files are links, so they take no room a second time; a name that both have is each one's own.
        """
        if not wanted:
            return
        place = self.releases / release / ASSETS
        try:
            make_public(place)
            with _alone(place):
                if not (place / OWN).is_dir():
                    _bring(release, place, wanted, fill)
                for path in wanted:
                    _link(_at(place / OWN, path), _at(place / SERVED, path))
                    for other in self._others(release):
                        _link(_at(other / OWN, path), _at(place / SERVED, path))
                        if _at(other / SERVED, path).is_dir():
                            _link(_at(place / OWN, path), _at(other / SERVED, path))
        except (OSError, CommandError) as error:
            raise RuntimeFailed(f"the static files in {place} cannot be made: {error}") from error

    def _others(self, release: str) -> list[Path]:
        """Where other releases have theirs, the newest first."""
        found = [path.parent for path in self.releases.glob(f"*/{ASSETS}/{OWN}") if path.parents[1].name != release]
        return sorted(found, key=lambda path: (path / OWN).stat().st_mtime, reverse=True)


def _at(directory: Path, path: str) -> Path:
    return directory / path.lstrip("/")


def _bring(release: str, place: Path, wanted: Sequence[str], fill: Fill) -> None:
    """Make `own`, which appears whole."""
    for left in place.glob(f"{UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)
    new = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=place))
    try:
        for path in wanted:
            to = _at(new, path)
            to.mkdir(parents=True, exist_ok=True)
            fill(path, to)
            if not any(files for _, _, files in os.walk(to)):
                raise RuntimeFailed(
                    f"fastapi_app_assets names {path}, and release {release} has no files there; name the directory "
                    "of static files as the app has it, or leave it out"
                )
        _open_to_all(new)
        new.rename(place / OWN)
        sync_directory(place)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _open_to_all(directory: Path) -> None:
    """Whatever the app's user is, it can read them."""
    directory.chmod(0o755)
    for path in directory.rglob("*"):
        if not path.is_symlink():
            extra = 0o555 if path.is_dir() else 0o444
            path.chmod(stat.S_IMODE(path.stat().st_mode) | extra)


def _link(source: Path, to: Path) -> None:
    """Have every file of a directory in another one that has none of that name, as a hard link."""
    if not source.is_dir():
        return
    make_public(to)
    for name in sorted(os.listdir(source)):
        one, other = source / name, to / name
        if one.is_dir() and not one.is_symlink():
            if not other.is_symlink() and (other.is_dir() or not other.exists()):
                _link(one, other)
        else:
            with suppress(FileExistsError):
                os.link(one, other, follow_symlinks=False)


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """A command of an operator may prepare a release while a run does."""
    descriptor = os.open(place, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
