"""The timers of an app, with a systemd in memory: those of what serves, on the one host that jobs run on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.release import timers as timers_module
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtime import RuntimeFailed
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store
from ansible_collections.slipway.fleet.plugins.module_utils.release.timers import Timers

NIGHTLY = {"nightly": {"command": ["a"], "schedule": "*-*-* 03:00"}}
HOURLY = {"hourly": {"command": ["b"], "schedule": "hourly"}}


class Crash(BaseException):
    """The process was killed here."""


class Systemd:
    """What systemctl does with timers; dies before its `crash_at`-th call, where there is one."""

    def __init__(self, units: Path) -> None:
        self.units = units
        self.active: set[str] = set()
        self.enabled: set[str] = set()
        self.loaded: dict[str, str] = {}
        self.calls: list[str] = []
        self.crash_at = 0

    def __call__(self, words: list[str], timeout: float) -> Ran:
        verb, *rest = words[1:]
        units = [word for word in rest if not word.startswith("--")]
        self.calls.append(" ".join([verb, *units]))
        if self.crash_at and len(self.calls) >= self.crash_at:
            raise Crash
        getattr(self, verb.replace("-", "_"))(units)
        return Ran(tuple(words), 0, self.said)

    said = ""

    def show(self, units: list[str]) -> None:
        self.said = "\n\n".join(map(self._shown, units))

    def _shown(self, unit: str) -> str:
        stale = unit in self.loaded and self.loaded[unit] != self.text(unit)
        state = "active" if unit in self.active else "inactive"
        return (
            f"NeedDaemonReload={'yes' if stale else 'no'}\nActiveState={state}\n"
            f"UnitFileState={'enabled' if unit in self.enabled else ''}\nNextElapseUSecRealtime=Fri 03:00\n"
        )

    def text(self, unit: str) -> str:
        path = self.units / unit
        return path.read_text() if path.is_file() else ""

    def daemon_reload(self, _: list[str]) -> None:
        self.loaded = {path.name: path.read_text() for path in self.units.iterdir()}

    def enable(self, units: list[str]) -> None:
        assert all(self.text(unit) for unit in units)
        self.enabled |= set(units)

    def start(self, units: list[str]) -> None:
        assert all(self.loaded[unit] == self.text(unit) for unit in units)
        self.active |= set(units)

    def stop(self, units: list[str]) -> None:
        self.active -= set(units)

    def disable(self, units: list[str]) -> None:
        self.enabled -= set(units)
        self.active -= set(units)

    def reset_failed(self, _: list[str]) -> None: ...


class World:
    """The directory of an app with the releases one, two and three, and a systemd."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for directory in ("units", "stamps", "app/releases/none"):
            (root / directory).mkdir(parents=True)
        self.store = Store(root / "app")
        self.systemd = Systemd(root / "units")
        for name, jobs in {"one": NIGHTLY, "two": {**NIGHTLY, **HOURLY}, "three": HOURLY}.items():
            (self.store.releases / name).mkdir()
            (self.store.releases / name / "jobs.json").write_text(json.dumps(jobs))

    def timers(self, app: str = "links", here: bool = True, host: str = "web1") -> Timers:
        return Timers(
            app, self.store, here, host, self.systemd, self.root / "units", self.root / "stamps", lambda: b"program"
        )

    def running(self) -> list[str]:
        assert self.systemd.active == self.systemd.enabled, "what runs is there after a boot, and nothing else"
        return sorted(self.systemd.active)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr("os.fsync", lambda _: None)
    return World(tmp_path)


def test_a_release_brings_its_timers_and_takes_those_of_the_one_before_away(world: World) -> None:
    timers = world.timers()
    assert timers.follow("one", 1.0)
    assert world.running() == ["slipway-links@job-nightly.timer"]
    text = world.systemd.text("slipway-links@job-nightly.timer")
    assert "\nOnCalendar=*-*-* 03:00\n" in text
    service = world.systemd.text("slipway-links@job-nightly.service")
    assert f'"{world.root}/app/jobs.pyz" "links" "{world.root}/app" "nightly"' in service
    assert (world.root / "app/jobs.pyz").read_bytes() == b"program"
    assert timers.drift("one") == []
    assert timers.follow("three", 2.0)
    assert world.running() == ["slipway-links@job-hourly.timer"]
    assert timers.names() == ["hourly"]
    assert timers.follow("none", 3.0)
    assert (world.running(), timers.names()) == ([], [])
    assert not any((world.root / "units").iterdir())


def test_what_stays_is_not_touched(world: World) -> None:
    timers = world.timers()
    timers.follow("one", 1.0)
    world.systemd.calls.clear()
    assert not timers.follow("one", 2.0)
    assert world.systemd.calls == ["show slipway-links@job-nightly.timer"]
    assert timers.follow("two", 3.0)
    changed = [call for call in world.systemd.calls if not call.startswith("show")]
    assert not [call for call in changed if "nightly" in call]


def test_another_schedule_makes_up_for_nothing(world: World) -> None:
    timers = world.timers()
    timers.follow("one", 1.0)
    stamp = world.root / "stamps/stamp-slipway-links@job-nightly.timer"
    stamp.touch()
    assert not timers.follow("one", 2.0)
    assert stamp.exists(), "one that was due while the host was off begins after its boot"
    later = {"nightly": {"command": ["a"], "schedule": "*-*-* 09:00"}}
    (world.store.releases / "one/jobs.json").write_text(json.dumps(later))
    assert timers.follow("one", 3.0)
    assert not stamp.exists()
    assert world.running() == ["slipway-links@job-nightly.timer"]
    assert "09:00" in world.systemd.loaded["slipway-links@job-nightly.timer"]


@pytest.mark.parametrize("at", range(1, 15))
def test_a_crash_anywhere_is_mended_by_the_next_one(world: World, at: int) -> None:
    timers = world.timers()
    timers.follow("one", 1.0)
    world.systemd.crash_at = len(world.systemd.calls) + at
    try:
        timers.follow("three", 2.0)
    except Crash:
        world.systemd.crash_at = 0
        world.timers().follow("three", 3.0)
    world.systemd.crash_at = 0
    assert world.running() == ["slipway-links@job-hourly.timer"]
    assert timers.drift("three") == []


def test_one_host_of_the_fleet_has_them(world: World) -> None:
    world.timers().follow("one", 1.0)
    elsewhere = world.timers(here=False, host="web2")
    assert elsewhere.drift("one") == ["the job nightly has a timer here, and jobs run on web2; deploy again"]
    assert elsewhere.follow("one", 2.0)
    assert (world.running(), elsewhere.drift("one")) == ([], [])
    assert world.store.jobs_at() == {"host": "web2", "at": 2.0}


def test_another_app_keeps_its_own(world: World) -> None:
    world.timers("links").follow("one", 1.0)
    world.timers("links-a").follow("three", 1.0)
    assert world.timers("links").remove()
    assert world.timers("links-a").names() == ["hourly"]
    assert not world.timers("links").remove()


def test_a_timer_that_somebody_stopped_or_changed_is_a_difference(world: World) -> None:
    timers = world.timers()
    timers.follow("one", 1.0)
    wrong = ["the timer of the job nightly does not run; deploy again"]
    world.systemd.stop(["slipway-links@job-nightly.timer"])
    assert timers.drift("one") == wrong
    timers.follow("one", 2.0)
    path = world.root / "units/slipway-links@job-nightly.timer"
    path.write_text(path.read_text().replace("03:00", "04:00"))
    assert timers.drift("one") == wrong
    timers.follow("one", 3.0)
    assert timers.drift("one") == []
    (world.root / "app/jobs.pyz").unlink()
    assert timers.drift("one") == wrong
    assert timers.follow("one", 4.0)
    assert timers.drift("one") == []


def test_an_app_without_jobs_asks_nobody(world: World) -> None:
    timers = world.timers()
    assert not timers.none
    for name in ("one", "two", "three"):
        (world.store.releases / name / "jobs.json").unlink()
    assert world.timers().none
    assert not timers.follow("one", 1.0)
    assert (timers.drift("one"), timers.next({}), world.systemd.calls) == ([], {}, [])
    assert world.store.jobs_at() is None


def test_what_systemd_says_no_to_is_named(world: World) -> None:
    timers = world.timers()
    timers.execute = lambda words, timeout: Ran(tuple(words), 1, "", "Failed to connect to bus")
    with pytest.raises(RuntimeFailed, match="Failed to connect to bus"):
        timers.follow("one", 1.0)


def test_the_program_is_what_the_agent_was_sent_as(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the one that a Python compiled, which the next one of the distribution could not read."""
    (tmp_path / "0123.pyz").write_bytes(b"as it was sent")
    compiled = tmp_path / "0123.cpython-311.4567.pyz"
    compiled.write_bytes(b"compiled")
    monkeypatch.setattr(timers_module, "__file__", str(compiled / "ansible_collections/timers.pyc"))
    assert timers_module._packed() == b"as it was sent"
    monkeypatch.undo()
    with pytest.raises(RuntimeFailed, match="timers are made by the agent"):
        timers_module._packed()


def test_a_unit_is_the_same_whichever_python_looks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent and a module run in what each finds; the distribution's own name stays over its upgrades."""
    world.timers().follow("one", 0.0)
    monkeypatch.setattr("sys.executable", "/usr/bin/python3.99")
    assert world.timers().drift("one") == []
    assert not world.timers().follow("one", 0.0)


def test_where_jobs_ran_is_forgotten_with_the_last_release_that_had_any(world: World) -> None:
    world.timers().follow("one", 1.0)
    assert world.store.jobs_at() == {"host": "web1", "at": 1.0}
    for release in ("one", "two", "three"):
        (world.store.releases / release / "jobs.json").unlink()
    world.timers().follow("none", 2.0)
    assert world.store.jobs_at() == {"host": "", "at": 2.0}
    assert world.timers().none
