"""The host is lost with all that it had, and one of another name comes back from what is kept elsewhere.

The tests are a story, and run in the order of the file, after those of the sets; those after it run on what came back.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import yaml
from backed import REVISION, VOLUME, asked, refused, sql
from contract import ROOT, until
from deployment import Deployment

# What a new host has not: all but the packages, and the repository, which stands in for one elsewhere.
LOSE = """
systemctl stop 'slipway-*.timer' 'slipway-backup*.service'
docker ps --all --quiet | xargs --no-run-if-empty docker rm --force --volumes
docker volume ls --quiet | xargs --no-run-if-empty docker volume rm
rm -rf /opt/slipway /var/lib/slipway/[!a]* /etc/slipway /srv/uploads /usr/local/lib/slipway* /usr/local/sbin/slipway-*
rm -rf /etc/systemd/system/slipway-* /etc/systemd/system/timers.target.wants/slipway-* /var/cache/slipway-backup
systemctl daemon-reload
"""


@pytest.fixture(scope="module")
def renamed(deployment: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """The playbooks against the same machine under another name of the inventory."""
    place = tmp_path_factory.mktemp("inventory")
    here = {"ansible_connection": "community.docker.docker", "ansible_host": deployment.limit}
    groups = {name: {"hosts": {"new-host": here}} for name in ("web", "data")}
    (place / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": groups}}))
    (place / "group_vars").symlink_to(ROOT / "inventories/lab/group_vars")
    (place / "host_vars").mkdir()
    shutil.copy(ROOT / "molecule/data/host_vars/backup-host.yml", place / "host_vars/new-host.yml")
    return replace(deployment, inventory=str(place), limit="new-host")


LAST = "SELECT extract(epoch FROM max(at)) FROM beats"


@contextmanager
def written(host: Any) -> Iterator[None]:
    """A row each quarter of a second, with its time, as long as there is a database."""
    sql(host, "CREATE TABLE beats (at timestamptz DEFAULT clock_timestamp())")
    sql(host, "ALTER TABLE beats OWNER TO shortlinks")
    rows = "while echo 'INSERT INTO beats DEFAULT VALUES;'; do sleep 0.25; done"
    into = "docker exec -i slipway-postgres-postgres-1 psql -qAt -U postgres -d shortlinks"
    host.check_output(f'systemd-run --unit=beats sh -c "{rows} | {into}"')
    try:
        yield
    finally:
        host.run("systemctl stop beats; systemctl reset-failed beats")


def kept_until(host: Any) -> str:
    found: str = json.loads(host.check_output("cat /var/lib/slipway/backup/wal.json"))["until"]
    return found


def test_a_lost_host_comes_back_under_another_name(
    host: Any, deployment: Deployment, renamed: Deployment, capsys: pytest.CaptureFixture[str]
) -> None:
    until(lambda: asked(host, "status")["points"]["follows"], "the log follows on a base")
    before = sql(host, "SELECT count(*), sum(id) FROM ballast")
    with written(host):
        until(lambda: int(sql(host, "SELECT count(*) FROM beats")) > 40, "rows are written")
        began = kept_until(host)
        until(lambda: kept_until(host) != began, "the timer has kept some of them")
        last = float(sql(host, LAST))
        host.check_output(LOSE)
    lost_at = time.monotonic()
    assert deployment.get("/version")[0] != 200

    # A new database has no ballast to migrate.
    revision = f"{REVISION.partition('def upgrade')[0]}def upgrade() -> None:\n    pass\n"
    source = renamed.source("found", {"app/migrations/versions/0003_stamp.py": revision})
    outcome = renamed.play("site", fastapi_image_context=source)
    assert outcome.code == 0, outcome.output
    assert sql(host, "SELECT to_regclass('ballast') IS NULL") == "t"

    assert "no set of nobody; it has sets of backup-host" in refused(host, "plan --of nobody --part all")
    late = refused(host, "plan --of backup-host --time 2099-01-01T00:00:00Z --part all")
    point = re.findall(r"to (\S+Z)", late)[-1]
    outcome = renamed.play("restore", slipway_of="backup-host", slipway_time=point, slipway_confirm="shortlinks")
    assert outcome.code == 0, outcome.output
    assert f"the point in time {point} of backup-host: the base of" in outcome.output
    media = f"--part directory:/srv/uploads --part directory:{VOLUME}"
    asked(host, f"restore --of backup-host {media} --confirm {','.join(sorted(['/srv/uploads', VOLUME]))} --no-safety")
    renamed.wait_until_serving()
    took = time.monotonic() - lost_at
    assert renamed.get("/version")[0] == 200, "the maintenance page is gone"
    assert sql(host, "SELECT count(*), sum(id) FROM ballast") == before
    assert host.check_output("cat /srv/uploads/a/b") == "first"
    assert host.check_output(f"cat {VOLUME}/c") == "picture"
    gone = last - float(sql(host, LAST))
    with capsys.disabled():
        print(f"a lost host: {took:.0f} s from its loss to serving, and {gone:.1f} s of data lost")
    assert gone < 120
