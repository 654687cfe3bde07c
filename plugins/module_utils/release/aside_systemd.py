"""How a release is started aside under systemd: its own unit and its sandbox, in another network and other directories.

Of /run it sees nothing but what is bound there for it, so no socket of a live server, of D-Bus or of Docker is reached.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..host.command import Ran
from .doors import port_of
from .model import Gate, Probe
from .probe import get_port
from .runtime import RuntimeFailed
from .stage import SLOT, Mounts, Stage, Unfit, within
from .systemd import Systemd, parse_properties

# Seconds for systemd's own work.
LIMIT = 120.0
_BINDS = re.compile(r"^(BindPaths|BindReadOnlyPaths)=(\S.*)$")
# Directives of fastapi_app_hardening through which it would come to what is live.
_LEADS_OUT = re.compile(
    r"^(ReadWritePaths|(?:State|Cache|Logs|Configuration|Runtime)Directory|Root\w+|MountImages|JoinsNamespaceOf)=\s*\S",
    re.MULTILINE,
)
_LEFT_OUT = re.compile(r"^(?:RequiresMountsFor|WantedBy)=")
_MEMORY = re.compile(r"^MemoryMax=(\d+)M$", re.MULTILINE)
_AT_WORK = ("active", "reloading", "refreshing", "activating")


class Units:
    """One release of an app at a time."""

    MADE_OF = "package"

    def __init__(self, systemd: Systemd, stage: Stage, run: Callable[..., Ran]) -> None:
        self._systemd, self._stage, self._run = systemd, stage, run
        self._unit = systemd.unit(SLOT)
        self._path = systemd.transient / self._unit
        self._text = ""
        self._since = 0.0

    def make(self, release: str, mounts: Mounts, limit: float) -> int:
        """Make the text of its unit; returns the bytes of memory that it may take. Raises RuntimeFailed and Unfit."""
        if self._stage.lacks or not os.path.exists(self._stage.namespace):
            raise Unfit(self._stage.lacks or "this host has no network in which a unit could be started aside")
        text = self._systemd.text_for(release, SLOT, port_of(self._systemd.releases, release))
        if found := _LEADS_OUT.search(text):
            raise Unfit(f"the unit of release {release} has {found[1]}=, through which it would come to what is live")
        self._text = aside(text, mounts, self._stage, limit)
        memory = _MEMORY.search(text)
        return int(memory[1]) << 20 if memory else 0

    def start(self) -> None:
        """Raises RuntimeFailed."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(self._text, encoding="utf-8")
        self._since = time.time()
        self._done("systemctl", "daemon-reload")
        self._done("systemctl", "start", self._unit)

    def run(self, words: Sequence[str], timeout: float) -> Ran:
        return self._systemd.run_unit(self._unit, self._text, list(words), timeout)

    def get(self, port: int, path: str, gate: Gate) -> Probe:
        """Ask it where it listens. Raises OSError."""
        return within(self._stage.namespace, lambda: get_port(f"127.0.0.1:{port}", port, path, gate.timeout, gate))

    def lost(self, _: str) -> str:
        """Units come to the database by every way of the host's, or are not made."""
        return ""

    def runs(self) -> bool:
        shown = parse_properties(self._done("systemctl", "show", "--property=ActiveState", self._unit))
        return shown.get("ActiveState") in _AT_WORK

    def log(self, lines: int) -> str:
        self._done("journalctl", "--sync")
        since = (f"--lines={lines}", f"--unit={self._unit}", f"--since=@{self._since:.6f}")
        return self._done("journalctl", "--quiet", "--no-pager", "--output=cat", *since)

    def remove(self) -> None:
        """Raises SlipwayError."""
        drop_ins = Path(f"{self._path}.d")  # of a command that was killed
        if not self._path.exists() and not drop_ins.exists():
            return
        self._done("systemctl", "stop", self._unit)
        self._path.unlink(missing_ok=True)
        shutil.rmtree(drop_ins, ignore_errors=True)
        self._done("systemctl", "daemon-reload")
        self._run(["systemctl", "reset-failed", self._unit], LIMIT)  # it did not fail, and is not known

    def _done(self, *words: str) -> str:
        ran = self._run(list(words), LIMIT)
        if ran.returncode:
            raise RuntimeFailed(ran.said)
        return ran.stdout


def aside(text: str, mounts: Mounts, stage: Stage, limit: float) -> str:
    """The text of a unit as it is started aside: once, for so many seconds at most, and on that stage alone.

    `mounts` names what is mounted in place of a directory of the host.
    """
    lines = []
    for line in text.splitlines():
        if found := _BINDS.match(line):
            lines += [f"{found[1]}={_instead(word, mounts)}" for word in found[2].split()]
        elif not _LEFT_OUT.match(line):
            lines.append(line)
    alone = (
        *("[Unit]", "StartLimitIntervalSec=0", "[Service]", "Restart=no", f"RuntimeMaxSec={limit:.0f}"),
        f"NetworkNamespacePath={stage.namespace}",
        *("ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "TemporaryFileSystem=/run:ro"),
        *(f"BindPaths={own}:{live}" for live, own in stage.sockets.items()),
        # What serves goes first.
        *("CPUWeight=10", "IOWeight=10", "Nice=19"),
    )
    return "\n".join([*lines, *alone, ""])


def _instead(word: str, mounts: Mounts) -> str:
    """A word of BindPaths=, [-]SOURCE[:TARGET[:OPTIONS]], with what is mounted in place of its source."""
    optional, words = word[:1] == "-", word.lstrip("-").split(":", 1)
    source, target = words[0], words[-1]
    return f"{'-' if optional else ''}{mounts(source)}:{target}"
