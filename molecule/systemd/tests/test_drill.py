"""Sets of a host without Docker are proven with the release that serves, which comes to nothing that is live."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from contract import SELDOM, Promise, shown, until
from deployment import Deployment

STATE = "/var/lib/slipway/backup/state.json"
UNIT = "slipway-shortlinks@drill.service"
SOCKETS = ("/run/postgresql/.s.PGSQL.5432", "/run/redis/redis.sock")
# What a process of a unit sees: its addresses but those of its own loopback, what /run has, and its sockets.
SEEN = (
    "nsenter --target {pid} --net ip -json address",
    "nsenter --target {pid} --mount ls /run",
    f"nsenter --target {{pid}} --mount stat --format %d:%i {' '.join(SOCKETS)}",
)
REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.add_column("links", sa.Column("stamp", sa.Float(), server_default=sa.text("random()"), nullable=False))
"""


def state(host: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.check_output(f"cat {STATE}"))
    return found


def assert_nothing_left(host: Any) -> None:
    """Of the servers, the network and the release of a drill."""
    assert host.check_output("ip netns list") == ""
    for path in ("/var/lib/postgresql/slipway-drill", "/run/slipway/shortlinks/drill", f"/run/systemd/system/{UNIT}"):
        assert host.run(f"ls {path}").rc != 0
    units = "'slipway-*@drill*' 'slipway-drill-*'"
    # What has ended systemd forgets a moment later.
    until(lambda: host.check_output(f"systemctl list-units --all --plain --no-legend {units}") == "", "no unit is left")


@pytest.fixture(scope="module", autouse=True)
def saved(host: Any, deployment: Deployment) -> None:
    """A set of a host that serves."""
    assert deployment.version()["release"]
    host.check_output("slipway-backup backup")


@pytest.fixture
def drilled(host: Any) -> Iterator[int]:
    """A drill is under way, in which the release has been started and stands still; its main process."""
    host.check_output("systemd-run --unit=drilled --remain-after-exit slipway-backup drill")
    try:
        until(lambda: shown(host, UNIT, "ActiveState") == "active", "the release is started against the set")
        process = int(shown(host, UNIT, "MainPID"))
        host.check_output(f"kill -STOP {process}")
        yield process
    finally:
        host.run(f"kill -CONT {process}; systemctl stop drilled; systemctl reset-failed drilled")


def test_the_release_comes_to_nothing_that_is_live(host: Any, promise: Promise, drilled: int) -> None:
    links, run, sockets = (host.check_output(words.format(pid=drilled)) for words in SEEN)
    assert [link["ifname"] for link in json.loads(links)] == ["lo"]
    assert set(run.split()) <= {"credentials", "postgresql", "redis", "slipway", "systemd", "host", "lock"}
    live = host.check_output(f"stat --format %d:%i {' '.join(SOCKETS)}").split()
    assert not set(sockets.split()) & set(live), "servers stand in for those that are live"
    host.check_output(f"kill -CONT {drilled}")
    until(lambda: shown(host, "drilled", "SubState") in ("exited", "failed"), "the drill ends", every=SELDOM)
    proven = state(host)["proven"]
    (found,) = proven["releases"]
    serves = json.loads(host.check_output("cat /opt/slipway/shortlinks/state.json"))["release"]
    assert (found["release"], found["unproven"], proven["unproven"]) == (serves, "", "")
    assert_nothing_left(host)


@pytest.mark.one_host
def test_a_drill_that_is_killed_is_tidied_up_by_the_next_one(host: Any, drilled: int) -> None:
    before = state(host)["proven"]
    host.check_output("systemctl kill --signal=KILL drilled")
    until(lambda: shown(host, "drilled", "ActiveState") == "failed", "it is gone")
    assert state(host)["proven"] == before
    host.check_output(f"kill -CONT {drilled}")
    host.check_output("slipway-backup drill")
    assert state(host)["proven"]["proven"] != before["proven"], "by the later one"
    assert_nothing_left(host)


@pytest.mark.one_host
def test_a_migration_is_rehearsed(host: Any, deployment: Deployment) -> None:
    serves = deployment.version()["release"]
    source = deployment.source("stamped", {"app/migrations/versions/0003_stamp.py": REVISION})
    outcome = deployment.deploy(**deployment.made_from(source), fastapi_app_rehearse=True)
    assert outcome.code == 0, outcome.output
    made = state(host)["newest"]
    for words in (
        f"rehearsed on set {made['set']} of {made['time']}: 0003 in",
        "rehearsed: public.links is locked against reads and writes for",
        f"rehearsed: release {serves}, which serves, passes its gate on the migrated copy",
        "the database is at revision 0003",
    ):
        assert words in outcome.output
    assert_nothing_left(host)
