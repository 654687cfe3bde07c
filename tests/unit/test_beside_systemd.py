"""Processes under systemd, with a systemd in memory, and those of both runtimes as one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.beside import Instance, Process
from ansible_collections.slipway.fleet.plugins.module_utils.release.beside_systemd import dropped_in
from ansible_collections.slipway.fleet.plugins.module_utils.release.compose import Compose
from ansible_collections.slipway.fleet.plugins.module_utils.release.launch import by_shell, launcher_in
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtime import RuntimeFailed
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtimes import Runtimes
from ansible_collections.slipway.fleet.plugins.module_utils.release.slots import SlotDirectories
from ansible_collections.slipway.fleet.plugins.module_utils.release.systemd import Systemd
from ansible_collections.slipway.fleet.plugins.module_utils.release.words import unit_word

from tests.unit import test_release_systemd as of_slots
from tests.unit.test_release_systemd import RELEASE, Manager

manager, systemd = of_slots.manager, of_slots.systemd
WORKER = "slipway-links@p3-worker-1.service"


@pytest.fixture
def declared(systemd: Systemd) -> None:
    content = {
        "worker": {"command": ["celery", "--app", "a b"], "replicas": 2, "stop_grace": 300, "environment": {"A": "$1"}},
        "beat": {"command": ["beat"], "singleton": True},
    }
    (systemd.releases / RELEASE / "processes.json").write_text(json.dumps(content))


@pytest.mark.usefixtures("declared")
def test_each_is_a_unit_of_the_release_with_another_command(systemd: Systemd, manager: Manager) -> None:
    systemd.beside.start("blue", RELEASE, 3, {"worker": 2, "beat": 1})
    names = ["slipway-links@p3-beat-1.service", WORKER, "slipway-links@p3-worker-2.service"]
    assert sorted(path.name for path in systemd.units.iterdir()) == names
    text = (systemd.units / WORKER).read_text()
    own, _, dropped = text.partition("# What is another one for the process worker.\n")
    assert own.startswith("[Unit]\nDescription=links, release"), "with whatever the web process has"
    assert dropped.splitlines() == [
        "[Unit]",
        f"Description=worker of release {RELEASE} (blue)",
        "[Service]",
        "ExecStart=",
        'ExecStart="celery" "--app" "a b"',
        "TimeoutStopSec=300",
        "MemoryMax=512M",
        "CPUQuota=100%",
        "SyslogIdentifier=links-worker",
        'Environment="RELEASE_PROCESS=worker"',
        'Environment="A=$1"',
    ]
    assert manager.verbs() == ["daemon-reload", "enable", "start"]


@pytest.mark.usefixtures("declared")
def test_a_second_start_writes_nothing(systemd: Systemd) -> None:
    systemd.beside.start("blue", RELEASE, 3, {"worker": 1})
    before = (systemd.units / WORKER).stat()
    systemd.beside.start("blue", RELEASE, 3, {"worker": 1})
    assert (systemd.units / WORKER).stat().st_ino == before.st_ino


@pytest.mark.usefixtures("declared")
def test_a_start_that_fails_says_what_the_process_said(systemd: Systemd, manager: Manager) -> None:
    manager.failing = {"start": "Job for slipway-links failed."}
    manager.journal = "No module named celery\n"
    with pytest.raises(RuntimeFailed, match="No module named celery"):
        systemd.beside.start("blue", RELEASE, 3, {"worker": 1})


@pytest.mark.parametrize(
    ("state", "enabled", "more", "expected"),
    [
        ("active", "enabled", {}, {}),
        ("deactivating", "disabled", {}, {"ending": True}),
        ("inactive", "disabled", {}, {"ending": True, "gone": True, "running": False}),
        ("activating", "enabled", {"NRestarts": "2"}, {"restarts": 2, "running": False}),
        ("failed", "enabled", {"Result": "oom-kill"}, {"out_of_memory": True, "gone": True, "running": False}),
    ],
)
@pytest.mark.usefixtures("declared")
def test_what_systemd_has(
    state: str, enabled: str, more: dict[str, str], expected: dict[str, object], systemd: Systemd, manager: Manager
) -> None:
    assert systemd.beside.instances() == []
    assert manager.asked == []
    systemd.beside.start("blue", RELEASE, 3, {"worker": 1})
    said = {
        "Description": f"worker of release {RELEASE} (blue)",
        "ActiveState": state,
        "UnitFileState": enabled,
        **more,
    }
    manager.properties = {WORKER: said}
    assert systemd.beside.instances() == [Instance(WORKER, "worker", "blue", RELEASE, 3, **expected)]  # type: ignore[arg-type]


@pytest.mark.usefixtures("declared")
def test_systemd_is_told_to_end_them_before_they_are_marked_and_nobody_waits(
    systemd: Systemd, manager: Manager
) -> None:
    one = Instance(WORKER, "worker", "blue", RELEASE, 3)
    systemd.beside.end([one])
    assert [command[1:3] for command in manager.asked] == [["stop", "--no-block"], ["disable", "--quiet"]]
    systemd.beside.start("blue", RELEASE, 3, {"worker": 1})
    systemd.beside.forget([one])
    assert list(systemd.units.iterdir()) == []
    manager.asked.clear()
    systemd.beside.kill([one])
    assert [command[1:] for command in manager.asked] == [["kill", "--signal=SIGKILL", WORKER]]
    manager.asked.clear()
    systemd.beside.end([])
    systemd.beside.kill([])
    systemd.beside.forget([])
    assert manager.asked == []


@pytest.mark.usefixtures("declared")
def test_what_it_printed_is_not_mixed_with_what_systemd_says_of_it(systemd: Systemd, manager: Manager) -> None:
    systemd.beside.start("blue", RELEASE, 3, {"worker": 1})
    manager.journal = "no module\n"
    assert systemd.beside.logs(Instance(WORKER, "worker", "blue", RELEASE, 3), 7) == "no module\n"
    assert manager.asked[-1][0] == "journalctl"
    assert {"--lines=7", f"_SYSTEMD_UNIT={WORKER}"} <= set(manager.asked[-1])


def test_the_launcher_comes_before_the_command() -> None:
    launcher = launcher_in(f"ExecStart={' '.join(map(unit_word, [*by_shell(), 'gunicorn']))}\n")
    dropped = dropped_in("worker", Process(["work"]), RELEASE, "blue", "links-worker", launcher)
    assert f'\nExecStart={launcher}"work"\n' in dropped


def test_what_a_web_unit_or_another_app_has_is_no_process(systemd: Systemd) -> None:
    for name in ("slipway-links@blue.service", "slipway-links@oneoff-p1.service", "slipway-other@p1-worker-1.service"):
        (systemd.units / name).write_text("")
    assert systemd.beside.instances() == []


def test_both_runtimes_are_asked_and_each_ends_its_own(
    systemd: Systemd, manager: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host goes from one runtime to the other by a release, with the processes of both for a while."""
    compose = Compose("links", systemd.releases, Path("/run/slipway/links"))
    found = [Instance("abc", "worker", "green", "one", 1)]
    ended: list[list[Instance]] = []
    monkeypatch.setattr(compose.beside, "instances", lambda: found)
    monkeypatch.setattr(compose.beside, "end", lambda some: ended.append(list(some)))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    (systemd.releases / "one").mkdir()
    (systemd.releases / "one/compose.yaml").write_text("")
    both = Runtimes(
        "links", systemd.releases, {"compose": compose, "systemd": systemd}, SlotDirectories(tmp_path / "run/links")
    )
    assert both.beside.instances() == [], "no release declares any, so nobody is asked"
    (systemd.releases / RELEASE / "processes.json").write_text(json.dumps({"worker": {"command": ["work"]}}))
    both.beside.start("blue", RELEASE, 3, {"worker": 1})
    said = {"Description": f"worker of release {RELEASE} (blue)", "ActiveState": "active", "UnitFileState": "enabled"}
    manager.properties = {WORKER: said}
    there = both.beside.instances()
    assert [one.id for one in there] == ["abc", WORKER]
    manager.asked.clear()
    both.beside.end(there)
    assert ended == [found]
    assert manager.asked[0][-1] == WORKER
    monkeypatch.setattr(compose.beside, "kill", lambda some: ended.append(list(some)))
    both.beside.kill(there)
    assert ended == [found, found]
    assert manager.asked[-1][1:] == ["kill", "--signal=SIGKILL", WORKER]
