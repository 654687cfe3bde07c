# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Puts a list of files, directories and links in place as one step: all of them, or none.

`parse` reads the options, `plan` compares them with the host and changes nothing, `apply` does what the plan says:

1. new directories are made, and every new content is written to a hidden file beside its destination and synced,
   so that a full disk is noticed before anything is replaced;
2. files that did not exist and have no validator appear, because a validated file may refer to them;
3. every validator runs on the hidden file;
4. everything else is renamed into place.

An error before step 4 takes back what steps 1 and 2 did.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
import shlex
import shutil
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from .errors import SlipwayError

STATES = ("file", "directory", "link", "absent", "touch-once")
# The hidden file's name keeps the end of the name, by which some validators decide what they read. A fixed name means
# that what a killed run left is used up by the next.
STAGED = ".slipway-"
# Bytes; a larger file is not shown in a diff.
DIFF_LIMIT = 100_000
# Seconds for one validator.
VALIDATOR_LIMIT = 120


class TreeError(SlipwayError):
    """The list or the host is not as it must be; the text is for the operator."""


@dataclass(frozen=True)
class Item:
    """One entry of the list. `content` and `mode` are there for states that need them."""

    dest: Path
    state: str = "file"
    content: bytes = b""
    target: str = ""
    owner: Optional[str] = None
    group: Optional[str] = None
    mode: Optional[int] = None
    validate: Optional[str] = None
    secret: bool = False
    program: bool = False
    replaces: str = ""
    keeps: str = ""
    otherwise: str = ""


@dataclass(frozen=True)
class Attributes:
    """Owner, group and permission bits; None means: whatever is there, or the default of a new file."""

    uid: Optional[int]
    gid: Optional[int]
    mode: Optional[int]

    def missing_in(self, status: os.stat_result) -> bool:
        """Tell whether a file with that status lacks one of them."""
        found = (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode))
        return any(want not in (None, have) for want, have in zip((self.uid, self.gid, self.mode), found))


@dataclass(frozen=True)
class Change:
    """What is to be done with one item, with both sides of its diff."""

    item: Item
    attributes: Attributes
    new: bool
    content: bool
    diff: tuple[dict[str, Any], ...] = field(default=(), repr=False)


def parse(files: Sequence[Mapping[str, Any]], contents: Mapping[str, str]) -> list[Item]:
    """Check the options of all items and the rules between them.

    Args:
        files: the items as the module got them
        contents: the text of each item that has one, by the position of the item
    """
    items: list[Item] = []
    for position, options in enumerate(files):
        try:
            items.append(_parse_item(options, contents.get(str(position))))
        except TreeError as error:
            raise TreeError(f"files[{position}] ({options.get('dest')}): {error}") from None
        if items[-1].dest in [item.dest for item in items[:-1]]:
            raise TreeError(f"files[{position}] ({items[-1].dest}): this dest is in the list twice")
    return items


def _parse_item(options: Mapping[str, Any], content: str | None) -> Item:
    dest = str(options["dest"])
    state = options.get("state") or "file"
    validate = options.get("validate")
    if not dest.startswith("/") or dest != os.path.normpath(dest) or dest == "/":
        raise TreeError("dest must be an absolute path without '..', '//' or a slash at the end")
    if state not in STATES:
        raise TreeError(f"state is {state!r}, but must be one of {', '.join(STATES)}")
    if state == "file" and content is None:
        raise TreeError("a file needs src (a template) or content")
    if state in ("directory", "link", "absent") and content is not None:
        raise TreeError(f"state {state} has no content")
    if state == "link" and not options.get("src"):
        raise TreeError("a link needs src, the path it leads to")
    if bool(options.get("keeps")) != bool(options.get("otherwise")) or (options.get("keeps") and state != "file"):
        raise TreeError("keeps and otherwise are for state file and go together")
    if validate and (state != "file" or "%s" not in validate):
        raise TreeError("validate is for state file and must contain %s, which stands for the file to check")
    return Item(
        dest=Path(dest),
        state=state,
        content=(content or "").encode(),
        target=str(options.get("src") or "") if state == "link" else "",
        owner=options.get("owner"),
        group=options.get("group"),
        mode=_parse_mode(state, options.get("mode")),
        validate=validate,
        secret=bool(options.get("secret")),
        program=bool(options.get("program")),
        replaces=str(options.get("replaces") or ""),
        keeps=str(options.get("keeps") or ""),
        otherwise=str(options.get("otherwise") or ""),
    )


def _parse_mode(state: str, mode: str | None) -> int | None:
    if state in ("link", "absent"):
        return None
    try:
        value = int(mode or "", 8)
    except ValueError:
        value = -1
    if not mode or len(mode) not in (3, 4) or not 0 <= value <= 0o7777:
        raise TreeError(f'mode is {mode!r}, but must be three or four octal digits in quotes, like "0644"')
    return value


def plan(items: Sequence[Item], check: bool) -> list[Change]:
    """Compare the items with the host and return those that differ, in their order.

    Args:
        items: from `parse`
        check: nothing will be applied; then a missing user, group or directory is no error, because a task before
            this one would have made it
    """
    expected: set[Path] = set()
    changes: list[Change] = []
    for item in items:
        if item.state not in ("absent", "directory") and not check:
            _require_parent(item.dest.parent, expected)
        try:
            change = _compare(item, _attributes(item, check))
        except PermissionError as error:
            raise TreeError(
                f"{error.filename or item.dest} may not be read by this user; the play needs become"
            ) from None
        except OSError as error:
            raise TreeError(f"{item.dest}: {error.strerror}") from error
        if item.state == "directory":
            expected.update((item.dest, *item.dest.parents))
        if change:
            changes.append(change)
    return changes


def _require_parent(parent: Path, expected: set[Path]) -> None:
    if parent not in expected and not parent.is_dir():
        raise TreeError(f"the directory {parent} does not exist; list it before its files with state: directory")


def _attributes(item: Item, check: bool) -> Attributes:
    def number(kind: str, name: str | None, find: Callable[[str], int]) -> int | None:
        if name is None:
            return None
        if name.isdigit():
            return int(name)
        try:
            return find(name)
        except KeyError:
            if check:
                return -1
            raise TreeError(
                f"the {kind} {name} of {item.dest} is not known on this host; make it, or install what brings it, first"
            ) from None

    if item.state in ("link", "absent"):
        return Attributes(None, None, None)
    return Attributes(
        number("user", item.owner, lambda name: pwd.getpwnam(name).pw_uid),
        number("group", item.group, lambda name: grp.getgrnam(name).gr_gid),
        item.mode,
    )


def _compare(item: Item, attributes: Attributes) -> Change | None:
    status = _status(item.dest, follow=item.state == "directory")
    if item.state == "absent":
        return (
            None
            if status is None
            else Change(item, attributes, False, False, (_state_diff(item, "present", "absent"),))
        )
    if item.state == "link":
        return _compare_link(item, attributes, status)
    if status is None:
        new = _state_diff(item, "absent", "directory") if item.state == "directory" else _new_diff(item)
        return Change(item, attributes, True, True, (new,))
    if item.state == "touch-once":
        return None
    if stat.S_ISDIR(status.st_mode) != (item.state == "directory"):
        found = "a directory" if stat.S_ISDIR(status.st_mode) else "not a directory"
        raise TreeError(f"{item.dest} is {found}, but state is {item.state}; remove it first")
    before = item.content
    if item.state == "file":
        before = item.dest.read_bytes() if stat.S_ISREG(status.st_mode) else b""
    content = item.state == "file" and (before != item.content or not stat.S_ISREG(status.st_mode))
    _require_kept(item, before)
    differing = attributes.missing_in(status)
    if not content and not differing:
        return None
    diff = [_content_diff(item, before)] if content else []
    if differing:
        diff.append(_attributes_diff(item, attributes, status))
    return Change(item, attributes, False, content, tuple(diff))


def _require_kept(item: Item, before: bytes) -> None:
    if not item.keeps:
        return
    had, has = (
        set(re.findall(item.keeps, text.decode(errors="replace"), re.MULTILINE)) for text in (before, item.content)
    )
    if lost := sorted(had - has):
        raise TreeError(f"{item.otherwise.replace('%s', ', '.join(lost))} ({item.dest}; no file was changed)")


def _compare_link(item: Item, attributes: Attributes, status: os.stat_result | None) -> Change | None:
    before = "absent"
    if status is not None:
        if stat.S_ISDIR(status.st_mode):
            raise TreeError(f"{item.dest} is a directory, but state is link; remove it first")
        before = f"link to {os.readlink(item.dest)}" if stat.S_ISLNK(status.st_mode) else "file"
    after = f"link to {item.target}"
    if before == after:
        return None
    return Change(item, attributes, status is None, True, (_state_diff(item, before, after),))


def _status(path: Path, follow: bool) -> os.stat_result | None:
    try:
        return os.stat(path, follow_symlinks=follow)
    except (FileNotFoundError, NotADirectoryError):
        return None


def _state_diff(item: Item, before: str, after: str) -> dict[str, Any]:
    header = str(item.dest)
    return {"before_header": header, "after_header": header, "before": f"{before}\n", "after": f"{after}\n"}


def _new_diff(item: Item) -> dict[str, Any]:
    """A new file against nothing, or against the one that it takes the place of."""
    old = Path(item.replaces)
    if item.secret or not item.replaces or not old.is_file():
        return _content_diff(item, None)
    return {**_content_diff(item, old.read_bytes()), "before_header": str(old)}


def _content_diff(item: Item, before: bytes | None) -> dict[str, Any]:
    if item.secret or item.program:
        told = "(secret)" if item.secret else "(part of Slipway)"
        return _state_diff(item, "absent" if before is None else told, told if before is None else f"{told} new")
    header = str(item.dest)
    return {
        "before_header": header,
        "after_header": header,
        "before": _shown(before or b""),
        "after": _shown(item.content),
    }


def _shown(content: bytes) -> str:
    if len(content) > DIFF_LIMIT:
        return f"(more than {DIFF_LIMIT} bytes)\n"
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "(binary)\n"


def _attributes_diff(item: Item, wanted: Attributes, status: os.stat_result) -> dict[str, Any]:
    before, after = {}, {}
    for name, want, have in (
        ("owner", wanted.uid, status.st_uid),
        ("group", wanted.gid, status.st_gid),
        ("mode", wanted.mode, stat.S_IMODE(status.st_mode)),
    ):
        if want not in (None, have):
            before[name] = f"{have:04o}" if name == "mode" else str(have)
            after[name] = f"{want:04o}" if name == "mode" else str(getattr(item, name))
    header = f"{item.dest} (owner, group, mode)"
    return {"before_header": header, "after_header": header, "before": before, "after": after}


def apply(changes: Sequence[Change]) -> None:
    """Do what `plan` found, in the steps of this module's docstring.

    Raises:
        TreeError: a validator refused a file, or the system refused a step. The text says whether anything changed.
    """
    replacing = False
    with _taken_back_on_error() as made:
        try:
            staged = _stage(changes, made)
            for change in changes:
                if change.new and change.item.dest in staged and not change.item.validate:
                    staged.pop(change.item.dest).rename(change.item.dest)
                    made.append(change.item.dest)
            for change in changes:
                if change.item.validate and change.item.dest in staged:
                    _validate(change.item, staged[change.item.dest])
            made[:] = staged.values()
            replacing = True
            for change in changes:
                _replace(change, staged.pop(change.item.dest, None))
            _sync_directories({change.item.dest.parent for change in changes})
        except OSError as error:
            consequence = (
                "some files may be replaced already, a new run finishes" if replacing else "no file was changed"
            )
            raise TreeError(f"{error.filename or 'the file system'}: {error.strerror}; {consequence}") from error


@contextmanager
def _taken_back_on_error() -> Iterator[list[Path]]:
    made: list[Path] = []
    try:
        yield made
    except BaseException:
        for path in reversed(made):
            try:
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
            except OSError:
                continue
        raise


def _stage(changes: Sequence[Change], made: list[Path]) -> dict[Path, Path]:
    staged: dict[Path, Path] = {}
    for change in changes:
        dest = change.item.dest
        if change.item.state == "directory" and change.new:
            for directory in [*reversed([parent for parent in dest.parents if not parent.exists()]), dest]:
                directory.mkdir(mode=0o755 if directory != dest else 0o700)
                made.append(directory)
            _set_attributes(dest, change.attributes)
        elif change.item.state in ("file", "touch-once") and change.content:
            staged[dest] = dest.with_name(STAGED + dest.name)
            staged[dest].unlink(missing_ok=True)
            made.append(staged[dest])
            _write(staged[dest], change)
    return staged


def _write(path: Path, change: Change) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(change.item.content)
        stream.flush()
        # What nobody asked for stays as it was in the file that is replaced.
        status = _status(change.item.dest, follow=False)
        if status and stat.S_ISREG(status.st_mode) and (status.st_uid, status.st_gid) != (os.geteuid(), os.getegid()):
            os.chown(descriptor, status.st_uid, status.st_gid)
        _set_attributes(descriptor, change.attributes)
        os.fsync(descriptor)


def _set_attributes(path: Path | int, attributes: Attributes) -> None:
    status = os.stat(path)
    uid = status.st_uid if attributes.uid is None else attributes.uid
    gid = status.st_gid if attributes.gid is None else attributes.gid
    if (uid, gid) != (status.st_uid, status.st_gid):
        os.chown(path, uid, gid)
    if attributes.mode is not None:
        os.chmod(path, attributes.mode)


def _validate(item: Item, path: Path) -> None:
    command = [word.replace("%s", str(path)) for word in shlex.split(item.validate or "")]
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=VALIDATOR_LIMIT,
            check=False,
        )
        said = result.stdout.decode(errors="replace").replace(str(path), str(item.dest)).strip()
        if result.returncode == 0:
            return
        reason = (
            f"exit code {result.returncode}: {said[-4000:]}" if not item.secret else f"exit code {result.returncode}"
        )
    except FileNotFoundError:
        reason = f"{command[0]} is not installed on this host"
    except subprocess.TimeoutExpired:
        reason = f"no answer within {VALIDATOR_LIMIT} s"
    raise TreeError(f"{item.dest} is refused by its validator `{item.validate}`, no file was changed: {reason}")


def _replace(change: Change, staged: Path | None) -> None:
    item = change.item
    if staged is not None:
        staged.rename(item.dest)
    elif item.state == "absent":
        shutil.rmtree(item.dest) if item.dest.is_dir() and not item.dest.is_symlink() else item.dest.unlink()
    elif item.state == "link":
        link = item.dest.with_name(STAGED + item.dest.name)
        link.unlink(missing_ok=True)
        link.symlink_to(item.target)
        link.rename(item.dest)
    elif not change.new:
        _set_attributes(item.dest, change.attributes)


def _sync_directories(directories: set[Path]) -> None:
    for directory in directories:
        if directory.is_dir():
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
