"""Who an app is in its container: whom the inventory names, else the image's own user, else one that is not root."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Optional

from .runtime import RuntimeFailed

# User and group of a process.
Owner = tuple[int, int]
ROOT = ("root", "0")
PASSWD, GROUP = "/etc/passwd", "/etc/group"


def user_of_app(wanted: str, image: str, otherwise: int, read: Callable[[str], str]) -> Owner:
    """The numbers of an app's user and group.

    Args:
        wanted: what the inventory says, a name or a number, with a group after a colon where there is one; or nothing
        image: what the image says in the same way (USER in a Dockerfile)
        otherwise: the number where neither names another user than root
        read: the text of a file of the image, empty where it has no such file

    Raises RuntimeFailed where the image does not know the name.
    """
    if wanted:
        return numbers(wanted, read)
    own = numbers(image, read) if image else (0, 0)
    return own if own[0] else (otherwise, otherwise)


def numbers(user: str, read: Callable[[str], str]) -> Owner:
    """The numbers of `user`, or of `user:group`; a number that the image does not know has a group of that number.

    Source: docker-run(1), `--user`. There the group of an unknown number would be root.
    """
    name, _, group = user.partition(":")
    if name in ROOT and group in ("", *ROOT):
        return 0, 0
    if name.isdecimal() and group.isdecimal():
        return int(name), int(group)
    known = entry_of(name, read(PASSWD), 2)
    if known is None and not name.isdecimal():
        raise RuntimeFailed(
            f"the image knows no user {name} (in its {PASSWD}); write the number of one as fastapi_app_user"
        )
    uid = int(known[2] if known else name)
    if not group:
        return uid, int(known[3]) if known else uid
    found = None if group.isdecimal() else entry_of(group, read(GROUP), 2)
    if found is None and not group.isdecimal():
        raise RuntimeFailed(f"the image knows no group {group} (in its {GROUP}); write its number in fastapi_app_user")
    return uid, int(found[2] if found else group)


def entry_of(name: str, text: str, number: int) -> Optional[list[str]]:
    """The entry of a name, or of a number in the field `number`, of passwd(5) or group(5); None where there is none."""
    return next((entry for entry in entries(text) if name in (entry[0], entry[number])), None)


def entries(text: str) -> Iterator[list[str]]:
    for line in text.splitlines():
        fields = line.split(":")
        if len(fields) >= 4 and fields[2].isdecimal() and (len(fields) == 4 or fields[3].isdecimal()):
            yield fields
