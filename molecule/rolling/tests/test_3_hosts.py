"""Faults that cost what is in flight on one host: it is back by itself, on a whole release, and the others serve on."""

from __future__ import annotations

import subprocess
import time

from fleet import SLOTS, WEB, Fleet, in_pool, on

A, B, C = WEB


def container(host: str) -> str:
    return on(host, f"docker ps --quiet {SLOTS}").strip()


def until(what: str, ready: bool, host: str, seconds: float) -> float:
    """Wait until a host is in the pool, or out of it; returns how long it took."""
    began = time.monotonic()
    while in_pool(host) != ready:
        assert time.monotonic() - began < seconds, f"{host} is not {what} after {seconds:.0f} s"
        time.sleep(0.2)
    return time.monotonic() - began


def until_it_serves(fleet: Fleet, host: str, seconds: float) -> float:
    began = time.monotonic()
    while fleet.serving_or_none(host) is None:
        assert time.monotonic() - began < seconds, f"{host} does not serve after {seconds:.0f} s"
        time.sleep(0.2)
    return time.monotonic() - began


def test_a_killed_slot_is_back(fleet: Fleet) -> None:
    on(A, f"kill -9 $(docker inspect --format '{{{{.State.Pid}}}}' {container(A)})")
    print(f"serves again after {until_it_serves(fleet, A, 60):.1f} s")
    fleet.wait_until_serving(30)


def test_a_stalled_slot_leaves_the_pool_and_returns_by_itself(fleet: Fleet) -> None:
    until("in the pool", True, C, 60)
    stalled = container(C)
    on(C, f"docker pause {stalled}")
    try:
        print(f"out of the pool after {until('out of the pool', False, C, 60):.1f} s")
    finally:
        on(C, f"docker unpause {stalled}")
    print(f"back in it after {until('in the pool', True, C, 60):.1f} s")


def test_a_reboot_in_the_middle_of_a_swap_keeps_one_whole_release(fleet: Fleet) -> None:
    before = fleet.states()
    run = fleet.begin("deploy", **fleet.release("rebooted"))
    run.reached("Roll, host by host")
    time.sleep(4)
    subprocess.run(["docker", "restart", "--time", "1", A], check=True, capture_output=True, timeout=120)
    assert run.wait() != 0, run.output()
    print(f"serves {until_it_serves(fleet, A, 60):.1f} s after the reboot")
    healed = fleet.deploy(**fleet.release("rebooted"))
    assert healed.code == 0, healed.output
    assert fleet.whole()
    assert fleet.states() != before
