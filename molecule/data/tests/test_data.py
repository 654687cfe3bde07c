"""Sets are made, proven, damaged, restored, and killed on the way; what is live is never touched by what fails.

The tests are a story, and run in the order of the file.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from backed import PSQL, REVISION, VOLUME, asked, refused, sql
from contract import until
from deployment import Deployment

STATE = "/var/lib/slipway/backup/state.json"
REPOSITORY = "/srv/repository"
BESIDE = "SELECT count(*) FROM pg_database WHERE datname LIKE 'slipway_restoring_%'"
# Bases of the database are there too, of which a set needs nothing, so each pack of some size is damaged.
PACKS = f"find {REPOSITORY}/data -type f -size +100k -exec"


def state(host: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.check_output(f"cat {STATE}"))
    return found


def sets(host: Any) -> list[str]:
    found = json.loads(host.check_output("slipway-backup restic snapshots --json --tag slipway-set"))
    return [entry["short_id"] for entry in found]


@pytest.fixture(scope="module", autouse=True)
def data(host: Any, deployment: Deployment) -> None:
    """Rows, files and a volume of which some will be lost."""
    assert deployment.version()["release"]
    sql(host, "DROP TABLE IF EXISTS ballast")
    sql(host, "CREATE TABLE ballast AS SELECT g AS id, md5(g::text) AS words FROM generate_series(1, 100000) g")
    sql(host, "ALTER TABLE ballast OWNER TO shortlinks")
    host.check_output(f"mkdir -p /srv/uploads/a && echo first >/srv/uploads/a/b && echo picture >{VOLUME}/c")
    host.check_output(f"chown --reference={VOLUME} {VOLUME}/c")


def test_nothing_is_proven_before_there_is_a_set(host: Any) -> None:
    # The first copy of the log makes the repository, and may do so a moment later.
    said = refused(host, "drill")
    assert "has no set of backup-host" in said or "nothing can be proven: there is no repository" in said
    assert state(host)["error"]["fault"] == "empty"


def test_a_set_is_made_and_proven(host: Any, deployment: Deployment) -> None:
    outcome = deployment.play("backup")
    assert outcome.code == 0, outcome.output
    outcome = deployment.play("drill")
    assert outcome.code == 0, outcome.output
    known = state(host)
    assert "error" not in known
    assert known["proven"]["set"] == known["newest"]["set"]
    assert known["proven"]["rows"] >= 100_000
    (proven,) = known["proven"]["releases"]
    assert (proven["release"], proven["unproven"]) == (deployment.version()["release"], "")
    files = host.check_output(f"slipway-backup restic ls --json --long {known['newest']['set']}")
    assert "/manifest.json" in files
    assert host.run("docker network inspect slipway-drill").rc != 0, "the network of the drill is gone"
    assert not host.check_output("docker ps --all --quiet --filter name=slipway-drill"), "and its server and caches"
    assert host.run("ls -d /run/slipway/shortlinks/drill").rc != 0, "and the release that was started with it"


def test_it_has_what_cannot_be_made_again(host: Any) -> None:
    listed = host.check_output("slipway-backup restic ls latest --tag slipway-content").splitlines()
    release = json.loads(host.check_output("cat /opt/slipway/shortlinks/state.json"))["release"]
    for path in (
        "/srv/uploads/a/b",
        "/var/lib/slipway/shortlinks/volumes/media/c",
        "/opt/slipway/shortlinks/ledger.jsonl",
        f"/opt/slipway/shortlinks/releases/{release}/secrets/SECRET_KEY",
        "/var/lib/slipway/backup/spool/database-shortlinks.dump",
        "/var/lib/slipway/backup/spool/globals.sql",
    ):
        assert path in listed
    assert host.run("ls /var/lib/slipway/backup/spool").rc != 0, "no dump is left on the host"


def test_the_timers_are_due(host: Any) -> None:
    for timer in ("slipway-backup", "slipway-backup-drill"):
        assert "Persistent=yes" in host.check_output(f"systemctl show {timer}.timer")
        assert host.check_output(f"systemctl is-active {timer}.timer") == "active"


@contextmanager
def quiet(host: Any) -> Iterator[None]:
    """Nothing of the timer's runs meanwhile, which would have files open in what is mounted or moved."""
    timer = "slipway-backup-wal.timer"
    host.check_output(f"systemctl stop {timer} slipway-backup-wal.service slipway-backup-base.service")
    try:
        yield
    finally:
        host.check_output(f"systemctl start {timer}")


@contextmanager
def copied(host: Any) -> Iterator[None]:
    """The repository is a copy while the block runs, which may be damaged."""
    with quiet(host):
        host.check_output(f"mv {REPOSITORY} {REPOSITORY}.good && cp -a {REPOSITORY}.good {REPOSITORY}")
        try:
            yield
        finally:
            host.check_output(f"rm -rf {REPOSITORY} && mv {REPOSITORY}.good {REPOSITORY}")


FLIP = (
    "import sys; f = open(sys.argv[1], 'r+b'); f.seek(0, 2); at = f.tell() // 2; f.seek(at); b = f.read(1)[0];"
    " f.seek(at); f.write(bytes([b ^ 1]))"
)
CONTENT = '$(slipway-backup restic snapshots --json --tag slipway-content | sed \'s/.*"id":"\\([0-9a-f]*\\)".*/\\1/\')'


@pytest.mark.parametrize(
    ("damage", "fault"),
    [
        (f"{PACKS} truncate --size=-2000 {{}} +", "damaged"),
        (f'{PACKS} python3 -c "{FLIP}" {{}} ";"', "damaged"),
        (f"find {REPOSITORY} -type f -delete", "empty"),
        (f"rm {REPOSITORY}/snapshots/{CONTENT}", "missing part"),
    ],
    ids=["truncated", "bit flipped", "empty", "part lost"],
)
def test_a_damaged_set_is_not_proven(host: Any, damage: str, fault: str) -> None:
    before = state(host)["proven"]
    with copied(host):
        host.check_output(damage)
        said = refused(host, "drill")
    known = state(host)
    assert known["error"]["fault"] == fault, said
    assert known["proven"] == before, "what is proven stays so"


def test_a_set_is_not_proven_with_another_key(host: Any) -> None:
    place = "/etc/slipway/backup/password"
    host.check_output(f"cp -a {place} {place}.good && echo another-password-altogether >{place}")
    try:
        assert "wrong password" in refused(host, "drill")
        assert state(host)["error"]["fault"] == "wrong key"
    finally:
        host.check_output(f"mv {place}.good {place}")


def test_a_repository_that_vanished_is_not_made_anew(host: Any) -> None:
    host.check_output(f"mv {REPOSITORY} {REPOSITORY}.good")
    try:
        assert "is its disk mounted?" in refused(host, "backup")
        assert host.run(f"ls {REPOSITORY}").rc != 0
    finally:
        host.check_output(f"mv {REPOSITORY}.good {REPOSITORY}")


def test_a_second_one_is_refused_while_one_runs(host: Any) -> None:
    host.check_output("systemd-run --unit=holder flock /var/lib/slipway/backup/lock sleep 600")
    try:
        until(lambda: host.run("flock --nonblock /var/lib/slipway/backup/lock true").rc != 0, "the lock is held")
        assert "is under way on this host" in refused(host, "backup")
        assert "is under way on this host" in refused(host, "restore --part all --confirm shortlinks")
    finally:
        host.check_output("systemctl stop holder")


def test_a_full_disk_is_refused_before_anything_is_written(host: Any) -> None:
    known = sets(host)
    with quiet(host):
        host.check_output("mount -t tmpfs -o size=1m none /var/lib/slipway/backup")
        try:
            said = refused(host, "backup")
        finally:
            host.check_output("umount /var/lib/slipway/backup")
    assert "nothing was done: the dump of the databases and stores needs" in said
    assert sets(host) == known


def killed(host: Any) -> None:
    """Kill what runs as the unit of that name, and wait until systemd has seen it: else it has the name still."""
    host.check_output("systemctl kill --signal=KILL killed")
    until(lambda: host.check_output("systemctl show --value --property=ActiveState killed") == "failed", "it is gone")
    host.check_output("systemctl reset-failed killed")


DUMPING = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'slipway-dump%'"


def test_a_backup_that_is_killed_leaves_no_half_a_set(host: Any) -> None:
    known = sets(host)
    lock = "BEGIN; LOCK TABLE ballast IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)"
    host.check_output(f"systemd-run --unit=locker {PSQL} shortlinks -c '{lock}'")
    # Of the database before it: the dump of this one does not get beyond the lock, and asks for it again and again.
    dumped = "test -s /var/lib/slipway/backup/spool/database-postgres.dump"
    try:
        until(lambda: sql(host, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1", "locked")
        host.check_output("systemd-run --unit=killed slipway-backup backup")
        until(lambda: host.run(dumped).rc == 0, "the backup is in its middle")
        until(lambda: sql(host, DUMPING) != "", "the server works for it")
        served = set(sql(host, DUMPING).split())
        killed(host)
    finally:
        sql(host, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'")
        host.run("systemctl stop locker killed; systemctl reset-failed locker killed")
    assert sets(host) == known
    assert asked(host, "backup")["rows"] >= 100_000
    assert len(sets(host)) == len(known) + 1
    assert not served & set(sql(host, DUMPING).split()), "the server does nothing more for the killed one"
    until(lambda: sql(host, DUMPING) == "", "nor for the one after it, which may take it a moment")


def test_a_restore_that_is_killed_touches_nothing_live(host: Any, deployment: Deployment) -> None:
    sql(host, "CREATE TABLE written_after (id int)")
    host.check_output(
        "systemd-run --unit=killed slipway-backup restore --part database:shortlinks --confirm shortlinks"
    )
    until(lambda: sql(host, BESIDE, "postgres") == "1", "it restores beside")
    killed(host)
    assert sql(host, "SELECT count(*) FROM written_after") == "0"
    assert deployment.get("/readyz")[0] == 200
    sql(host, "DROP TABLE written_after")


def test_rows_that_were_deleted_come_back(host: Any, deployment: Deployment) -> None:
    before = sql(host, "SELECT count(*), sum(id) FROM ballast")
    sql(host, "DELETE FROM ballast WHERE id > 40000")

    assert "-e slipway_confirm=shortlinks" in refused(host, "restore --part all --confirm another")
    assert sql(host, "SELECT count(*) FROM ballast") == "40000"

    answer = asked(host, "restore --part database:shortlinks --confirm shortlinks")
    assert sql(host, "SELECT count(*), sum(id) FROM ballast") == before
    kept = sql(host, "SELECT datname FROM pg_database WHERE datname LIKE 'slipway_before_%'", "postgres")
    assert kept.endswith("_shortlinks")
    assert kept == answer["restored"][0]["kept"]
    assert sql(host, BESIDE, "postgres") == "0", "what the killed one left is gone"
    deployment.wait_until_serving()


@contextmanager
def answers(deployment: Deployment) -> Iterator[set[int]]:
    """The statuses that users of the app get while the block runs."""
    seen: set[int] = set()
    over = threading.Event()

    def ask() -> None:
        while not over.wait(0.1):
            seen.add(deployment.get("/version")[0])

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield seen
    finally:
        over.set()
        asking.join()


def test_a_volume_comes_back_with_the_app_in_maintenance(host: Any, deployment: Deployment) -> None:
    host.check_output(f"rm {VOLUME}/c && echo later >{VOLUME}/d")
    with answers(deployment) as seen:
        outcome = deployment.play("restore", slipway_confirm=VOLUME, slipway_restore=f"directory:{VOLUME}")
    assert outcome.code == 0, outcome.output
    assert "for all of a set" in outcome.output, "a part has no time of its own"
    assert 503 in seen, "the page was shown"
    assert "this playbook takes it away next" in outcome.output
    assert "off takes it away" not in outcome.output, "nothing is left to do"
    deployment.wait_until_serving()
    assert deployment.get("/version")[0] == 200, "the maintenance page is gone"
    app = host.check_output("docker ps --quiet --filter name=shortlinks-").split()
    assert [host.check_output(f"docker exec {one} ls /srv/media") for one in app] == ["c"]
    (kept,) = re.findall(r"kept as (\S+)", outcome.output)
    assert host.check_output(f"cat {kept}/d") == "later", "what was there is kept"


def test_files_that_were_lost_come_back(host: Any) -> None:
    host.check_output("rm /srv/uploads/a/b && echo later >/srv/uploads/new")
    answer = asked(host, "restore --part directory:/srv/uploads --confirm /srv/uploads")
    assert host.check_output("cat /srv/uploads/a/b") == "first"
    kept = answer["restored"][0]["kept"]
    assert host.check_output(f"cat {kept}/new") == "later", "what was there is kept"


def test_what_does_not_fit_the_release_is_refused(host: Any) -> None:
    head = sql(host, "SELECT version_num FROM alembic_version")
    sql(host, "UPDATE alembic_version SET version_num = 'ffff'")
    try:
        said = refused(host, "restore --part database:shortlinks --confirm shortlinks")
    finally:
        sql(host, "UPDATE alembic_version SET version_num = :'head'".replace(":'head'", f"'{head}'"))
    assert "the schema of shortlinks in set" in said
    assert head in said


def test_a_migration_is_rehearsed_on_a_set_that_was_made_for_it(host: Any, deployment: Deployment) -> None:
    serves = deployment.version()["release"]
    source = deployment.source("stamped", {"app/migrations/versions/0003_stamp.py": REVISION})
    outcome = deployment.deploy(fastapi_image_context=source, fastapi_app_rehearse=True)
    assert outcome.code == 0, outcome.output
    made = state(host)["newest"]
    assert made["reason"] == "before-a-migration"
    for words in (
        f"set {made['set']} was made before the migrations",
        f"rehearsed on set {made['set']} of {made['time']}: 0003 in",
        "rehearsed: public.ballast is locked against reads and writes for",
        "rehearsed: public.ballast is written anew, 100000 rows",
        "rehearsed: 500 rows of public.ballast are changed",
        f"rehearsed: release {serves}, which serves, passes its gate on the migrated copy",
        "the database is at revision 0003",
    ):
        assert words in outcome.output
    ledger = host.check_output("cat /opt/slipway/shortlinks/ledger.jsonl").splitlines()
    record = next(found for found in map(json.loads, reversed(ledger)) if found.get("result") == "good")
    assert record["backup"] == f"{made['set']} of backup-host"
    assert record["rehearsal"]["set"] == made["set"]
    assert record["backup"] in deployment.play("history").output


def test_status_tells(host: Any, deployment: Deployment) -> None:
    assert asked(host, "drill")["rows"] >= 100_000
    outcome = deployment.play("status")
    assert outcome.code == 0, outcome.output
    assert state(host)["proven"]["set"] in outcome.output


def test_a_set_of_before_a_migration_is_restored_under_the_release_of_after_it(host: Any) -> None:
    """Yesterday's data under today's release, which the deploy of the next test migrates."""
    (made,) = [one["set"] for one in state(host)["sets"] if one["reason"] == "before-a-migration"]
    words = f"restore --set {made} --part database:shortlinks --confirm shortlinks --no-safety"
    assert "or say -e slipway_schema=any and migrate afterwards with a deploy" in refused(host, words)
    asked(host, f"{words} --any-schema")
    assert sql(host, "SELECT version_num FROM alembic_version") == "0002"


def test_passwords_rotate(host: Any, deployment: Deployment) -> None:
    """From the one role of before to a login; what was good is refused, and the restored data is migrated."""
    before = host.check_output("sha256sum /opt/slipway/redis/secrets/users.acl")
    login = "shortlinks_rotated"
    environment = {
        "DATABASE_URL": f"postgresql+asyncpg://{login}@postgres:5432/shortlinks",
        "REDIS_URL": "redis://redis:6379/0",
    }
    outcome = deployment.play(
        "rotate",
        fastapi_image_context=deployment.source("rotated", {"app/migrations/versions/0003_stamp.py": REVISION}),
        postgres_login=login,
        fastapi_app_environment=environment,
        vault_postgres_password="another-database-password",
        vault_redis_password="another-cache-password",
        slipway_same_content=False,
    )
    assert outcome.code == 0, outcome.output
    assert sql(host, "SELECT version_num FROM alembic_version") == "0003"
    assert sql(host, "SELECT count(stamp) FROM ballast") == "100000"
    assert sql(host, "SELECT rolcanlogin FROM pg_roles WHERE rolname = 'shortlinks'") == "f"
    assert login in sql(host, "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = 'shortlinks'")
    assert host.check_output("sha256sum /opt/slipway/redis/secrets/users.acl") != before
    assert host.check_output("cat /opt/slipway/redis/secrets/users.acl").count(" #") == 1
    assert deployment.get("/readyz")[0] == 200
