"""`python3 -m bench.lost` loses the database's host and then the app's, and counts minutes to serving and lost seconds.

Two hosts of the lab, one with the app and one with database and cache, keep their sets in one repository, which stands
in for one elsewhere: it is spared when its host is lost. Rows are written four times a second, and a file as often into
a volume of the app. Each host is lost with all that it had but the packages and images of the lab, comes back under its
name as an empty one, and is brought back by the playbooks that docs/backup.md names. Lost is what was written last
before the loss and is not there afterwards; serving is when the edge answers with the release and the old rows.
Needs Docker and the images of `python3 -m lab images`. docs/backup.md has the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from bench.docker import ROOT, docker

WEB, DATA = "slipway-lost-web", "slipway-lost-data"
WEB_ADDRESS, DATA_ADDRESS, PORT = "172.29.92.11", "172.29.92.20", 18192
PLATFORMS = [
    {
        "name": name,
        "volumes": ["slipway-prepared-docker:/var/lib/docker"],
        "networks": [{"name": "slipway-lost", "ipv4_address": address}],
        "published_ports": [f"127.0.0.1:{PORT}:80"] if name == WEB else [],
    }
    for name, address in ((WEB, WEB_ADDRESS), (DATA, DATA_ADDRESS))
]
VOLUME = "/var/lib/slipway/shortlinks/volumes/media"
PSQL = "docker exec -i slipway-postgres-postgres-1 psql -qAt -U postgres -d shortlinks"
# What a new host has not; the repository stands in for one elsewhere.
LOSE = """
systemctl stop 'slipway-*' haproxy 2>/dev/null
docker ps --all --quiet | xargs --no-run-if-empty docker rm --force --volumes
docker volume ls --quiet | xargs --no-run-if-empty docker volume rm
rm -rf /opt/slipway /var/lib/slipway/[!a]* /etc/slipway /usr/local/lib/slipway* /usr/local/sbin/slipway-*
rm -rf /etc/systemd/system/slipway-* /etc/systemd/system/timers.target.wants/slipway-* /var/cache/slipway-backup
systemctl daemon-reload
"""


class Bench:
    """The two hosts, and the playbooks against them."""

    def __init__(self, place: Path) -> None:
        self.place, self.key = place, place / "key"

    def make(self) -> None:
        subprocess.run(
            [sys.executable, "-m", "lab", "create"], input=json.dumps(PLATFORMS), text=True, cwd=ROOT, check=True
        )
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)], check=True)
        public = self.key.with_suffix(".pub").read_text().strip()
        docker("exec", DATA, "sh", "-c", f"install -d -m 700 /root/.ssh; echo '{public}' >/root/.ssh/authorized_keys")
        host_key = docker("exec", DATA, "cat", "/etc/ssh/ssh_host_ed25519_key.pub").split()
        own = {
            WEB: {
                "fastapi_app_environment": {
                    "DATABASE_URL": f"postgresql+asyncpg://shortlinks@{DATA_ADDRESS}:5432/shortlinks",
                    "REDIS_URL": f"redis://{DATA_ADDRESS}:6379/0",
                },
                "fastapi_app_volumes": {"media": "/srv/media"},
                "backup_repository": f"sftp:root@{DATA_ADDRESS}:/srv/repository",
                "backup_ssh_key": self.key.read_text(),
                "backup_ssh_known_hosts": f"{DATA_ADDRESS} {host_key[0]} {host_key[1]}",
                "backup_drill_of": DATA,
            },
            DATA: {
                "postgres_publish": f"{DATA_ADDRESS}:5432",
                "redis_publish": f"{DATA_ADDRESS}:6379",
                "backup_repository": "/srv/repository",
            },
        }
        every = {
            "ansible_connection": "community.docker.docker",
            "slipway_url": f"http://127.0.0.1:{PORT}",
            "slipway_probe_rate": 0,
            "backup_password": "only-for-measurements",
        }
        groups = {"web": {"hosts": {WEB: own[WEB]}}, "data": {"hosts": {DATA: own[DATA]}}}
        (self.place / "hosts.yml").write_text(yaml.safe_dump({"all": {"vars": every, "children": groups}}))
        (self.place / "group_vars").symlink_to(ROOT / "inventories/lab/group_vars")

    def play(self, name: str, **variables: Any) -> str:
        """What a playbook said, which has to succeed."""
        words = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(self.place / "hosts.yml")]
        words += [f"playbooks/{name}.yml", "-e", json.dumps({"fastapi_image_context": str(ROOT), **variables})]
        password = {"ANSIBLE_VAULT_PASSWORD_FILE": str(ROOT / "inventories/lab/.vault_password")}
        began = time.monotonic()
        ran = subprocess.run(
            words, cwd=ROOT, env={**os.environ, **password}, capture_output=True, text=True, check=False
        )
        print(f"  {name}: {time.monotonic() - began:.0f} s", flush=True)
        if ran.returncode:
            raise SystemExit(f"{name} failed:\n{ran.stdout[-4000:]}\n{ran.stderr[-2000:]}")
        return ran.stdout


def sql(statement: str) -> str:
    return docker("exec", DATA, "sh", "-c", f'{PSQL} -c "{statement}"').strip()


def until(what: Callable[[], bool], name: str, limit: float = 900.0) -> None:
    deadline = time.monotonic() + limit
    while not what():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {limit:.0f} s: {name}")
        time.sleep(0.5)


def serves() -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def write() -> None:
    """A row and a file four times a second, with their times."""
    sql("CREATE TABLE IF NOT EXISTS beats (at timestamptz DEFAULT clock_timestamp())")
    sql("ALTER TABLE beats OWNER TO shortlinks")
    rows = f"while echo 'INSERT INTO beats DEFAULT VALUES;'; do sleep 0.25; done | {PSQL}"
    docker("exec", DATA, "systemd-run", "--quiet", "--collect", "--unit=beats", "sh", "-c", rows)
    files = f"while date +%s.%N >{VOLUME}/beat; do sleep 0.25; done"
    docker("exec", WEB, "systemd-run", "--quiet", "--collect", "--unit=beats", "sh", "-c", files)
    until(lambda: int(sql("SELECT count(*) FROM beats")) > 20, "rows are written")


def last_row() -> float:
    return float(sql("SELECT extract(epoch FROM max(at)) FROM beats"))


def last_file() -> float:
    return float(docker("exec", WEB, "cat", f"{VOLUME}/beat"))


def kept() -> str:
    """Until when the database's log is in the repository."""
    return str(json.loads(docker("exec", DATA, "cat", "/var/lib/slipway/backup/wal.json"))["until"])


def lose_data(bench: Bench) -> None:
    """The database's host, with the log kept as often as by default."""
    began = kept()
    until(lambda: kept() > began, "the timer has kept some rows")
    last, ballast = last_row(), sql("SELECT count(*) FROM ballast")
    lost_at = time.time()
    docker("exec", DATA, "sh", "-c", LOSE)
    began_at = time.monotonic()
    bench.play("site")
    refused = subprocess.run(
        ["docker", "exec", DATA, "slipway-backup", "plan", "--time", "2099-01-01T00:00:00Z", "--part", "all"],
        capture_output=True, text=True, check=False,
    ).stderr  # fmt: skip
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(lost_at))
    point = max(found for found in re.findall(r"to (\S+?Z)", refused) if found <= moment)
    bench.play("restore", slipway_time=point, slipway_confirm="shortlinks", slipway_safety="none")
    until(serves, "it serves")
    took = time.monotonic() - began_at
    if sql("SELECT count(*) FROM ballast") != ballast:
        raise SystemExit("the rows of before are not there")
    print(f"a lost host of the database: {took / 60:.1f} min to serving, {last - last_row():.1f} s of rows lost")


def lose_web(bench: Bench) -> None:
    """The app's host; the database goes on."""
    bench.play("backup")
    time.sleep(30)  # what is written after the newest set of the host is in none
    last, rows = last_file(), sql("SELECT count(*) FROM beats")
    docker("exec", WEB, "sh", "-c", f"systemctl stop beats; {LOSE}")
    began_at = time.monotonic()
    bench.play("site")
    until(serves, "it serves")
    served = time.monotonic() - began_at
    bench.play("restore", slipway_host=WEB, slipway_set=set_of_before(), slipway_confirm=WEB, slipway_safety="none")
    until(serves, "it serves with its files")
    took = time.monotonic() - began_at
    if int(sql("SELECT count(*) FROM beats")) < int(rows):
        raise SystemExit("rows are gone, of a database that was not lost")
    print(
        f"a lost host of the app: {served / 60:.1f} min to serving, {took / 60:.1f} min with its files, no row lost, "
        f"{last - last_file():.1f} s of files lost"
    )


def set_of_before() -> str:
    """The newest set of the app's host that was made before it was lost; what came back makes none by itself."""
    said = docker("exec", WEB, "slipway-backup", "restic", "snapshots", "--json", "--host", WEB, "--tag", "slipway-set")
    return str(json.loads(said)[-1]["short_id"])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python3 -m bench.lost", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="of the database (default: %(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the hosts there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lost") as name:
        bench = Bench(Path(name))
        try:
            bench.make()
            bench.play("site")
            rows = f"generate_series(1, {options.rows}) g"
            sql(f"CREATE TABLE ballast AS SELECT g AS id, md5(g::text) AS words FROM {rows}")  # noqa: S608 - a number
            sql("ALTER TABLE ballast OWNER TO shortlinks")
            write()
            bench.play("backup")
            lose_data(bench)
            lose_web(bench)
        finally:
            if not options.keep:
                words = [sys.executable, "-m", "lab", "destroy"]
                subprocess.run(words, input=json.dumps(PLATFORMS), text=True, cwd=ROOT, check=False)


if __name__ == "__main__":
    main()
