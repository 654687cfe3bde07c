"""Good releases, rollbacks and restarts under a heavy load: nothing is lost, and a second deploy does nothing."""

from __future__ import annotations

import base64
import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.filter.release import login_of
from contract import ROOT
from deployment import assert_nothing_lost
from fleet import APP, AT_ONCE, BALANCER, DATA, ENVIRONMENT, HOME, SLOTS, WEB, Fleet, asked_by_tls, on, outcomes
from soak import LONG

# Requests over all rolls.
ENOUGH, RATE = (50_000, "120") if LONG else (3000, "20")
# One of each kind at least, new passwords as the new configuration; more of them find what comes with age.
ROLLS = ["rotate", "code", "rollback", "restart"]
if LONG:
    ROLLS = ["deploy", *ROLLS[:3], "deploy", "restart", "deploy", "deploy", "rollback", "deploy"]
# What the vault has from the rotation on, and who may log in to the database then.
ROTATED = {"vault_postgres_password": "for-tests-only-rotated-1", "vault_redis_password": "for-tests-only-rotated-2"}
LOGINS = (
    "docker exec slipway-postgres-postgres-1 psql --username postgres --tuples-only --no-align"
    " --command \"SELECT rolname FROM pg_roles WHERE rolcanlogin AND starts_with(rolname, 'shortlinks')\""
)


def test_no_haproxy_was_started_with_what_it_cannot_run_with(fleet: Fleet) -> None:
    """One that falls is started again and again, which ends with systemd giving it up on a quick machine."""
    for host in (BALANCER, *WEB):
        said = on(host, "journalctl --unit haproxy.service --no-pager --output cat")
        assert "haproxy version is" in said or "New worker" in said, "the log has its starts"
        assert "exited with code 1" not in said, f"{host}: {said}"


@pytest.mark.soak
@pytest.mark.parametrize("_", [f"{len(ROLLS)} rolls"])
def test_rolls_lose_nothing(fleet: Fleet, _: str) -> None:
    """New passwords, code, rollbacks and a restart; requests of 1 s and 10 s, streams and websockets among the rest."""
    numbers = itertools.count(1)
    seen = [fleet.version()["release"]]
    code = fleet.source("changed", {"app/__init__.py": "\n# another\n"})
    heavy = ("--rate", RATE, "--keepalive", "8", "--fresh", "4", "--post", "2", "--slow", "3", "--slow-seconds", "10",
             "--stream-pause", "15", "--at-least", str(ENOUGH))  # fmt: skip
    with fleet.load("rolls", *heavy) as report:
        for kind in ROLLS:
            variables = fleet.release(f"r{next(numbers)}") if kind in ("deploy", "code") else {}
            if kind == "rotate":
                fleet.usual.update(ROTATED)
            if kind == "code":
                variables["fastapi_image_context"] = code
            # Two batches: with three, the drain of websockets alone would take most of the time.
            outcome = fleet.play("deploy" if kind == "code" else kind, **variables, slipway_batches=[1, "100%"])
            assert outcome.code == 0, outcome.output
            assert outcomes(outcome.output) == ["good"] * len(WEB)
            assert len(set(fleet.states().values())) == 1
            seen.append(fleet.version()["release"])
            if kind == "rotate":
                assert on(DATA, LOGINS).split() == [login_of(APP, ROTATED["vault_postgres_password"])], "no former one"
                assert on(DATA, "cat /opt/slipway/redis/secrets/users.acl").count(" #") == 1
    assert len(seen) == len(ROLLS) + 1
    assert report["total"] >= ENOUGH
    assert asked_by_tls() == set(WEB), "that is how the load came to the hosts"
    assert_nothing_lost(report)


def test_the_same_release_again_changes_nothing_and_a_host_is_asked_little(fleet: Fleet) -> None:
    """Eight requests over the channel at most, which -vvv shows; signs of life of a long run are not counted."""
    changing = fleet.deploy("-vvv", **fleet.release("same"), **AT_ONCE)
    before = fleet.pids()
    idle = fleet.deploy("-vvv", **fleet.release("same"))
    asked = []
    for outcome in (changing, idle):
        assert outcome.code == 0, outcome.output
        assert "Using module file" not in outcome.output
        asked.append(len(re.findall(r"^<[\w-]+> slipway: (?!renew)\w+$", outcome.output, re.MULTILINE)) / len(WEB))
    assert (changing.changed > 0, idle.changed) == (True, 0), idle.output
    assert fleet.pids() == before, "no process was started anew"
    assert "nothing was changed" in idle.output
    print(f"requests per host: deploy {asked[0]:.1f}, nothing to do {asked[1]:.1f}")
    assert asked[0] <= 8
    assert 0 < asked[1] <= 4


@pytest.fixture
def ci(fleet: Fleet, scratch: Path) -> Fleet:
    """The fleet as a CI job has it: a user of its own, whom sudo lets do what the page for deploy users says."""
    page = (ROOT / "docs/hosts.md").read_text(encoding="utf-8")
    install = re.search(r"^    (visudo -cf sudoers-deploy && install .+)$", page, re.MULTILINE)
    assert install
    rule = (ROOT / "docs/examples/sudoers-deploy").read_text(encoding="utf-8").replace("\ndeploy ALL", "\nci ALL")
    for host in (*WEB, DATA, BALANCER):
        encoded = base64.b64encode(rule.encode()).decode()
        on(host, f"useradd --create-home ci && cp -r /home/deploy/.ssh /home/ci/ && chown -R ci: /home/ci/.ssh"
                 f" && cd /run && echo {encoded} | base64 -d >sudoers-deploy && {install[1]}")  # fmt: skip
    directory = scratch / "ci"
    directory.mkdir()
    (directory / "group_vars").symlink_to(ROOT / "molecule/rolling/group_vars")
    hosts = yaml.safe_load(Path(fleet.inventory).read_text())
    hosts["all"]["vars"]["ansible_user"] = "ci"
    (directory / "hosts.yml").write_text(yaml.safe_dump(hosts))
    return replace(fleet, inventory=str(directory / "hosts.yml"))


def test_a_rollback_returns_to_the_last_good_release_with_its_configuration(fleet: Fleet, ci: Fleet) -> None:
    """The second deploy and the rollback by a user who has just the rights that they need."""
    configured = {"fastapi_app_environment": ENVIRONMENT | {"HITS_FLUSH_INTERVAL": "0.7"}}
    good = fleet.deploy(**fleet.release("good"), **configured, **AT_ONCE)
    assert good.code == 0, good.output
    wanted = fleet.version()["release"]
    bad = ci.deploy(**fleet.release("bad"), **AT_ONCE)
    assert bad.code == 0, bad.output
    turns = fleet.scratch / "turns"
    script = ["sh", "-c", f'echo "$0 $SLIPWAY_HOST: $SLIPWAY_OPERATION to $SLIPWAY_RELEASE" >> {turns}']
    turn = {f"fastapi_app_{when}_turn": [*script, when + " {{ inventory_hostname }}"] for when in ("before", "after")}
    outcome = ci.play("rollback", **turn, slipway_batches=[1])
    assert outcome.code == 0, outcome.output
    assert turns.read_text().splitlines() == [
        f"{when} {host} {host}: rollback to {wanted}" for host in WEB for when in ("before", "after")
    ]
    for told in ("status", "history"):
        outcome = ci.play(told)
        assert (outcome.code, outcome.changed) == (0, 0), outcome.output
    for words in ("cat /etc/shadow", "-i", "sh -c id", "python3 -c 0"):
        on(next(iter(WEB)), f"! runuser -u ci -- sudo -n {words}")
    assert fleet.whole() == wanted
    for host in WEB:
        assert "0.7" in on(host, f"docker inspect $(docker ps --quiet {SLOTS})")
    records = [json.loads(line) for line in on(next(iter(WEB)), f"cat {HOME}/ledger.jsonl").splitlines()]
    assert (records[-1]["operation"], records[-1]["release"]) == ("rollback", wanted)
    phases = {phase["phase"]: phase["seconds"] for phase in records[-1]["phases"]}
    print(f"a rollback on one host: {phases}")


def test_a_rollback_to_what_is_not_there_is_refused(fleet: Fleet) -> None:
    before = fleet.states()
    outcome = fleet.play("rollback", fastapi_app_release="0123456789ab")
    assert outcome.code != 0
    assert "release 0123456789ab is no good release of this host; there are:" in outcome.failure()
    assert fleet.states() == before


def test_a_plan_tells_everything_and_changes_nothing(fleet: Fleet) -> None:
    before, pids = fleet.states(), fleet.pids()
    files = {host: on(host, f"find {HOME} /var/lib/docker/image -type f | sort | md5sum") for host in WEB}
    outcome = fleet.deploy("--check", "--diff", **fleet.release("planned"), fastapi_app_workers=3)
    assert outcome.code == 0, outcome.output
    plan = outcome.output[outcome.output.index("Plan: release") :]
    assert "on 3 of 3 hosts, in this order:" in plan
    for number, host in enumerate(WEB, 1):
        assert f"batch {number}: {host} ({before[host]})" in plan
    assert "Least free disk:" in plan
    assert "API, compared before each switch: a break is named" in plan
    # The file of the release that serves against the new one.
    assert '-      "GUNICORN_WORKERS": "1"' in outcome.output
    assert '+      "GUNICORN_WORKERS": "3"' in outcome.output
    assert (fleet.states(), fleet.pids()) == (before, pids)
    assert files == {host: on(host, f"find {HOME} /var/lib/docker/image -type f | sort | md5sum") for host in WEB}


def test_maintenance_is_shown_by_the_whole_fleet_and_ends(fleet: Fleet) -> None:
    assert fleet.play("maintenance", slipway_maintenance="on").code == 0
    try:
        status, page = fleet.get("/")
        assert (status, "maintenance" in page) == (503, True)
        assert fleet.get("/readyz")[0] == 200
    finally:
        assert fleet.play("maintenance", slipway_maintenance="off").code == 0
    assert {fleet.get("/")[0] for _ in range(6)} == {200}


def test_the_report_is_there(fleet: Fleet) -> None:
    page = max((ROOT / "reports" / Path(fleet.inventory).parent.name).glob("*.html"))
    report = json.loads(page.with_suffix(".json").read_text())
    assert report["verdict"] == "good"
    assert len(report["hosts"]) == len(WEB)
    names = [play["name"] for play in report["plays"]]
    assert names.index("Preflight, changes nothing") < names.index("Roll, host by host") < names.index("Tell")
    assert all(play["seconds"] >= 0 for play in report["plays"])
    assert page.read_text().startswith("<!doctype html>")
