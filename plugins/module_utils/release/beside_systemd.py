"""Processes of a release under systemd: a unit `slipway-<app>@p<group>-<name>-<number>.service` for each.

Its text is that of the release's own unit with another command, so whatever its web process gets it gets, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..host.durable import sync_directory, write_durably
from .beside import Instance, Process, processes_of
from .launch import launcher_in
from .runtime import RuntimeFailed
from .words import unit_assignment, unit_word

if TYPE_CHECKING:
    from .systemd import Systemd

_DESCRIBED = re.compile(r"\brelease (\S+) \((\w+)\)")
_PROPERTIES = (
    *("Description", "ActiveState", "NRestarts", "Result", "ExecMainCode", "ExecMainStatus"),
    *("ExecMainStartTimestamp", "InvocationID", "ControlGroup", "UnitFileState"),
)
# One that ends still runs, and one that is started again may not yet.
_RUNNING = ("active", "reloading", "refreshing", "deactivating")
_GONE = ("inactive", "failed")


class SystemdBeside:
    """Starts, ends and looks at the processes of one app through systemctl and journalctl."""

    def __init__(self, systemd: Systemd) -> None:
        self.systemd = systemd
        self._file = re.compile(rf"slipway-{re.escape(systemd.app)}@p(\d+)-(.+)-\d+\.service")

    def instances(self) -> list[Instance]:
        """Those whose units were written, in one call to systemd."""
        units = sorted(path.name for path in self.systemd.units.glob(f"slipway-{self.systemd.app}@p*.service"))
        units = [unit for unit in units if self._file.fullmatch(unit)]
        if not units:
            return []
        return [self._instance(unit, values) for unit, values in zip(units, self.systemd._shown(_PROPERTIES, units))]

    def start(self, slot: str, release: str, group: int, replicas: Mapping[str, int]) -> None:
        """Write, enable and start so many units of each. Raises RuntimeFailed with what stood in the way."""
        text = self.systemd.text_for(release, slot)
        declared = processes_of(self.systemd.releases, release)
        units = []
        for name, number in replicas.items():
            logged_as = f"{self.systemd.app}-{name}"
            of_process = text + dropped_in(name, declared[name], release, slot, logged_as, launcher_in(text))
            for count in range(1, number + 1):
                units.append(unit := f"slipway-{self.systemd.app}@p{group}-{name}-{count}.service")
                path = self.systemd.units / unit
                if not path.is_file() or path.read_text(encoding="utf-8") != of_process:
                    write_durably(path, of_process)
        self.systemd._systemctl("daemon-reload")
        self.systemd._systemctl("enable", "--quiet", *units)
        result = self.systemd._systemctl("start", *units, timeout=120, check=False)
        if result.returncode:
            since = int((self.systemd.units / units[0]).stat().st_mtime)
            said = next((words for unit in units if (words := self.systemd._why(unit, since))), "")
            raise RuntimeFailed(said or result.said)

    def end(self, instances: Sequence[Instance]) -> None:
        """Have systemd end them, each with its TimeoutStopSec=, and not start them at a boot."""
        if not instances:
            return
        units = [one.id for one in instances]
        self.systemd._systemctl("stop", "--no-block", *units)
        # Only after they are told: one that this marks as ending was.
        self.systemd._systemctl("disable", "--quiet", *units)

    def kill(self, instances: Sequence[Instance]) -> None:
        """Kill all that is in their units."""
        if instances:
            self.systemd._systemctl("kill", "--signal=SIGKILL", *(one.id for one in instances), check=False)

    def forget(self, instances: Sequence[Instance]) -> None:
        """Remove their units."""
        if not instances:
            return
        units = [one.id for one in instances]
        self.systemd._systemctl("disable", "--quiet", *units, check=False)
        for unit in units:
            (self.systemd.units / unit).unlink(missing_ok=True)
        sync_directory(self.systemd.units)
        self.systemd._systemctl("daemon-reload")
        self.systemd._systemctl("reset-failed", *units, check=False)

    def logs(self, instance: Instance, lines: int) -> str:
        """The last lines of its own since it was started; those of systemd about it come after what it ended with."""
        since = int((self.systemd.units / instance.id).stat().st_mtime)
        return self.systemd._checked(
            *("journalctl", "--quiet", "--no-pager", "--output=cat", f"--lines={lines}"),
            *(f"--since=@{since}", f"_SYSTEMD_UNIT={instance.id}"),
        )

    def _instance(self, unit: str, values: dict[str, str]) -> Instance:
        status = self.systemd._status(values)
        described = _DESCRIBED.search(values.get("Description", ""))
        named = self._file.fullmatch(unit)
        state = values.get("ActiveState", "")
        return Instance(
            id=unit,
            name=named[2] if named else "",
            slot=described[2] if described else "",
            release=described[1] if described else "",
            group=int(named[1]) if named else 0,
            running=state in _RUNNING,
            ending=values.get("UnitFileState") == "disabled",
            gone=state in _GONE,
            restarts=status.restarts,
            exit_code=status.exit_code,
            out_of_memory=status.out_of_memory,
        )


def dropped_in(name: str, process: Process, release: str, slot: str, logged_as: str, launcher: str = "") -> str:
    """What makes the unit of a process out of that of its release.

    Its lines are in the journal as `logged_as`; `launcher` is what its command begins with.
    """
    return "\n".join(
        (
            "",
            f"# What is another one for the process {name}.",
            "[Unit]",
            f"Description={name} of release {release} ({slot})",
            "[Service]",
            "ExecStart=",
            f"ExecStart={launcher}{' '.join(map(unit_word, process.command))}",
            f"TimeoutStopSec={process.stop_grace:g}",
            f"MemoryMax={process.memory_mib}M",
            f"CPUQuota={int(process.cpus * 100)}%",
            f"SyslogIdentifier={logged_as}",
            f"Environment={unit_assignment('RELEASE_PROCESS', name)}",
            *(f"Environment={unit_assignment(key, value)}" for key, value in process.environment.items()),
            "",
        )
    )
