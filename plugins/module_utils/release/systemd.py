"""The systemd runtime of a slot: one unit `slipway-<app>@<slot>.service`, with the text that its release brings.

A release is staged with the whole text of its unit, so an old release comes back with the limits and the hardening that
it had. Starting it writes that text below /etc/systemd/system and enables the unit: after a reboot systemd starts the
same release in the same slot, and nobody has to remember it.
"""

from __future__ import annotations

import grp
import itertools
import pwd
import re
import shutil
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from ..host.command import Ran
from ..host.durable import sync_directory, write_durably
from ..package.packages import Packages
from .beside_systemd import SystemdBeside
from .launch import launcher_in
from .listening import open_ports, parse_listening, sockets_of, tables_of
from .model import SLOTS, SlotStatus
from .runtime import STAGED_BY, RuntimeFailed
from .slots import in_own_directory
from .systemctl import Execute, text_of
from .systemctl import execute as run_command
from .users import Owner
from .words import unit_word

UNIT = STAGED_BY["systemd"]
USERS = "sysusers.conf"
# What the text of a unit says in place of the release, of the slot and of its port.
RELEASE_MARK, SLOT_MARK, PORT_MARK = "@RELEASE@", "@SLOT@", "@PORT@"

# Where a unit has its package.
HOME = "/srv"

_CREDENTIAL = re.compile(r"^LoadCredential=([^:\n]+):(.+)$", re.MULTILINE)
_DESCRIBED = re.compile(r"\brelease (\S+)")
_PACKAGE = re.compile(r"/packages/([0-9a-f]+)\b")
_USER = re.compile(r"^u (\S+) (\d+)\b", re.MULTILINE)
_OWNER = re.compile(r"^User=(\d+)\nGroup=(\d+)$", re.MULTILINE)
_PROPERTIES = (
    *("Description", "ActiveState", "NRestarts", "Result", "ExecMainCode", "ExecMainStatus"),
    *("ExecMainStartTimestamp", "InvocationID", "ControlGroup"),
)
_RUNNING = ("active", "reloading", "refreshing")
# Of a one-off whose output is endless.
JOURNAL_LINES = 200
_EXITED = "1"  # CLD_EXITED; the others are ways to be killed


class Systemd:
    """Starts, stops and looks at the slots of one app through systemctl and journalctl."""

    def __init__(
        self,
        app: str,
        releases: Path,
        sockets: Path,
        execute: Optional[Execute] = None,
        units: Path = Path("/etc/systemd/system"),
        transient: Path = Path("/run/systemd/system"),
        control_groups: Path = Path("/sys/fs/cgroup"),
        ports: Optional[Mapping[str, int]] = None,
    ) -> None:
        self.app = app
        self.releases = releases
        self.sockets = sockets
        self.execute = execute or run_command
        self.units = units
        self.transient = transient
        self.control_groups = control_groups
        self.ports = ports or {}
        self.beside = SystemdBeside(self)

    def unit(self, slot: str) -> str:
        return f"slipway-{self.app}@{slot}.service"

    def start(self, slot: str, release: str) -> None:
        """Start `release` in `slot`, now and at every boot. Raises RuntimeFailed with what stood in the way.

        That it is ready is for the transaction to find out: systemd knows only that the process was started.
        """
        unit = self.unit(slot)
        text = self.text_for(release, slot)
        if text_of(self.units / unit) != text:  # one that is there is started on a full disk, too
            write_durably(self.units / unit, text)
        self._systemctl("daemon-reload")
        self._systemctl("reset-failed", unit, check=False)
        self._systemctl("enable", "--quiet", unit)
        result = self._systemctl("start", unit, timeout=120, check=False)
        if result.returncode:
            raise RuntimeFailed(self._why(unit, self._since(slot)) or result.said)

    def stop(self, slot: str, grace: float) -> None:
        """Stop `slot` and forget its unit: SIGTERM, the unit's TimeoutStopSec=, SIGKILL. Nothing to do is fine."""
        unit = self.unit(slot)
        if not (self.units / unit).is_file() and not self.status()[slot].running:
            return
        self._systemctl("stop", unit, timeout=grace + 60)
        self._systemctl("disable", "--quiet", unit, check=False)
        (self.units / unit).unlink(missing_ok=True)
        sync_directory(self.units)
        self._systemctl("daemon-reload")
        self._systemctl("reset-failed", unit, check=False)

    def status(self) -> dict[str, SlotStatus]:
        """Both slots, in one call to systemd."""
        blocks = self._shown(_PROPERTIES, list(map(self.unit, SLOTS)))
        return {slot: self._status(values) for slot, values in zip(SLOTS, blocks)}

    def _shown(self, properties: Sequence[str], units: Sequence[str]) -> list[dict[str, str]]:
        """These properties of each unit, in one call to systemd."""
        shown = self._systemctl("show", f"--property={','.join(properties)}", *units).stdout
        return [parse_properties(block) for block in shown.strip().split("\n\n")]

    def logs(self, slot: str, lines: int) -> str:
        """The last lines since the slot was started with what it has now, those of systemd about it included."""
        if not (self.units / self.unit(slot)).is_file():
            return ""
        return self._checked(
            *("journalctl", "--quiet", "--no-pager", "--output=cat", f"--lines={lines}"),
            *(f"--unit={self.unit(slot)}", f"--since=@{self._since(slot)}"),
        )

    def listening(self, slot: str) -> list[str]:
        """Addresses on which the slot's processes listen, for the diagnosis of a slot that never answered."""
        shown = self._systemctl("show", "--property=ControlGroup", self.unit(slot)).stdout
        group = parse_properties(shown).get("ControlGroup")
        return sorted({address for process in self._processes(group) for address in _listening_of(process)})

    def past_edge(self, slot: str) -> list[str]:
        return open_ports(self.listening(slot))

    def discard(self, releases: list[str]) -> None:
        """Remove the packages that only `releases` name, and the wheels that no package needs any more."""
        others = {path.name for path in self.releases.iterdir()} - set(releases)
        wanted = {self.package_of(release) for release in others}
        unwanted = {self.package_of(release) for release in releases} - wanted
        Packages(self.releases.parent).remove([package for package in unwanted if package])

    def package_of(self, release: str) -> Optional[str]:
        """The package that a staged release runs from."""
        path = self.releases / release / UNIT
        found = _PACKAGE.search(path.read_text(encoding="utf-8")) if path.is_file() else None
        return found.group(1) if found else None

    def run(self, release: str, command: list[str], timeout: float, name: str, together: bool = False) -> Ran:
        """Run a one-off command in `release`, with its user, environment, secrets, hardening and limits.

        The command is the release's own unit with another ExecStart=, started once, so that nothing it gets can
        differ from what a slot gets. systemd ends it at its limit; one of the same name that was left by a runner which
        is gone is waited for as long, and stopped then.

        With `together` it prints to the journal, which may get any number of lines, and the last of them are returned.
        """
        slot = f"oneoff-{name}"
        return self.run_unit(self.unit(slot), self.text_for(release, slot), command, timeout, together)

    def run_unit(self, unit: str, text: str, command: list[str], timeout: float, together: bool = False) -> Ran:
        """Run a one-off command as a unit of that name, in all that its text says."""
        self._end(unit, timeout)
        since = time.time()
        output = Path(tempfile.mkdtemp(prefix="slipway-oneoff-", dir=self.transient.parent))
        drop_in = self.transient / f"{unit}.d"
        try:
            drop_in.mkdir(parents=True, exist_ok=True)
            (self.transient / unit).write_text(text, encoding="utf-8")
            words = once(command, timeout, None if together else output, launcher_in(text))
            (drop_in / "oneoff.conf").write_text(words, encoding="utf-8")
            self._systemctl("daemon-reload")
            started = self._systemctl("start", unit, timeout=timeout + 60, check=False)
            values = parse_properties(self._systemctl("show", f"--property={','.join(_PROPERTIES)}", unit).stdout)
            code = self._status(values).exit_code
            said, complained = (text_of(output / name) for name in ("stdout", "stderr"))
            if together:
                said = self._journal(unit, since)
            if started.returncode and not code:  # it never came to the command
                code, complained = 1, complained + (self._why(unit, int(since)) or started.said)
            timed_out = values.get("Result") == "timeout" or started.timed_out
            return Ran(tuple(command), code or 0, said, complained, timed_out)
        finally:
            shutil.rmtree(drop_in, ignore_errors=True)
            (self.transient / unit).unlink(missing_ok=True)
            shutil.rmtree(output, ignore_errors=True)
            self._systemctl("stop", unit, check=False)
            self._systemctl("daemon-reload", check=False)
            self._systemctl("reset-failed", unit, check=False)

    def _journal(self, unit: str, since: float) -> str:
        """The last lines that a unit's own processes printed since then (seconds since the epoch)."""
        self.execute(["journalctl", "--sync"], 30)
        return self._checked(
            *("journalctl", "--quiet", "--no-pager", "--output=cat", f"--lines={JOURNAL_LINES}"),
            *(f"--since=@{since:.6f}", f"_SYSTEMD_UNIT={unit}"),
        )

    def _end(self, unit: str, wait: float) -> None:
        """Have no such unit at work: wait `wait` seconds for its end, then stop it."""
        deadline = time.monotonic() + wait
        while True:
            shown = self._systemctl("show", "--property=ActiveState", unit).stdout
            if parse_properties(shown).get("ActiveState") not in (*_RUNNING, "activating", "deactivating"):
                return
            if time.monotonic() >= deadline:
                self._systemctl("stop", unit, timeout=wait + 60)
                return
            time.sleep(1)

    def retire(self, slot: str) -> None:
        """Let `slot` run on, but not come back after a reboot."""
        self._systemctl("disable", "--quiet", self.unit(slot), check=False)

    def owner(self, release: str) -> Optional[Owner]:
        """The user and the group of a release; None where its unit does not say."""
        found = _OWNER.search(text_of(self.releases / release / UNIT))
        return (int(found[1]), int(found[2])) if found else None

    def contents(self, release: str, path: str, to: Path) -> None:
        """Put what the package of a release has in a directory into another one. Raises RuntimeFailed."""
        package = self.package_of(release)
        if package is None or not path.startswith(f"{HOME}/"):
            return
        brought = self.releases.parent / "packages" / package / path.lstrip("/")
        if brought.is_dir():
            self._checked("cp", "--archive", "--no-target-directory", str(brought), str(to))
        elif brought.exists():
            raise RuntimeFailed(f"{path} is a file in the package, and a directory is wanted")

    def there(self, releases: list[str]) -> list[str]:
        """Those of `releases` whose package this host has."""
        packages = {release: package for release in releases if (package := self.package_of(release))}
        directory = self.releases.parent / "packages"
        return [release for release, package in packages.items() if (directory / package / "venv").is_dir()]

    def text_for(self, release: str, slot: str, port: Optional[int] = None) -> str:
        """The text of a release's unit, with all that it needs on the host. Raises RuntimeFailed with what is not.

        It listens on the port of its slot, where no other one is given.
        """
        text = self._text(release, slot, self.ports.get(slot, 0) if port is None else port)
        self._require_user(release)
        _require_secrets(text)
        return text

    def _text(self, release: str, slot: str, port: int) -> str:
        path = self.releases / release / UNIT
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise RuntimeFailed(f"release {release} has no {path}; stage it again") from None
        text = in_own_directory(text, self.sockets, SLOT_MARK)
        text = text.replace(RELEASE_MARK, release).replace(SLOT_MARK, slot)
        return text.replace(PORT_MARK, str(port))

    def _require_user(self, release: str) -> None:
        """Have the release's user on the host, by the uid that owns its secrets and its sockets."""
        path = self.releases / release / USERS
        found = _USER.search(path.read_text(encoding="utf-8")) if path.is_file() else None
        if found is None:
            return
        name, uid = found.group(1), int(found.group(2))
        if problem := uid_problem(name, uid):
            raise RuntimeFailed(problem)
        if user_of(uid) is None:
            self._checked("systemd-sysusers", str(path))

    def _status(self, values: dict[str, str]) -> SlotStatus:
        described = _DESCRIBED.search(values.get("Description", ""))
        code, status = values.get("ExecMainCode", "0"), int(values.get("ExecMainStatus") or 0)
        return SlotStatus(
            release=described.group(1) if described else None,
            running=values.get("ActiveState") in _RUNNING,
            restarts=int(values.get("NRestarts") or 0),
            exit_code=None if code == "0" else status if code == _EXITED else 128 + status,
            out_of_memory=values.get("Result") == "oom-kill" or self._killed_for_memory(values.get("ControlGroup")),
            started=values.get("ExecMainStartTimestamp") or None,
            container=values.get("InvocationID") or None,
        )

    def _killed_for_memory(self, group: Optional[str]) -> bool:
        """Whether the kernel killed a process of the unit at its limit, a worker whose master lives on included."""
        for name in ("memory.events", "memory.oom_control"):  # cgroup v2, v1
            for line in self._group_file(group, name).splitlines():
                if line.startswith("oom_kill ") and line.split()[1] != "0":
                    return True
        return False

    def _processes(self, group: Optional[str]) -> list[Path]:
        return [Path("/proc", pid) for pid in self._group_file(group, "cgroup.procs").split()]

    def _group_file(self, group: Optional[str], name: str) -> str:
        """A file of a control group; cgroup v1 keeps a tree for each controller."""
        for tree in ("", "memory", "systemd") if group else ():
            if found := text_of(self.control_groups / tree / str(group).lstrip("/") / name):
                return found
        return ""

    def _since(self, slot: str) -> int:
        """When the slot was started with what it has now, in seconds since the epoch."""
        return int((self.units / self.unit(slot)).stat().st_mtime)

    def _why(self, unit: str, since: int) -> str:
        """The last thing that the unit's own processes said."""
        command = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--lines=1", f"--since=@{since}"]
        result = self.execute([*command, f"_SYSTEMD_UNIT={unit}"], 30)
        return result.stdout.strip() if result.returncode == 0 else ""

    def _systemctl(self, *arguments: str, timeout: float = 60, check: bool = True) -> Ran:
        result = self.execute(["systemctl", *arguments], timeout)
        if check and result.returncode:
            raise RuntimeFailed(f"`systemctl {' '.join(arguments[:2])}`: {result.said}")
        return result

    def _checked(self, *command: str) -> str:
        result = self.execute(list(command), 60)
        if result.returncode:
            raise RuntimeFailed(f"`{command[0]}`: {result.said}")
        return result.stdout


def once(command: list[str], timeout: float, output: Optional[Path], launcher: str = "") -> str:
    """The drop-in that makes one run of a command out of the unit of a release; `launcher` is what it begins with.

    What it prints goes to two files in `output`, without that to the journal.
    """
    streams = {"Output": "stdout", "Error": "stderr"}
    return "\n".join(
        (
            "[Unit]",
            "StartLimitIntervalSec=0",
            "[Service]",
            "Type=oneshot",
            "Restart=no",
            f"TimeoutStartSec={timeout:.0f}",
            "ExecStart=",
            f"ExecStart={launcher}{' '.join(map(unit_word, command))}",
            *(f"Standard{stream}=truncate:{output / name}" for stream, name in streams.items() if output),
            "",
        )
    )


def parse_properties(shown: str) -> dict[str, str]:
    """What `systemctl show` prints about one unit."""
    return {name: value for name, _, value in (line.partition("=") for line in shown.splitlines() if "=" in line)}


def user_of(uid: int) -> Optional[str]:
    """The name that this host has for a uid."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def group_of(gid: int) -> Optional[str]:
    """The name that this host has for a gid."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return None


def uid_problem(name: str, uid: int) -> Optional[str]:
    """That the number of an app's user and group is another one's on this host, and one that is free there.

    None where it can be had. A group of others with that number would be the one that slots run with.
    """
    owners = (("uid", user_of(uid)), ("gid", group_of(uid)))
    taken = [f"{kind} {uid} belongs to {owner}" for kind, owner in owners if owner not in (None, name)]
    if not taken:
        return None
    free = next(number for number in itertools.count(uid + 1) if not (user_of(number) or group_of(number)))
    return (
        f"{taken[0]} on this host, not to {name}; give fastapi_app_uid another number, such as {free}, which is "
        "free on every host of the app"
    )


def _require_secrets(text: str) -> None:
    """Name the secrets whose files are missing; systemd only says that credentials could not be set up."""
    missing = [(name, path) for name, path in _CREDENTIAL.findall(text) if not Path(path).is_file()]
    if missing:
        names = ", ".join(name for name, _ in missing)
        raise RuntimeFailed(f"the secret {names} is missing: there is no {missing[0][1]}; deploy again")


def _listening_of(process: Path) -> list[str]:
    """Where one process listens; its network's tables list the sockets of all, so its own are picked out."""
    return parse_listening(tables_of(process), sockets_of(process))
