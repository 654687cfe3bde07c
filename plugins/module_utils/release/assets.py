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

from ..host import command
from ..host.durable import make_public, sync_directory
from .runtime import RuntimeFailed

# Below a release's own directory; templates of the role name `served` as well.
ASSETS, OWN, SERVED, UNFINISHED = "assets", "own", "served", ".new-"
# Seconds until what was copied is on the disk.
SYNC_LIMIT = 600.0

# Puts what a release brings at a path of the app into a directory; what it does not have is nothing.
Fill = Callable[[str, Path], None]


class Assets:
    """Those of one app on a host, whose releases are directories of `releases`."""

    def __init__(self, releases: Path) -> None:
        self.releases = releases.resolve()

    def have(self, release: str, wanted: Sequence[str], fill: Fill) -> None:
        """Have what a release itself brings at these paths of the app. Raises RuntimeFailed where it brings nothing."""
        if not wanted:
            return
        place = self.releases / release / ASSETS
        try:
            with alone(self.releases):
                make_public(place)
                if not (place / OWN).is_dir():
                    _bring(release, place, wanted, fill)
                for path in wanted:
                    make_public(_at(place / SERVED, path))
                    _link(_at(place / OWN, path), _at(place / SERVED, path), replacing=True)
        except (OSError, command.CommandError) as error:
            raise RuntimeFailed(f"the static files in {place} cannot be made: {error}") from error

    def share(self, release: str, wanted: Sequence[str]) -> None:
        """Have what the others bring served by this release, and the other way round. Raises RuntimeFailed.

        Files are links, so they take no room a second time; a name that both have is each one's own. What none of the
        releases brings any more is not served any longer.
        """
        if not wanted:
            return
        place = self.releases / release / ASSETS
        try:
            with alone(self.releases):
                others = self._others(release)
                for path in wanted:
                    for other in others:
                        _link_below(other / OWN, place / SERVED, path)
                        _link_below(place / OWN, other / SERVED, path)
                brought = {file.lstat().st_ino for one in (place, *others) for file in _files(one / OWN)}
                for file in [file for one in (place, *others) for file in _files(one / SERVED)]:
                    if file.lstat().st_ino not in brought:
                        file.unlink()
        except OSError as error:
            raise RuntimeFailed(f"the static files in {place} cannot be shared: {error}") from error

    def _others(self, release: str) -> list[Path]:
        """Where other releases have theirs, the newest first."""
        found = [path.parent for path in self.releases.glob(f"*/{ASSETS}/{OWN}") if path.parents[1].name != release]
        return sorted(found, key=lambda path: (path / OWN).stat().st_mtime, reverse=True)


@contextmanager
def alone(releases: Path) -> Iterator[None]:
    """Nobody else makes, links or removes files of these releases: a command of an operator may, beside a run."""
    descriptor = os.open(releases, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


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
            _require_static(release, path, to)
        _open_to_all(new)
        if (ran := command.run(["sync", "--file-system", str(new)], SYNC_LIMIT)).returncode:
            raise RuntimeFailed(f"the static files of release {release} are not on the disk: {ran.said}")
        new.rename(place / OWN)
        sync_directory(place)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _require_static(release: str, path: str, brought: Path) -> None:
    files = list(_files(brought))
    if not files:
        raise RuntimeFailed(
            f"fastapi_app_assets names {path}, and release {release} has no files there; name the directory of static "
            "files as the app has it, or leave it out"
        )
    if code := next((file for file in files if file.suffix == ".py"), None):
        raise RuntimeFailed(
            f"fastapi_app_assets names {path}, and there is code in it ({code.relative_to(brought)}), of which one "
            "release must not have another one's; name a directory of static files alone"
        )


def _files(directory: Path) -> Iterator[Path]:
    """Whatever is no directory, links included, which are not followed."""
    for here, directories, names in os.walk(directory):
        links = [name for name in directories if Path(here, name).is_symlink()]
        yield from (Path(here, name) for name in (*names, *links))


def _open_to_all(directory: Path) -> None:
    """Whatever the app's user is, it can read them."""
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            extra = 0o555 if path.is_dir() else 0o444
            path.chmod(stat.S_IMODE(path.stat().st_mode) | extra)


def _link_below(source: Path, to: Path, path: str) -> None:
    """Link what is at a path in one directory to the same path in another one, where both have it by no link."""
    ends = _at(source, path), _at(to, path)
    if all(end.is_dir() and end == end.resolve() for end in (ends[0].absolute(), ends[1].absolute())):
        _link(*ends)


def _link(source: Path, to: Path, replacing: bool = False) -> None:
    """Have every file of a directory in another one that has none of that name, or with `replacing` another one."""
    for name in sorted(os.listdir(source)):
        one, other = source / name, to / name
        if one.is_dir() and not one.is_symlink():
            if replacing and (other.is_symlink() or other.is_file()):
                other.unlink()
            if other.is_symlink() or other.is_file():
                continue
            make_public(other)
            _link(one, other, replacing)
        elif not replacing:
            with suppress(FileExistsError):
                os.link(one, other, follow_symlinks=False)
        elif not os.path.lexists(other) or other.lstat().st_ino != one.lstat().st_ino:
            if other.is_dir() and not other.is_symlink():
                shutil.rmtree(other)
            beside = to / f"{UNFINISHED}{name}"
            beside.unlink(missing_ok=True)
            os.link(one, beside, follow_symlinks=False)
            beside.replace(other)
