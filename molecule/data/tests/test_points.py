"""The database of a host is restored to a point in time, which is kept by a timer beside the sets.

The tests are a story, and run in the order of the file, after those of the sets.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from backed import PSQL, asked, sql
from contract import until
from deployment import Deployment

# When it ended last; a container that was never anything but started has no such time.
ENDED = "docker inspect --format '{{.State.FinishedAt}}' slipway-postgres-postgres-1"
NEVER = "0001-01-01T00:00:00Z"


def points(host: Any) -> dict[str, Any]:
    found: dict[str, Any] = asked(host, "status")["points"]
    return found


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def noted(host: Any, word: str) -> str:
    """Write a row; a time after it, before whatever is written next."""
    sql(host, f"INSERT INTO notes (word) VALUES ('{word}')")  # noqa: S608 - words of this file
    now = "clock_timestamp() AT TIME ZONE 'UTC'"
    time = sql(host, f"SELECT to_char({now}, 'YYYY-MM-DD') || 'T' || to_char({now}, 'HH24:MI:SS.US') || 'Z'")
    sql(host, "SELECT pg_sleep(0.1)")
    return time


def test_they_are_kept_without_a_restart_and_without_being_asked(host: Any) -> None:
    assert host.check_output("systemctl is-active slipway-backup-wal.timer") == "active"

    def kept() -> bool:
        known = points(host)
        return bool(known["follows"]) and known["behind"] is not None and known["behind"] < 180

    until(kept, "a base was made, and the log follows on it and keeps up")
    assert sql(host, "SHOW archive_mode") == "off"
    assert host.check_output(ENDED) == NEVER, "the database runs since it was made"


def test_the_database_comes_back_as_it_was_at_a_time(host: Any, deployment: Deployment) -> None:
    sql(host, "CREATE TABLE notes (id int GENERATED ALWAYS AS IDENTITY, word text)")
    sql(host, "ALTER TABLE notes OWNER TO shortlinks")
    links = sql(host, "SELECT count(*) FROM links")
    noted(host, "first")
    time = noted(host, "second")
    noted(host, "third")
    sql(host, "DROP TABLE ballast")

    assert asked(host, f"restore --time {time} --part all --confirm shortlinks")["point"] == time
    assert sql(host, "SELECT string_agg(word, ' ' ORDER BY id) FROM notes") == "first second"
    assert sql(host, "SELECT count(*) FROM ballast") != "0"
    assert sql(host, "SELECT count(*) FROM links") == links
    deployment.wait_until_serving()
    assert host.run("docker inspect slipway-point").rc != 0, "the server of the recovery is gone"
    assert host.run("ls /var/lib/slipway/backup/point").rc != 0
    assert f'"what": "{time}, all"' in host.check_output("cat /opt/slipway/shortlinks/ledger.jsonl")


def test_a_drill_recovers_the_newest_point(host: Any) -> None:
    proof = asked(host, "drill")["point"]
    assert proof["rows"] >= 2
    assert points(host)["proven"] == proof
    assert host.run("docker inspect slipway-point").rc != 0


def test_a_time_that_cannot_be_reached_is_refused(host: Any) -> None:
    reach = points(host)["reach"]
    refused = host.run("slipway-backup restore --time 2020-01-01T00:00:00Z --part all --confirm shortlinks")
    assert refused.rc == 1
    assert f"these points can be: from {reach[0][0]} to" in refused.stderr


def test_it_goes_on_after_a_crash_of_the_database(host: Any) -> None:
    gaps = points(host)["gaps"]
    host.check_output("docker kill slipway-postgres-postgres-1 && docker start slipway-postgres-postgres-1")
    until(lambda: host.run(f"{PSQL} shortlinks -c 'SELECT 1'").rc == 0, "the database is there again")
    time = noted(host, "after a crash")
    # One of them has parts of a second, and as texts they have no order.
    until(lambda: moment(points(host)["reach"][-1][1]) > moment(time), "the timer has kept it")
    assert points(host)["follows"]
    assert points(host)["gaps"] == gaps
