"""The directory of a slot: it has the slot's socket in it, and is all of the host that the slot can write to.

What runs in a slot is not trusted: it owns that directory, since bind(2) needs to write there, and may leave anything
in it. So root makes it anew before each start, and follows nothing that it finds there.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Optional

from ..host.command import CommandError, run
from ..host.durable import write_durably
from .model import SLOTS
from .runtime import RuntimeFailed
from .users import Owner

SOCKET = "app.sock"
# Where one-off commands have the directory of a slot; nothing can be written there.
ONEOFF = "oneoff"
DIRECTORY_MODE = 0o750


def socket_of(sockets: Path, slot: str) -> Path:
    """Where `slot` listens. A release from before slots had directories of their own listens beside them."""
    own, before = sockets / slot / SOCKET, sockets / f"{slot}.sock"
    return before if not os.path.lexists(own) and os.path.lexists(before) else own


class SlotDirectories:
    """The directories of the slots of one app, below the directory whose owner and group they get."""

    def __init__(self, sockets: Path, boot: Path = Path("/etc/tmpfiles.d")) -> None:
        self.sockets = sockets
        self.boot = boot / f"slipway-{sockets.name}-slots.conf"

    def renew(self, slot: str, owner: Optional[Owner] = None) -> None:
        """Have an empty directory for `slot`, now, and for both slots at every boot. Raises RuntimeFailed.

        It belongs to the `owner` of what is started there, and without one to whom the directory above belongs.
        """
        try:
            above = self.sockets.lstat()
            owners = {}
            for name in SLOTS:
                owners[name] = self._owner_of(name, above.st_uid)
                if name == slot:
                    owners[name] = owner[0] if owner else above.st_uid
                    _remove(self.sockets / name)
                    _remove(self.sockets / f"{name}.sock")  # of a release from before
                _make(self.sockets / name, owners[name], above.st_gid)
            self._make_at_boot(owners, above.st_gid)
        except (OSError, CommandError) as error:
            raise RuntimeFailed(
                f"the directory of slot {slot} in {self.sockets} cannot be made anew: {error}"
            ) from error

    def _owner_of(self, slot: str, otherwise: int) -> int:
        """Whom the directory of a slot belongs to; it cannot give that away."""
        try:
            found = (self.sockets / slot).lstat()
        except FileNotFoundError:
            return otherwise
        return found.st_uid if stat.S_ISDIR(found.st_mode) else otherwise

    def have_aside(self, name: str, owner: Optional[Owner]) -> None:
        """Have an empty directory of that name for what is started beside the slots. Raises RuntimeFailed."""
        try:
            above = self.sockets.lstat()
            _remove(self.sockets / name)
            _make(self.sockets / name, owner[0] if owner else above.st_uid, above.st_gid)
        except (OSError, CommandError) as error:
            raise RuntimeFailed(f"{self.sockets / name} cannot be made: {error}; deploy again") from error

    def drop_aside(self, name: str) -> None:
        """Have no such directory any more, as far as that can be had."""
        with suppress(OSError, CommandError):
            _remove(self.sockets / name)

    def have_oneoff(self) -> None:
        """Have the directory that a one-off command sees in place of a slot's. Raises RuntimeFailed."""
        try:
            (self.sockets / ONEOFF).mkdir(mode=0o755, exist_ok=True)
        except OSError as error:
            raise RuntimeFailed(f"{self.sockets / ONEOFF} cannot be made: {error}; deploy again") from error

    def _make_at_boot(self, owners: Mapping[str, int], gid: int) -> None:
        lines = [f"d {self.sockets / slot} {DIRECTORY_MODE:04o} {owners[slot]} {gid} -" for slot in SLOTS]
        text = "\n".join(("# Written when a slot is started. What /run has is gone after a reboot.", *lines, ""))
        if not self.boot.is_file() or self.boot.read_text(encoding="utf-8") != text:
            write_durably(self.boot, text)


def in_own_directory(text: str, sockets: Path, slot: str) -> str:
    """What was rendered for a release, a Compose file or a unit, as it is rendered since slots have directories.

    `slot` is what stands in the text in place of the slot's name. A newer text is returned as it is. Without this no
    host could go back to what it served before the first deploy by a version that knows the directories.
    """
    own = f"{sockets}/{slot}"
    return (
        text.replace(f"{own}.sock", f"{own}/{SOCKET}")
        .replace(f"source: {sockets}, target: {sockets}}}", f"source: {own}, target: {own}}}")
        .replace(f"\nReadWritePaths={sockets}\n", f"\nTemporaryFileSystem={sockets.parent}:ro\nBindPaths=-{own}\n")
    )


def _make(path: Path, uid: int, gid: int) -> None:
    """A directory with exactly this owner, group and mode, whatever its owner made of it."""
    path.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        now = os.fstat(descriptor)
        if (now.st_uid, now.st_gid) != (uid, gid):
            os.fchown(descriptor, uid, gid)
        if stat.S_IMODE(now.st_mode) != DIRECTORY_MODE:
            os.fchmod(descriptor, DIRECTORY_MODE)
    finally:
        os.close(descriptor)


# Seconds for removing what an app left in its directory.
LIMIT = 300.0


def _remove(path: Path) -> None:
    """Whatever has this name. `rm` follows no link, and takes directories that are nested too deep for Python."""
    if os.path.lexists(path):
        command = ["rm", "--recursive", "--force", "--one-file-system", "--", str(path)]
        if (ran := run(command, LIMIT)).returncode:
            raise OSError(f"{path} cannot be removed: {ran.said}")
