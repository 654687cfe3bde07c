"""The timers of an app on a host: one for each job of the release that serves, on the one host that jobs run on.

What serves decides which there are, as for processes; whoever ends a transaction sees to them (`follow`). A timer knows
no release: what it starts (timed.py) looks which one serves when it is due.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Optional

from ..host.command import Ran
from ..host.durable import sync_directory, write_durably
from .jobs import SCHEDULED, Job, jobs_of
from .runtime import RuntimeFailed
from .store import Store
from .systemctl import Execute, text_of
from .systemctl import execute as run_command
from .words import unit_word

# The program that timers start, in the directory of the app, and what runs it: the same name whoever looks, with
# whichever Python of the host, and after an upgrade of the distribution.
PROGRAM = "jobs.pyz"
PYTHON = Path("/usr/bin/python3")
_PROPERTIES = "ActiveState,UnitFileState,NeedDaemonReload,NextElapseUSecRealtime"
_START = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from ansible_collections.slipway.fleet.plugins.module_utils.release.timed import main; main(*sys.argv[2:])"
)


class Timers:
    """Those of one app. `here` says whether this is the host of the fleet that jobs run on, `host` is its name.

    What changes something may raise RuntimeFailed, Damaged and OSError, and may be called again after a crash.
    """

    def __init__(
        self,
        app: str,
        store: Store,
        here: bool = True,
        host: str = "",
        execute: Optional[Execute] = None,
        units: Path = Path("/etc/systemd/system"),
        stamps: Path = Path("/var/lib/systemd/timers"),
        packed: Optional[Callable[[], bytes]] = None,
    ) -> None:
        self.app = app
        self.store = store
        self.here = here
        self.host = host
        self.execute = execute or run_command
        self.units = units
        self.stamps = stamps
        self.packed = packed or _packed
        self._file = re.compile(rf"slipway-{re.escape(app)}@job-(.+)\.(?:timer|service)")

    def names(self) -> list[str]:
        """The jobs of which this host has units."""
        found = (self._file.fullmatch(path.name) for path in self.units.glob(f"slipway-{self.app}@job-*"))
        return sorted({match[1] for match in found if match})

    @property
    def none(self) -> bool:
        """Whether no release on this host has a job, and nothing is left of one: there is nothing to ask."""
        known = (self.store.jobs_at() or {}).get("host")
        return not self.names() and not known and not any(self.store.releases.glob(f"*/{SCHEDULED}"))

    def wanted(self, release: Optional[str]) -> dict[str, Job]:
        """The jobs that this host is to have timers of while a release serves. Raises Damaged and OSError."""
        return jobs_of(self.store.releases, release) if release and self.here else {}

    def follow(self, release: Optional[str], now: float) -> bool:
        """Have the timers of the release that serves, and no others; returns whether it was otherwise.

        `now` is in seconds since the epoch, for the record of where jobs run.
        """
        declared = jobs_of(self.store.releases, release) if release else {}
        wanted = declared if self.here else {}
        if declared or self.store.jobs_at():
            self.store.note_jobs(self.host if declared else "", now)
        gone = [name for name in self.names() if name not in wanted]
        if gone:
            self._remove(gone)
        return self._have(wanted) or bool(gone)

    def remove(self) -> bool:
        """Have no timers, whatever serves; what they started runs on. Returns whether there were any."""
        names = self.names()
        if names:
            self._remove(names)
        return bool(names)

    def stop(self) -> None:
        """Let timers start nothing more, and end what they started."""
        if names := self.names():
            self._systemctl("stop", *(self._unit(name, "timer") for name in names))
            self._systemctl("stop", *(self._unit(name, "service") for name in names), timeout=120)

    def drift(self, release: Optional[str]) -> list[str]:
        """A sentence for each difference from what should be."""
        wanted, there = self.wanted(release), self.names()
        states = self._states(wanted)
        return [
            *(
                f"the timer of the job {name} does not run; deploy again"
                for name, job in wanted.items()
                if self._differs(name, job, states[name])
            ),
            *(
                f"the job {name} has a timer here"
                + ("" if self.here else f", and jobs run on {self.host}")
                + "; deploy again"
                for name in there
                if name not in wanted
            ),
        ]

    def next(self, names: Mapping[str, Job]) -> dict[str, str]:
        """When each is due next, in systemd's words; empty where that is not known."""
        states = self._states(names)
        return {name: _known(states[name].get("NextElapseUSecRealtime", "")) for name in names}

    def _have(self, wanted: Mapping[str, Job]) -> bool:
        changed = bool(wanted) and self._have_program()
        states = self._states(wanted)
        due = [name for name, job in wanted.items() if self._differs(name, job, states[name])]
        if not due:
            return changed
        # What was due by another schedule is not to be made up for.
        anew = [name for name in due if text_of(self._path(name, "timer")) != self._timer(name, wanted[name])]
        stop = [self._unit(name, "timer") for name in anew if self._path(name, "timer").is_file()]
        if stop:
            self._systemctl("stop", *stop)
        for name in anew:
            self._stamp(name).unlink(missing_ok=True)
        for name in due:
            for kind, text in (("service", self._service(name)), ("timer", self._timer(name, wanted[name]))):
                if text_of(self._path(name, kind)) != text:
                    write_durably(self._path(name, kind), text)
        self._systemctl("daemon-reload")
        timers = [self._unit(name, "timer") for name in due]
        self._systemctl("enable", "--quiet", *timers)
        self._systemctl("start", *timers)
        return True

    def _remove(self, names: list[str]) -> None:
        timers = [self._unit(name, "timer") for name in names]
        self._systemctl("disable", "--quiet", "--now", *timers, check=False)
        for name in names:
            # The timer last: with it goes the name by which the rest is found.
            for path in (self._path(name, "service"), self._stamp(name), self._path(name, "timer")):
                path.unlink(missing_ok=True)
        sync_directory(self.units)
        self._systemctl("daemon-reload")
        self._systemctl("reset-failed", *(self._unit(name, "service") for name in names), check=False)

    def _have_program(self) -> bool:
        path, data = self.store.root / PROGRAM, self.packed()
        if path.is_file() and path.read_bytes() == data:
            return False
        write_durably(path, data, mode=0o600)
        return True

    def _differs(self, name: str, job: Job, state: Mapping[str, str]) -> bool:
        return (
            (state.get("ActiveState"), state.get("UnitFileState")) != ("active", "enabled")
            or state.get("NeedDaemonReload") == "yes"
            or not (self.store.root / PROGRAM).is_file()
            or text_of(self._path(name, "service")) != self._service(name)
            or text_of(self._path(name, "timer")) != self._timer(name, job)
        )

    def _states(self, names: Mapping[str, Job]) -> dict[str, dict[str, str]]:
        """What systemd says of their timers, in one call."""
        if not names:
            return {}
        units = (self._unit(name, "timer") for name in names)
        shown = self._systemctl("show", f"--property={_PROPERTIES}", *units).stdout
        blocks = (block.splitlines() for block in shown.strip().split("\n\n"))
        states = [{key: value for key, _, value in (line.partition("=") for line in block)} for block in blocks]
        return dict(zip(names, states))

    def _unit(self, name: str, kind: str) -> str:
        return f"slipway-{self.app}@job-{name}.{kind}"

    def _path(self, name: str, kind: str) -> Path:
        return self.units / self._unit(name, kind)

    def _stamp(self, name: str) -> Path:
        """Where systemd remembers when a timer elapsed last, for one that was due while the host was off."""
        return self.stamps / f"stamp-{self._unit(name, 'timer')}"

    def _service(self, name: str) -> str:
        words = [
            str(PYTHON) if PYTHON.is_file() else sys.executable,
            "-I",
            "-c",
            _START,
            str(self.store.root / PROGRAM),
            self.app,
            str(self.store.root),
            name,
        ]
        return "\n".join(
            (
                "# Written by Slipway when a release serves that has this job.",
                "[Unit]",
                f"Description=Job {name} of {self.app}, in the release that serves",
                "After=docker.service network-online.target",
                "[Service]",
                # A timer does not start again what has not ended.
                "Type=oneshot",
                "TimeoutStartSec=infinity",
                f"ExecStart={' '.join(map(unit_word, words))}",
                "Environment=HOME=/root LANG=C.UTF-8 LC_ALL=C.UTF-8",
                "UMask=0077",
                # SIGTERM is for the program, which ends what it runs.
                "KillMode=mixed",
                "",
            )
        )

    def _timer(self, name: str, job: Job) -> str:
        return "\n".join(
            (
                "# Written by Slipway when a release serves that has this job.",
                "[Unit]",
                f"Description=When job {name} of {self.app} begins",
                "[Timer]",
                f"OnCalendar={job.schedule}",
                "AccuracySec=1s",
                "# One that was due while the host was off begins after its boot.",
                "Persistent=true",
                "[Install]",
                "WantedBy=timers.target",
                "",
            )
        )

    def _systemctl(self, *arguments: str, timeout: float = 60, check: bool = True) -> Ran:
        result = self.execute(["systemctl", *arguments], timeout)
        if check and result.returncode:
            raise RuntimeFailed(f"`systemctl {' '.join(arguments[:2])}`: {result.said}")
        return result


def _packed() -> bytes:
    """The file that this process runs from. Raises RuntimeFailed where it is none, as in a module of Ansible's."""
    archive = next((path for path in Path(__file__).parents if path.is_file()), None)
    if archive is None:
        raise RuntimeFailed("timers are made by the agent; run slipway.fleet.deploy")
    # The agent is kept as it was sent and as this Python compiled it, which another Python could not read.
    sent = archive.with_name(f"{archive.name.split('.')[0]}.pyz")
    return (sent if sent.is_file() else archive).read_bytes()


def _known(moment: str) -> str:
    return "" if moment in ("n/a", "0", "infinity") else moment
