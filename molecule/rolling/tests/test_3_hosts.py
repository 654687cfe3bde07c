"""Faults that cost what is in flight on one host: it is back by itself, on a whole release, and the others serve on."""

from __future__ import annotations

import subprocess
import time

from contract import PATIENCE, SELDOM, until
from fleet import SLOTS, WEB, Fleet, in_pool, on

A, B, C = WEB


def container(fleet: Fleet, host: str) -> str:
    """The one that serves, once no other one drains."""
    fleet.whole()
    return on(host, f"docker ps --quiet {SLOTS}").strip()


def until_it_serves(fleet: Fleet, host: str) -> float:
    return until(lambda: fleet.serving_or_none(host) is not None, f"{host} serves", every=SELDOM)


def test_a_killed_slot_is_back(fleet: Fleet) -> None:
    on(A, f"kill -9 $(docker inspect --format '{{{{.State.Pid}}}}' {container(fleet, A)})")
    print(f"serves again after {until_it_serves(fleet, A):.1f} s")
    fleet.wait_until_serving()


def test_a_stalled_slot_leaves_the_pool_and_returns_by_itself(fleet: Fleet) -> None:
    until(lambda: in_pool(C), f"{C} is in the pool")
    stalled = container(fleet, C)
    on(C, f"docker pause {stalled}")
    try:
        took = until(lambda: not in_pool(C), f"{C} is out of the pool", 60)
        print(f"out of the pool after {took:.1f} s")
    finally:
        on(C, f"docker unpause {stalled}")
    print(f"back in it after {until(lambda: in_pool(C), f'{C} is back in the pool'):.1f} s")


def test_a_reboot_in_the_middle_of_a_swap_keeps_one_whole_release(fleet: Fleet) -> None:
    before = fleet.states()
    # The reboot ends its soak, and no pause of this test does before.
    run = fleet.begin("deploy", **fleet.release("rebooted"), fastapi_app_soak=120)
    fleet.under_way(A, run)
    time.sleep(1)  # its transaction waits for the new slot then
    subprocess.run(["docker", "restart", "--time", "1", A], check=True, capture_output=True, timeout=PATIENCE)
    assert run.wait() != 0, run.output()
    print(f"serves {until_it_serves(fleet, A):.1f} s after the reboot")
    healed = fleet.deploy(**fleet.release("rebooted"))
    assert healed.code == 0, healed.output
    assert fleet.whole()
    assert fleet.states() != before
