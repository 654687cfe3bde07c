"""The systemd adapter and the choice between runtimes, with a systemd in memory."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.release import systemd as systemd_module
from ansible_collections.slipway.fleet.plugins.module_utils.release.launch import by_shell, launcher_in
from ansible_collections.slipway.fleet.plugins.module_utils.release.listening import (
    open_ports,
    parse_listening,
    sockets_of,
)
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import SLOTS, SlotStatus
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtime import RuntimeFailed
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtimes import Runtimes
from ansible_collections.slipway.fleet.plugins.module_utils.release.slots import SlotDirectories
from ansible_collections.slipway.fleet.plugins.module_utils.release.systemd import Systemd, once, parse_properties
from ansible_collections.slipway.fleet.plugins.module_utils.release.volumes import Volumes
from ansible_collections.slipway.fleet.plugins.module_utils.release.words import unit_word

RELEASE = "0123456789ab"
UNIT = """\
[Unit]
Description=links, release @RELEASE@
[Service]
ExecStart=gunicorn --bind unix:/run/slipway/links/@SLOT@/app.sock
BindReadOnlyPaths=/opt/slipway/links/packages/aaaaaaaaaaaa/srv:/srv
LoadCredential=SECRET_KEY:{secrets}/SECRET_KEY
"""


@dataclass
class Manager:
    """What systemctl and journalctl answer, and what they were asked."""

    properties: dict[str, dict[str, str]] = field(default_factory=dict)
    failing: dict[str, str] = field(default_factory=dict)  # the first argument: what it says
    journal: str = ""
    asked: list[list[str]] = field(default_factory=list)

    def __call__(self, command: list[str], timeout: float) -> Ran:
        assert timeout > 0
        self.asked.append(command)
        if command[0] == "journalctl":
            return Ran(tuple(command), 0, self.journal, "")
        if command[1] == "show":
            blocks = [self.properties.get(unit, {"ActiveState": "inactive"}) for unit in command[3:]]
            text = "\n\n".join("\n".join(f"{name}={value}" for name, value in block.items()) for block in blocks)
            return Ran(tuple(command), 0, text + "\n", "")
        said = self.failing.get(command[1], "")
        return Ran(tuple(command), 1 if said else 0, "", said)

    def verbs(self) -> list[str]:
        return [command[1] for command in self.asked if command[0] == "systemctl" and command[1] != "show"]


@pytest.fixture
def manager() -> Manager:
    return Manager()


@pytest.fixture
def systemd(tmp_path: Path, manager: Manager) -> Systemd:
    releases = tmp_path / "links/releases"
    secrets = releases / RELEASE / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "SECRET_KEY").write_text("x")
    (releases / RELEASE / "unit.service").write_text(UNIT.format(secrets=secrets))
    for name in ("etc", "run/system", "cgroup"):
        (tmp_path / name).mkdir(parents=True)
    return Systemd(
        "links",
        releases,
        Path("/run/slipway/links"),
        manager,
        tmp_path / "etc",
        tmp_path / "run/system",
        tmp_path / "cgroup",
    )


def test_a_start_installs_the_unit_of_the_release_for_now_and_for_every_boot(
    systemd: Systemd, manager: Manager
) -> None:
    systemd.start("blue", RELEASE)
    text = (systemd.units / "slipway-links@blue.service").read_text()
    assert f"Description=links, release {RELEASE}\n" in text
    assert "unix:/run/slipway/links/blue/app.sock" in text
    assert "@" not in text
    assert manager.verbs() == ["daemon-reload", "reset-failed", "enable", "start"]


def test_a_start_says_what_the_process_said_last(systemd: Systemd, manager: Manager) -> None:
    manager.failing = {"start": "Job for slipway-links@blue.service failed."}
    manager.journal = "the credential SECRET_KEY did not reach the service\n"
    with pytest.raises(RuntimeFailed, match="the credential SECRET_KEY did not reach the service"):
        systemd.start("blue", RELEASE)
    manager.journal = ""
    with pytest.raises(RuntimeFailed, match="Job for"):
        systemd.start("blue", RELEASE)


def test_a_missing_secret_stops_the_start_by_its_name(systemd: Systemd, manager: Manager) -> None:
    (systemd.releases / RELEASE / "secrets/SECRET_KEY").unlink()
    with pytest.raises(RuntimeFailed, match="the secret SECRET_KEY is missing"):
        systemd.start("blue", RELEASE)
    with pytest.raises(RuntimeFailed, match="the secret SECRET_KEY is missing"):
        systemd.run(RELEASE, ["true"], 5, "the-check")
    assert not manager.asked, "nothing was touched"


def test_a_release_without_a_unit_is_refused(systemd: Systemd) -> None:
    with pytest.raises(RuntimeFailed, match="stage it again"):
        systemd.start("blue", "ffffffffffff")


@pytest.mark.parametrize(
    ("owner", "made"),
    [(None, ["systemd-sysusers"]), ("slipway-links", []), ("somebody", "10001 belongs to somebody .* such as 10002")],
)
def test_the_user_is_made_or_refused(
    owner: str | None, made: list[str] | str, systemd: Systemd, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    (systemd.releases / RELEASE / "sysusers.conf").write_text('# managed\nu slipway-links 10001 "links" / -\n')
    monkeypatch.setattr(systemd_module, "user_of", {10001: owner}.get)
    if isinstance(made, str):
        with pytest.raises(RuntimeFailed, match=made):
            systemd.start("blue", RELEASE)
        return
    systemd.start("blue", RELEASE)
    assert [command[0] for command in manager.asked if command[0] != "systemctl"] == made


def test_a_group_of_others_is_not_what_slots_run_with(
    systemd: Systemd, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    (systemd.releases / RELEASE / "sysusers.conf").write_text('# managed\nu slipway-links 10001 "links" / -\n')
    monkeypatch.setattr(systemd_module, "user_of", {10002: "somebody"}.get)
    monkeypatch.setattr(systemd_module, "group_of", {10001: "team", 10003: "others"}.get)
    with pytest.raises(RuntimeFailed, match=r"^gid 10001 belongs to team .* such as 10004, .* free on every host"):
        systemd.start("blue", RELEASE)
    assert all(command[0] != "systemd-sysusers" for command in manager.asked)
    monkeypatch.setattr(systemd_module, "group_of", {10001: "slipway-links"}.get)
    systemd.start("blue", RELEASE)


def test_a_stop_takes_the_unit_away_and_may_be_repeated(systemd: Systemd, manager: Manager) -> None:
    systemd.start("green", RELEASE)
    manager.asked.clear()
    systemd.stop("green", 45)
    assert manager.verbs() == ["stop", "disable", "daemon-reload", "reset-failed"]
    assert list(systemd.units.iterdir()) == []
    manager.asked.clear()
    systemd.stop("green", 45)
    assert manager.verbs() == []


def test_the_status_of_both_slots_in_one_call(systemd: Systemd, manager: Manager) -> None:
    manager.properties = {
        "slipway-links@blue.service": {
            "Description": f"links, release {RELEASE}",
            "ActiveState": "active",
            "NRestarts": "2",
            "ExecMainCode": "0",
            "ExecMainStatus": "0",
            "InvocationID": "f00",
        },
        "slipway-links@green.service": {
            "Description": "slipway-links@green.service",
            "ActiveState": "failed",
            "Result": "oom-kill",
            "ExecMainCode": "2",
            "ExecMainStatus": "9",
        },
    }
    found = systemd.status()
    assert found["blue"] == SlotStatus(release=RELEASE, running=True, restarts=2, container="f00")
    assert found["green"] == SlotStatus(exit_code=137, out_of_memory=True)
    assert len(manager.asked) == 1


@pytest.mark.parametrize("place", ["memory.events", "memory/{}/memory.oom_control"])
def test_a_worker_killed_for_memory_is_seen_in_either_kind_of_control_group(
    place: str, systemd: Systemd, manager: Manager
) -> None:
    group = "system.slice/links"
    path = systemd.control_groups / (place.format(group) if "{}" in place else f"{group}/{place}")
    path.parent.mkdir(parents=True)
    path.write_text("low 0\noom 3\noom_kill 1\n")
    manager.properties = {
        "slipway-links@blue.service": {"ActiveState": "active", "Result": "success", "ControlGroup": f"/{group}"}
    }
    assert systemd.status()["blue"].out_of_memory
    path.write_text("oom_kill 0\n")
    assert not systemd.status()["blue"].out_of_memory


def test_a_one_off_is_the_unit_with_another_command(systemd: Systemd, manager: Manager) -> None:
    seen: dict[str, str] = {}
    answer = manager.__call__

    def watch(command: list[str], timeout: float) -> Ran:
        if command[1] == "start":
            seen["unit"] = (systemd.transient / command[2]).read_text()
            seen["drop-in"] = (systemd.transient / f"{command[2]}.d/oneoff.conf").read_text()
            output = seen["drop-in"].split("StandardOutput=truncate:")[1].splitlines()[0]
            Path(output).write_text("migrated\n")
            manager.properties = {command[2]: {"ExecMainCode": "1", "ExecMainStatus": "3", "Result": "exit-code"}}
        return answer(command, timeout)

    systemd.execute = watch
    result = systemd.run(RELEASE, ["python", "-c", "print('$HOME 100%')"], 30, "the-migration")
    assert (result.returncode, result.stdout) == (3, "migrated\n")
    assert "oneoff-the-migration" in seen["unit"]
    assert 'ExecStart=\nExecStart="python" "-c" "print(\'$$HOME 100%%\')"\n' in seen["drop-in"]
    assert list(systemd.transient.iterdir()) == [], "nothing is left"
    assert list(systemd.transient.parent.glob("slipway-oneoff-*")) == []


def test_one_with_endless_output_prints_to_the_journal(systemd: Systemd, manager: Manager) -> None:
    seen: list[str] = []
    answer = manager.__call__

    def watch(command: list[str], timeout: float) -> Ran:
        if command[1] == "start":
            seen.append((systemd.transient / f"{command[2]}.d/oneoff.conf").read_text())
        return answer(command, timeout)

    systemd.execute = watch
    manager.journal = "counted all\n"
    assert systemd.run(RELEASE, ["count"], 30, "job-nightly", together=True).stdout == "counted all\n"
    assert "StandardOutput" not in seen[0]
    asked = [command for command in manager.asked if command[0] == "journalctl"]
    assert asked[0][1] == "--sync"
    assert asked[1][-1] == "_SYSTEMD_UNIT=slipway-links@oneoff-job-nightly.service"


def test_a_one_off_begins_with_the_launcher_of_its_release() -> None:
    launched = " ".join(map(unit_word, [*by_shell(), "gunicorn"]))
    text = f"[Service]\nExecStartPre=true\nExecStart={launched}\n"
    (line,) = [line for line in once(["true"], 5, Path("/o"), launcher_in(text)).splitlines() if "true" in line]
    assert line == "ExecStart=" + launched.replace('"gunicorn"', '"true"')
    assert launcher_in("[Service]\nExecStart=gunicorn\n") == ""


def test_a_one_off_that_takes_too_long(systemd: Systemd, manager: Manager) -> None:
    class Slow(Manager):
        def __call__(self, command: list[str], timeout: float) -> Ran:
            if command[1] == "show":
                return Ran(tuple(command), 0, "ActiveState=failed\nResult=timeout\n", "")
            return Ran(tuple(command), 1 if command[1] == "start" else 0, "", "")

    systemd.execute = Slow()
    assert systemd.run(RELEASE, ["sleep", "60"], 5, "x").timed_out
    assert list(systemd.transient.iterdir()) == []


def test_a_one_off_that_a_dead_runner_left_is_ended_before_another(systemd: Systemd, manager: Manager) -> None:
    class Left(Manager):
        stopped = False

        def __call__(self, command: list[str], timeout: float) -> Ran:
            self.stopped |= command[1] == "stop"
            self.asked.append(command)
            state = "inactive" if self.stopped else "activating"
            return Ran(tuple(command), 0, f"ActiveState={state}\nExecMainCode=1\nExecMainStatus=0\n", "")

    left = Left()
    systemd.execute = left
    assert systemd.run(RELEASE, ["true"], 0.1, "the-migration").returncode == 0
    assert left.verbs().index("stop") < left.verbs().index("start")


def test_the_drop_in_of_a_one_off_ends_with_the_command() -> None:
    text = once(["a b"], 5, Path("/run/x"))
    assert "Type=oneshot\nRestart=no\nTimeoutStartSec=5\n" in text
    assert 'ExecStart="a b"\n' in text


def test_packages_go_with_their_last_release(systemd: Systemd) -> None:
    other = systemd.releases / "ffffffffffff"
    other.mkdir()
    (other / "unit.service").write_text("ReadOnlyPaths=/opt/slipway/links/packages/aaaaaaaaaaaa/srv\n")
    package = systemd.releases.parent / "packages/aaaaaaaaaaaa"
    package.mkdir(parents=True)
    (systemd.releases.parent / "wheels/unneeded").mkdir(parents=True)
    systemd.discard([RELEASE])
    assert package.is_dir(), "another release needs it"
    systemd.discard([RELEASE, "ffffffffffff"])
    assert not package.exists()
    assert list((systemd.releases.parent / "wheels").iterdir()) == []


def test_properties_may_hold_an_equals_sign() -> None:
    assert parse_properties("A=b=c\nnothing\n") == {"A": "b=c"}


def test_only_the_sockets_of_the_process_count(tmp_path: Path) -> None:
    tables = (
        "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 4711 1\n"
        "   1: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 4712 1\n"
        "0000: 00000002 00000000 00010000 0001 01 4713 /run/slipway/links/blue/app.sock\n"
    )
    (tmp_path / "fd").mkdir()
    for number, inode in enumerate(("4711", "4713")):
        (tmp_path / f"fd/{number}").symlink_to(f"socket:[{inode}]")
    assert parse_listening(tables, sockets_of(tmp_path)) == [
        "socket /run/slipway/links/blue/app.sock",
        "tcp port 8080 on 127.0.0.1",
    ]
    assert "tcp port 22 on 127.0.0.1" in parse_listening(tables)
    every = tables.replace("0100007F:1F90", "00000000:1F90")
    assert open_ports(parse_listening(every)) == ["tcp port 8080"], "loopback and sockets are the host's own"
    assert sockets_of(tmp_path / "gone") == set()


@pytest.mark.parametrize(
    ("address", "said", "is_open"),
    [
        ("00000000", "tcp port 8080", True),
        ("0" * 32, "tcp port 8080", True),
        ("0100007F", "tcp port 8080 on 127.0.0.1", False),
        ("0500007F", "tcp port 8080 on 127.0.0.5", False),
        ("00000000000000000000000001000000", "tcp port 8080 on ::1", False),
        ("0000000000000000FFFF00000100007F", "tcp port 8080 on 127.0.0.1", False),
        ("0500000A", "tcp port 8080 at 10.0.0.5", True),
        ("B80D0120000000000000000011000000", "tcp port 8080 at 2001:db8::11", True),
    ],
)
def test_what_others_than_the_host_reach(address: str, said: str, is_open: bool) -> None:
    zero = "0" * len(address)
    line = f"   0: {address}:1F90 {zero}:0000 0A 00000000:00000000 00:00000000 00000000  1000 0 4711 1\n"
    assert parse_listening(line) == [said]
    assert open_ports([said]) == ([said] if is_open else [])


@dataclass
class Adapter:
    """A runtime that remembers what it was told."""

    release: dict[str, str] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    beside: Any = None

    def start(self, slot: str, release: str) -> None:
        self.release[slot] = release

    def stop(self, slot: str, grace: float) -> None:
        self.told.append(f"stop {slot} {grace:.0f}")
        self.release.pop(slot, None)

    def status(self) -> dict[str, SlotStatus]:
        return {slot: SlotStatus(release=self.release.get(slot), running=slot in self.release) for slot in SLOTS}

    def logs(self, slot: str, lines: int) -> str:
        return f"{lines} lines" if slot in self.release else ""

    def listening(self, slot: str) -> list[str]:
        return [f"socket {slot}"] if slot in self.release else []

    def past_edge(self, slot: str) -> list[str]:
        return []

    def discard(self, releases: list[str]) -> None:
        self.told.append(f"discard {releases}")

    def retire(self, slot: str) -> None:
        self.told.append(f"retire {slot}")

    def there(self, releases: list[str]) -> list[str]:
        return [release for release in releases if release in self.release.values()]

    def run(self, release: str, words: list[str], timeout: float, name: str, together: bool = False) -> Ran:
        return Ran(tuple(words), 0, f"{release} {timeout} {name}", "")

    def owner(self, release: str) -> tuple[int, int]:
        return os.getuid(), os.getgid()

    def contents(self, release: str, path: str, to: Path) -> None:
        (to / "brought").write_text(f"{path} of {release}")


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Runtimes, Adapter, Adapter]:
    monkeypatch.setattr(shutil, "which", lambda tool: f"/usr/bin/{tool}")
    for release, name in (("c", "compose.yaml"), ("s", "unit.service")):
        (tmp_path / release).mkdir()
        (tmp_path / release / name).touch()
    compose, systemd = Adapter(), Adapter()
    sockets = tmp_path / "sockets"
    sockets.mkdir()
    directories = SlotDirectories(sockets, tmp_path)
    return Runtimes("links", tmp_path, {"compose": compose, "systemd": systemd}, directories), compose, systemd


def test_before_a_start_a_release_has_its_volumes_and_its_secrets(
    both: tuple[Runtimes, Adapter, Adapter], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtimes, _, _ = both
    runtimes.volumes = Volumes("links", tmp_path / "var")
    (tmp_path / "s/keeps.json").write_text('{"volumes": {"uploads": "/data/uploads"}}')
    (tmp_path / "s/secrets").mkdir()
    (tmp_path / "s/secrets/KEY").touch()
    monkeypatch.setattr(Adapter, "owner", lambda self, release: (os.getuid(), os.getgid() + 1))
    given = []
    monkeypatch.setattr("os.chown", lambda path, *owner, **how: given.append((Path(path).name, *owner)))
    runtimes.start("blue", "s")
    assert (tmp_path / "var/links/volumes/uploads/brought").read_text() == "/data/uploads of s"
    assert given == [(name, os.getuid(), os.getgid() + 1) for name in ("KEY", "secrets")]
    runtimes.run("c", ["true"], 5, "x")
    assert runtimes.volumes.names() == ["uploads"]


def test_a_package_s_directory_comes_into_a_volume(tmp_path: Path) -> None:
    releases, to = tmp_path / "releases", tmp_path / "to"
    (releases / "one").mkdir(parents=True)
    to.mkdir()
    (releases / "one/unit.service").write_text(
        "BindReadOnlyPaths=/opt/slipway/links/packages/abc123/srv:/srv\nUser=5\nGroup=6\n"
    )
    brought = tmp_path / "packages/abc123/srv/media"
    brought.mkdir(parents=True)
    (brought / "welcome").touch()
    (brought.parent / "file").touch()
    systemd = Systemd("links", releases, tmp_path)
    for path in ("/srv/media", "/srv/none", "/data/media"):
        systemd.contents("one", path, to)
    assert [path.name for path in to.iterdir()] == ["welcome"]
    assert systemd.owner("one") == (5, 6)
    with pytest.raises(RuntimeFailed, match="/srv/file is a file in the package"):
        systemd.contents("one", "/srv/file", to)


def test_each_release_is_started_by_its_own_runtime(both: tuple[Runtimes, Adapter, Adapter]) -> None:
    runtimes, compose, systemd = both
    runtimes.start("blue", "c")
    runtimes.start("green", "s")
    assert (compose.release, systemd.release) == ({"blue": "c"}, {"green": "s"})
    found = runtimes.status()
    assert [(slot, found[slot].release, found[slot].running) for slot in SLOTS] == [
        ("blue", "c", True),
        ("green", "s", True),
    ]
    assert runtimes.logs("green", 9) == "9 lines"
    assert runtimes.listening("blue") == ["socket blue"]
    assert runtimes.run("s", ["true"], 5, "x").stdout == "s 5 x"


def test_a_slot_is_emptied_whichever_runtime_filled_it(both: tuple[Runtimes, Adapter, Adapter]) -> None:
    runtimes, compose, systemd = both
    runtimes.start("blue", "c")
    runtimes.stop("blue", 45)
    assert compose.told == systemd.told == ["stop blue 45"]
    assert not runtimes.status()["blue"].running


def test_a_runtime_that_the_host_lacks_is_not_asked(
    both: tuple[Runtimes, Adapter, Adapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    runtimes, compose, systemd = both
    monkeypatch.setattr(shutil, "which", lambda tool: None if tool == "docker" else tool)
    runtimes.stop("blue", 1)
    runtimes.discard([])
    assert compose.told == []
    assert len(systemd.told) == 2


def test_a_runtime_that_no_release_needs_is_not_asked(both: tuple[Runtimes, Adapter, Adapter]) -> None:
    runtimes, compose, _ = both
    (runtimes.releases / "c/compose.yaml").unlink()
    runtimes.stop("blue", 1)
    assert compose.told == []
    with pytest.raises(RuntimeFailed, match="not staged"):
        runtimes.start("blue", "c")
