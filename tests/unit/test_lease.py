"""A lease is one run's, frees itself, and says whose it is."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import Fenced
from ansible_collections.slipway.fleet.plugins.module_utils.release import lease as lease_module
from ansible_collections.slipway.fleet.plugins.module_utils.release.lease import (
    FADING,
    LIFETIME,
    MISSED,
    Held,
    Lease,
    since_start,
)


def holder(run: str, **more: Any) -> dict[str, Any]:
    return {"run": run, "who": run, "from": "ci", "what": "a deploy", "since": "2026-01-01T00:00:00+00:00", **more}


@pytest.fixture
def lease(tmp_path: Path) -> Lease:
    return Lease("links", tmp_path / "app", tmp_path / "locks")


@pytest.fixture(autouse=True)
def _clock_that_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test may take as long as the machine likes."""
    now = since_start()
    monkeypatch.setattr(lease_module, "since_start", lambda: now)


def grow_old(lease: Lease, seconds: float) -> None:
    then = lease_module.since_start() - seconds
    os.utime(lease.path, (then, then))


def test_the_second_run_learns_who_holds_it(lease: Lease) -> None:
    assert lease.acquire(holder("ann")) is None
    with pytest.raises(Held, match=r"a deploy by ann from ci is under way since 2026-01-01.*wait until it has ended"):
        lease.acquire(holder("bob"))
    assert lease.holder()["run"] == "ann"  # type: ignore[index]


def test_the_same_run_may_ask_again(lease: Lease) -> None:
    lease.acquire(holder("ann"))
    assert lease.acquire(holder("ann")) is None


def test_a_holder_that_is_gone_is_taken_over_from(lease: Lease) -> None:
    lease.acquire(holder("ann"))
    grow_old(lease, LIFETIME + 1)
    assert lease.holder() is None
    dead = lease.acquire(holder("bob"))
    assert dead is not None
    assert dead["run"] == "ann"


def test_a_holder_just_within_its_lifetime_is_not(lease: Lease) -> None:
    lease.acquire(holder("ann"))
    grow_old(lease, LIFETIME - 5)
    with pytest.raises(Held):
        lease.acquire(holder("bob"))


@pytest.mark.parametrize(("age", "left"), [(15, 0.0), (MISSED + 1, LIFETIME - MISSED - 1), (LIFETIME + 1, 0.0)])
def test_one_that_was_not_seen_for_a_while_is_left_by_a_dead_run(lease: Lease, age: float, left: float) -> None:
    lease.acquire(holder("ann"))
    grow_old(lease, age)
    assert lease.left_by_dead("bob") == pytest.approx(left, abs=0.5)
    assert lease.left_by_dead("ann") == 0, "its own"


def test_a_freeze_frees_itself_never(lease: Lease) -> None:
    lease.acquire(holder("ann"))
    grow_old(lease, LIFETIME - 5)
    lease.freeze("the sale", {"who": "ann"})
    assert lease.left_by_dead("bob") == 0


def test_a_lease_that_fades_ends_soon_and_not_sooner_for_being_told_twice(lease: Lease) -> None:
    lease.acquire(holder("ann"))
    assert lease.fade("ann")
    for _ in range(2):
        with pytest.raises(Held) as caught:
            lease.acquire(holder("bob"))
        assert caught.value.details["seconds"] == pytest.approx(FADING, abs=5)
        assert lease.fade("ann")
    grow_old(lease, LIFETIME - 5)
    lease.fade("ann")
    with pytest.raises(Held) as caught:
        lease.acquire(holder("bob"))
    assert caught.value.details["seconds"] < FADING / 2, "one that ends sooner already is not made to last"


def test_a_lease_that_fades_is_kept_by_a_run_that_comes_back(lease: Lease) -> None:
    lease.acquire(holder("ann"))
    lease.fade("ann")
    assert lease.renew("ann")
    with pytest.raises(Held) as caught:
        lease.acquire(holder("bob"))
    assert caught.value.details["seconds"] > LIFETIME - FADING


def test_a_transaction_keeps_a_lease_that_fades_and_lets_it_fade(lease: Lease) -> None:
    lease.acquire(holder("ann"))
    lease.fade("ann")
    grow_old(lease, LIFETIME - FADING + 10)
    assert lease.lost("ann") == ""
    with pytest.raises(Held) as caught:
        lease.acquire(holder("bob"))
    assert caught.value.details["seconds"] == pytest.approx(FADING, abs=5)


def test_nobody_fades_what_another_run_holds(lease: Lease) -> None:
    assert not lease.fade("ann")
    lease.acquire(holder("bob"))
    assert not lease.fade("ann")
    assert lease.holder()["age"] < LIFETIME - FADING  # type: ignore[index]


def test_only_the_holder_gives_it_back(lease: Lease) -> None:
    lease.acquire(holder("ann"))
    assert not lease.give_back("bob")
    assert lease.give_back("ann")
    assert lease.acquire(holder("bob")) is None


def test_a_holder_that_died_while_it_wrote_holds_nothing(lease: Lease) -> None:
    lease.path.parent.mkdir()
    lease.path.write_text('{"run": "an')
    assert lease.acquire(holder("bob")) is None


def test_a_freeze_stays_until_it_is_lifted(lease: Lease) -> None:
    lease.freeze("the sale runs", {"who": "ann", "from": "desk", "since": "today"})
    with pytest.raises(Held, match=r"frozen by ann from desk since today: the sale runs; lift it with"):
        lease.acquire(holder("bob"))
    assert [entry["reason"] for entry in lease.free()] == ["the sale runs"]
    assert lease.acquire(holder("bob")) is None


def test_to_free_breaks_the_lease_of_a_run_too(lease: Lease) -> None:
    lease.acquire(holder("ann"))
    assert [entry["run"] for entry in lease.free()] == ["ann"]
    assert lease.holder() is None
    assert lease.free() == []


def test_a_refusal_says_when_the_lock_frees_itself(lease: Lease) -> None:
    lease.acquire(holder("ann"))
    grow_old(lease, 20)
    with pytest.raises(Held, match=r"frees itself in at most (99|100) s unless it is seen again") as caught:
        lease.acquire(holder("bob"))
    assert caught.value.kind == "held"
    assert caught.value.details["seconds"] == pytest.approx(LIFETIME - 20, abs=5)
    lease.freeze("the sale runs", {"who": "ann", "from": "desk", "since": "today"})
    with pytest.raises(Held, match="frozen") as caught:
        lease.acquire(holder("bob"))
    assert caught.value.details == {}


def test_a_run_that_lost_its_lease_is_told_to_whom(lease: Lease) -> None:
    lease.acquire(holder("ann"))
    lease.require("ann")
    assert lease.lost("ann") == ""
    grow_old(lease, LIFETIME + 1)
    lease.acquire(holder("bob"))
    assert "held by a deploy by bob from ci now" in lease.lost("ann")
    with pytest.raises(Fenced, match="a deploy by bob from ci does"):
        lease.require("ann")
    lease.free()
    assert "ran out or was broken" in lease.lost("ann")
    with pytest.raises(Fenced, match="nobody does"):
        lease.require("ann")


def test_a_run_that_was_late_and_that_nobody_took_over_from_goes_on(lease: Lease) -> None:
    lease.acquire(holder("ann"))
    grow_old(lease, LIFETIME + 60)
    assert lease.lost("ann") == ""
    with pytest.raises(Held):
        lease.acquire(holder("bob"))


def test_a_freeze_stops_who_holds_the_lease_from_going_further(lease: Lease) -> None:
    lease.acquire(holder("ann"))
    lease.freeze("the sale runs", {"who": "bob", "from": "desk", "since": "today"})
    assert lease.lost("ann") == "the app was frozen meanwhile by bob: the sale runs"
    lease.require("ann")  # it may put back what it changed


def test_what_another_version_wrote_into_a_lease_is_no_error(lease: Lease) -> None:
    lease.path.parent.mkdir()
    lease.path.write_text('{"run": "ann", "novelty": 1}')
    with pytest.raises(Held, match="a run by somebody from somewhere"):
        lease.acquire(holder("bob"))


def test_one_of_a_version_that_took_the_time_of_day_frees_itself(lease: Lease) -> None:
    lease.acquire(holder("ann"))
    os.utime(lease.path)
    assert lease.left_by_dead("bob") == LIFETIME - MISSED
    assert lease_module.since_start() - lease.path.stat().st_mtime >= MISSED, "it grows old from now on"
    assert lease.renew("ann")
    assert lease.holder()["age"] < MISSED  # type: ignore[index]


@pytest.mark.parametrize("jump", [-3600, 3600])
def test_a_clock_that_is_set_changes_nothing(lease: Lease, jump: float, monkeypatch: pytest.MonkeyPatch) -> None:
    lease.acquire(holder("ann"))
    set_clock = time.time() + jump
    monkeypatch.setattr("time.time", lambda: set_clock)
    assert lease.holder()["age"] < MISSED  # type: ignore[index]
    grow_old(lease, LIFETIME + 1)
    assert lease.holder() is None
