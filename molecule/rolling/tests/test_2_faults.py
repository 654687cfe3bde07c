"""What breaks in the middle of a roll: the fleet is back on the old release, later hosts were never touched, and the
run says why. One load runs over all of it."""

from __future__ import annotations

import json
import signal
import time
from typing import Any

import pytest
from contract import until
from fleet import (
    AT_ONCE,
    BALANCER,
    ENVIRONMENT,
    HOME,
    WEB,
    Fleet,
    Run,
    drained,
    edge_process,
    on,
    outcomes,
    table,
    unreachable,
)
from soak import LONG

pytestmark = pytest.mark.usefixtures("loaded")

A, B, C = WEB
# Put at the end of app/main.py: readiness that breaks once users have posted for a while, which they do to what serves.
SICK_LATER = """

_whole, _posts = app, []


async def app(scope, receive, send):  # noqa: F811 - in place of the whole one
    if scope["type"] == "http" and scope["method"] == "POST":
        _posts.append(scope["path"])
    if scope["type"] == "http" and scope["path"] == "/readyz" and len(_posts) > 20:
        raise RuntimeError("it got sick")
    await _whole(scope, receive, send)
"""


def broken_on(host: str, **more: Any) -> dict[str, Any]:
    """A release that cannot start on one host of the fleet."""
    workers = f"{{{{ 'many' if inventory_hostname == '{host}' else 1 }}}}"
    return {
        "fastapi_app_revision": f"broken on {host}",
        "fastapi_app_environment": ENVIRONMENT | {"GUNICORN_WORKERS": workers},
        **more,
    }


def test_a_host_in_the_middle_fails_and_all_are_back(fleet: Fleet) -> None:
    before = fleet.states()
    outcome = fleet.deploy(**broken_on(B))
    assert outcome.code == 2, outcome.output
    rows = table(outcome.output)
    assert [rows[host]["outcome"] for host in WEB] == ["reverted", "failed", "untouched"]
    assert all(row["now"] == row["was"] for row in rows.values())
    assert "GUNICORN_WORKERS is 'many'" in outcome.output
    assert fleet.states() == before
    fleet.whole()


def test_hold_leaves_it_and_says_so(fleet: Fleet) -> None:
    before = fleet.states()
    outcome = fleet.deploy(**broken_on(B, fastapi_app_on_failure="hold"))
    assert outcome.code == 2, outcome.output
    assert outcomes(outcome.output) == ["held", "failed", "untouched"]
    assert "fastapi_app_on_failure" in outcome.output
    after = fleet.states()
    assert after[A] != before[A]
    assert (after[B], after[C]) == (before[B], before[C])
    healed = fleet.deploy(**fleet.release("after hold"), **AT_ONCE)
    assert healed.code == 0, healed.output


def test_a_release_that_gets_sick_while_it_soaks_is_back(fleet: Fleet) -> None:
    before = fleet.states()
    source = fleet.source("sick", {"app/main.py": SICK_LATER})
    outcome = fleet.deploy(**fleet.release("sick"), fastapi_image_context=source, fastapi_app_soak=300)
    assert outcome.code == 2, outcome.output
    assert "got sick soon after the switch" in outcome.output
    assert outcomes(outcome.output) == ["failed", "untouched", "untouched"]
    assert fleet.states() == before
    fleet.whole()


def test_an_image_that_nobody_has_stops_before_any_switch(fleet: Fleet) -> None:
    before = fleet.pids()
    outcome = fleet.deploy(
        **fleet.release("nobody"), fastapi_image_source="pull", fastapi_image_name="127.0.0.1:1/nobody:has-it"
    )
    assert outcome.code != 0
    assert "127.0.0.1:1/nobody:has-it" in outcome.output
    assert fleet.pids() == before
    fleet.unlocked()


# A host's transaction lasts so long at least that it is still under way when a network was cut meanwhile. What a busy
# machine does to the times of requests is not to end it before.
LONG_ENOUGH = {"fastapi_app_soak": 10, "slipway_reconnect": 15, "fastapi_app_canary": {"judged": False}}


class TestUnreachable:
    def test_before_the_run(self, fleet: Fleet) -> None:
        before = fleet.pids()
        with unreachable(B):
            outcome = fleet.deploy(**fleet.release("unreachable before"), slipway_reconnect=15)
        assert outcome.code != 0
        assert f"nothing was changed; {B} cannot be reached" in outcome.output.replace("\n        ", " ")
        assert f"--limit 'all:!{B}'" in outcome.failure().replace("''", "'")
        assert fleet.pids() == before

    def test_in_the_middle_of_its_own_transaction(self, fleet: Fleet) -> None:
        """Its transaction goes on by itself, so it ends on the new release; a rerun heals the fleet."""
        before = fleet.states()
        variables = fleet.release("unreachable in its turn")
        run = fleet.begin("deploy", **variables, **LONG_ENOUGH)
        run.reached(f"\n{A}  ")
        fleet.under_way(B, run)
        with unreachable(B):
            assert run.wait() == 2, run.output()
        rows = table(run.output())
        assert rows[B]["outcome"] == "unreachable", run.output()
        assert (rows[A]["now"], rows[C]["now"]) == (before[A], before[C])
        assert f"{B}" in run.output().partition("was refused")[2]
        fleet.whole()
        healed = fleet.deploy(**variables, **AT_ONCE)
        assert healed.code == 0, healed.output
        assert len(set(fleet.states().values())) == 1


def test_of_two_controllers_one_proceeds_and_the_other_names_it(fleet: Fleet) -> None:
    runs = [fleet.begin("deploy", **fleet.release(f"controller {number}")) for number in (1, 2)]
    codes = [run.wait() for run in runs]
    assert min(codes) == 0, "\n".join(run.output()[-3000:] for run in runs)
    assert max(codes) != 0
    loser = runs[codes.index(max(codes))].output()
    assert "is under way since" in loser
    assert "a deploy by" in loser
    assert len(set(fleet.states().values())) == 1


# Where the controller is killed: words that the run prints just before, and how long to wait then. Each of the signals,
# while the database is changed, and in the middle of the roll. A fleet is settled only where a host failed.
SETTLES = "Settle the fleet"
POINTS = [
    ("Migrate, once for all hosts", 1.0, signal.SIGKILL),
    ("Roll, host by host", 3.0, signal.SIGINT),
    (f"\n{B}  ", 1.0, signal.SIGTERM),
]
if LONG:
    POINTS += [
        ("Preflight, changes nothing", 1.0, signal.SIGINT),
        (f"\n{A}  ", 2.0, signal.SIGKILL),
        ("Hold the fleet", 1.0, signal.SIGKILL),
        ("beside what runs", 1.5, signal.SIGTERM),
        ("Image or package on every host", 0.2, signal.SIGKILL),
        ("and its own check", 2.5, signal.SIGINT),
        ("Roll, host by host", 0.3, signal.SIGTERM),
        ("Roll, host by host", 1.5, signal.SIGKILL),
        ("Roll, host by host", 6.0, signal.SIGTERM),
        (SETTLES, 0.5, signal.SIGKILL),
        ("\nTell", 0.1, signal.SIGKILL),
    ]


@pytest.mark.soak
@pytest.mark.parametrize("point", range(len(POINTS)), ids=[f"{where} {number.name}" for where, _, number in POINTS])
def test_a_killed_controller_leaves_whole_hosts_and_a_free_lock(fleet: Fleet, point: int) -> None:
    """Each run is the rerun of the one before: nothing is cleaned up by hand in between."""
    words, pause, number = POINTS[point]
    release = broken_on(C) if words == SETTLES else fleet.release(f"killed at {point}")
    run: Run = fleet.begin("deploy", **release)
    run.reached(words)
    time.sleep(pause)
    code = run.kill(number)
    assert code != 0, "the run had ended before"
    freed = fleet.unlocked()
    fleet.whole()
    print(f"killed at {words!r} with {number.name}: exit code {code}, lock free after {freed:.1f} s")


@pytest.mark.soak
def test_after_all_those_kills_a_deploy_converges(fleet: Fleet) -> None:
    outcome = fleet.deploy(**fleet.release("after the kills"), **AT_ONCE)
    assert outcome.code == 0, outcome.output
    assert fleet.whole()
    for host in WEB:
        lines = [json.loads(line) for line in on(host, f"cat {HOME}/ledger.jsonl").splitlines()]
        assert [line["result"] for line in lines if "release" in line][-1] == "good"


class TestMigrations:
    ADDITIVE = (
        "from alembic import op\nimport sqlalchemy as sa\n\nrevision = '0003'\ndown_revision = '0002'\n\n\n"
        "def upgrade():\n    op.add_column('links', sa.Column('note', sa.Text))\n"
    )
    FAILING = "def upgrade():\n    op.execute('SELECT 1 / 0')\n"
    CONTRACT = "def upgrade():\n    op.drop_column('links', 'note')\n"

    def source(self, fleet: Fleet, name: str, revisions: dict[str, str]) -> str:
        directory = fleet.source(name)
        for file, text in revisions.items():
            with open(f"{directory}/app/migrations/versions/{file}.py", "w", encoding="utf-8") as stream:
                stream.write(text)
        return directory

    def after(self, revision: str, before: str, body: str) -> str:
        return f"from alembic import op\n\nrevision = '{revision}'\ndown_revision = '{before}'\n\n\n{body}"

    def test_it_runs_once_and_the_release_before_serves_on_the_new_schema(self, fleet: Fleet) -> None:
        """The load goes on over the roll, so the old release answers on the new schema until its host's turn."""
        source = self.source(fleet, "additive", {"0003_note": self.ADDITIVE})
        outcome = fleet.deploy(**fleet.release("additive"), fastapi_image_context=source)
        assert outcome.code == 0, outcome.output
        applied = [
            json.loads(line).get("migration")
            for line in on(A, f"cat {HOME}/ledger.jsonl").splitlines()
            if "additive" in line
        ]
        assert applied == ["0003"]
        again = fleet.play("rollback", **AT_ONCE)
        assert again.code == 0, again.output

    def test_one_that_fails_changes_no_host(self, fleet: Fleet) -> None:
        before = fleet.pids()
        source = self.source(
            fleet, "failing", {"0003_note": self.ADDITIVE, "0004_bad": self.after("0004", "0003", self.FAILING)}
        )
        outcome = fleet.deploy(**fleet.release("failing"), fastapi_image_context=source)
        assert outcome.code != 0
        assert "division by zero" in outcome.output
        assert fleet.pids() == before
        fleet.unlocked()

    def test_one_that_takes_something_away_is_refused_and_so_is_a_rollback_past_it(self, fleet: Fleet) -> None:
        before = fleet.pids()
        revisions = {"0003_note": self.ADDITIVE, "0004_contract": self.after("0004", "0003", self.CONTRACT)}
        source = self.source(fleet, "contract", revisions)
        variables = {**fleet.release("contract"), "fastapi_image_context": source}
        outcome = fleet.deploy(**variables)
        assert outcome.code != 0
        assert "revision 0004: ALTER TABLE links DROP COLUMN note" in outcome.output
        assert fleet.pids() == before
        additive = str(fleet.scratch / "additive")
        assert fleet.deploy(**fleet.release("additive"), **AT_ONCE, fastapi_image_context=additive).code == 0
        assert fleet.deploy(**variables, **AT_ONCE, fastapi_app_allow_destructive=True).code == 0
        states = fleet.states()
        refused = fleet.play("rollback")
        assert refused.code != 0
        assert "revision 0004" in refused.output
        assert "cannot be rolled back to" in refused.output
        assert fleet.states() == states


def test_restarts_of_docker_and_reloads_of_haproxy_lose_nothing(fleet: Fleet) -> None:
    """Judged by the load over this file."""
    before = fleet.states()
    for host in WEB:
        on(host, "systemctl restart docker")
        on(host, "systemctl reload haproxy")
    on(BALANCER, "systemctl reload haproxy")
    time.sleep(3)
    assert fleet.serving() == before


def test_a_balancer_remembers_a_drained_host_over_a_reload(fleet: Fleet) -> None:
    assert fleet.play("drain", haproxy_server=C).code == 0
    before = edge_process()
    on(BALANCER, "systemctl reload haproxy")
    until(lambda: edge_process() not in {before, 0}, "the load balancer's next process answers")
    assert drained() == {C}
    assert fleet.play("drain", haproxy_server=C, haproxy_server_state="ready").code == 0
    assert drained() == set()


def test_drift_ends_status_with_3(fleet: Fleet) -> None:
    release = fleet.states()[B]
    path = f"{HOME}/releases/{release}/compose.yaml"
    on(B, f"cp -a {path} /run/kept && echo '# by hand' >> {path}")
    try:
        outcome = fleet.play("status")
    finally:
        on(B, f"cp -a /run/kept {path}")
    assert outcome.code == 3, outcome.output
    assert f"compose.yaml of release {release} was changed by hand" in outcome.output
