"""The database gets to another major version of PostgreSQL, with all that it has, and back, after the other tests."""

from __future__ import annotations

import json
from typing import Any

from contract import until
from deployment import Deployment

NEW = {"postgres_image": "slipway.lab/postgres:17"}
VERSION = "SELECT current_setting('server_version_num')::int / 10000"
KEPT = "SELECT count(*), sum(id) FROM ballast"
PSQL = "docker exec -i slipway-postgres-postgres-1 psql --username postgres --tuples-only --no-align"


def sql(host: Any, statement: str) -> str:
    found: str = host.check_output(f'{PSQL} shortlinks -c "{statement}"')
    return found.strip()


def entries(host: Any) -> list[tuple[str, str]]:
    lines = map(json.loads, host.check_output("cat /opt/slipway/shortlinks/ledger.jsonl").splitlines())
    return [(one["what"], one["result"]) for one in lines if one.get("operation") == "upgrade_database"]


def test_provisioning_refuses_and_names_the_playbook(deployment: Deployment) -> None:
    outcome = deployment.play("provision", **NEW)
    assert outcome.code == 2
    assert "The data of this host is of PostgreSQL 15" in outcome.failure()
    assert "slipway.fleet.upgrade_database" in outcome.failure()


def test_a_check_run_shows_the_plan_and_a_run_wants_the_name(host: Any, deployment: Deployment) -> None:
    outcome = deployment.play("upgrade_database", "--check", **NEW)
    assert (outcome.code, outcome.changed) == (0, 0), outcome.output
    assert "PostgreSQL 15 to 17" in outcome.output
    outcome = deployment.play("upgrade_database", **NEW)
    assert outcome.code == 2
    assert "-e slipway_confirm=shortlinks" in outcome.failure()
    assert sql(host, VERSION) == "15"


def test_the_data_is_in_the_new_version_and_the_old_one_is_kept(host: Any, deployment: Deployment) -> None:
    before = sql(host, KEPT)
    outcome = deployment.play("upgrade_database", slipway_confirm="shortlinks", **NEW)
    assert outcome.code == 0, outcome.output
    assert "nobody was let into the database for" in outcome.output
    assert sql(host, VERSION) == "17"
    assert sql(host, KEPT) == before
    deployment.wait_until_serving()
    assert deployment.get("/version")[0] == 200, "the maintenance page is gone"
    assert "slipway-postgres-data" in host.check_output("docker volume ls --quiet").split()
    assert entries(host) == [("to slipway.lab/postgres:17", "begun"), ("PostgreSQL 15 to 17", "done")]
    state = json.loads(host.check_output("cat /var/lib/slipway/backup/state.json"))
    assert state["newest"]["reason"] == "before-an-upgrade"


def test_the_way_back_serves_what_was_kept(host: Any, deployment: Deployment) -> None:
    sql(host, "CREATE TABLE written_in_17 (id int)")
    outcome = deployment.play("upgrade_database", slipway_back=True, **NEW)
    assert "is lost to the apps then" in outcome.failure()
    outcome = deployment.play("upgrade_database", slipway_back=True, slipway_confirm="shortlinks", **NEW)
    assert outcome.code == 0, outcome.output
    assert sql(host, VERSION) == "15"
    assert sql(host, "SELECT to_regclass('written_in_17') IS NULL") == "t"
    deployment.wait_until_serving()
    assert deployment.get("/version")[0] == 200


def test_points_in_time_that_are_not_wanted_cost_the_server_nothing(host: Any, deployment: Deployment) -> None:
    slots = "SELECT string_agg(slot_name, ',') FROM pg_replication_slots"
    until(lambda: sql(host, slots) == "slipway_wal", "the timer keeps the log of the server that serves")
    outcome = deployment.play("provision", backup_wal=False)
    assert outcome.code == 0, outcome.output
    assert sql(host, slots) == ""
    assert host.run("systemctl cat slipway-backup-wal.timer slipway-backup-wal.service").rc != 0
    assert json.loads(host.check_output("slipway-backup status"))["points"] is None
