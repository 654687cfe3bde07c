"""Apps that have no image, under systemd, on a small host that other people use as well.

One is locked by uv and has a source layout, one has pip's requirements and is what another test has as an image, one is
Poetry's and wants another Python. Nothing in them is changed. The tests are a story, and run in the order of the file.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from contract import ANSWER, PATIENCE, SELDOM, until
from fleet import on
from foreign import PLAIN, PLAIN_ADDRESS, App, nothing_lost, of_the_notes, side_by_side
from websockets.sync.client import ClientConnection, connect

Told = Callable[[], Any]
Make = Callable[..., App]
# What the team of notes writes next.
STARS = """
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("notes", sa.Column("stars", sa.Integer, nullable=True))
"""
REVISION = "runuser -u postgres -- psql -At --dbname notes --command 'SELECT version_num FROM alembic_version'"
THEIRS = {"bip": "10.99.0.1/24", "log-driver": "json-file", "log-opts": {"max-size": "1m"}}
# A container of somebody else: nothing but what of the host it is given.
THEIR_CONTAINER = """
tar --create --files-from /dev/null | docker import - theirs
docker run --detach --restart always --name theirs --volume /usr:/usr:ro --volume /lib:/lib:ro \
  --volume /lib64:/lib64:ro theirs /usr/bin/sleep infinity
"""
# Has the lock that a first boot holds for minutes, until somebody waits for it.
HOLDER = """
import fcntl, subprocess, time
lock = open("/var/lib/dpkg/lock-frontend", "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
print("held", flush=True)
while "DPkg::Lock::Timeout" not in subprocess.check_output(["ps", "axww"], text=True):
    time.sleep(0.1)
time.sleep(3)
print("waited for", flush=True)
"""


@pytest.fixture(scope="module", autouse=True)
def crowded() -> None:
    """Others have a web server and a Docker with settings of its own here."""
    on(PLAIN, "apt-get update && apt-get install -y --no-install-recommends nginx-light")
    on(PLAIN, f"mkdir -p /etc/docker && echo '{json.dumps(THEIRS)}' >/etc/docker/daemon.json")
    on(PLAIN, "apt-mark unhold docker.io && systemctl enable --now docker")
    on(PLAIN, THEIR_CONTAINER)


@contextmanager
def small() -> Iterator[None]:
    """1 GB of memory, and the one processor with which the host was started, for as long as the block runs."""
    update = ["docker", "update", PLAIN]
    subprocess.run([*update, "--memory", "1g", "--memory-swap", "1g"], check=True, capture_output=True)
    seen = "sed 's/^MemTotal: .*/MemTotal:        1048576 kB/' /proc/meminfo >/run/meminfo"
    on(PLAIN, f"{seen} && mount --bind /run/meminfo /proc/meminfo")
    assert on(PLAIN, "nproc") == "1\n"
    try:
        yield
    finally:
        on(PLAIN, "umount /proc/meminfo")
        processors = f"0-{(os.cpu_count() or 1) - 1}"
        whole = [*update, "--memory", "1t", "--memory-swap", "1t", "--cpuset-cpus", processors]
        subprocess.run(whole, check=True, capture_output=True)


def theirs() -> tuple[str, str]:
    """What others have on this host: settings of Docker, and a container with the time of its start."""
    started = "docker inspect --format '{{.State.Running}} {{.State.StartedAt}} {{.Id}}' theirs"
    return on(PLAIN, "cat /etc/docker/daemon.json"), on(PLAIN, started)


def units(app: str) -> list[str]:
    """Processes of an app that run, as systemd numbers them."""
    found = on(PLAIN, f"systemctl show --property=MainPID,Id --state=running 'slipway-{app}@p*'")
    return sorted(block.replace("\n", " ") for block in found.strip().split("\n\n") if block)


def one_after_another(beats: dict[str, list[float]]) -> bool:
    """Whether each beat began when the one before it had ended."""
    times = sorted(beats.values())
    return all(before[1] < after[0] for before, after in pairwise(times))


def watching(notes: App) -> ClientConnection:
    """A websocket through the edge."""
    there = socket.create_connection((PLAIN_ADDRESS, 80), timeout=ANSWER)
    # It asks nothing of its own: who answers that too late for it would be cut off by this side.
    return connect(f"ws://{notes.names[0]}/watch", sock=there, open_timeout=ANSWER, ping_interval=None)


def write(app: App, path: str) -> None:
    answer = httpx.post(f"http://{PLAIN_ADDRESS}{path}", headers={"Host": app.names[0]}, timeout=ANSWER)
    assert answer.status_code == 200, answer.text


def said(websocket: ClientConnection) -> str:
    """The release that answers on a websocket."""
    websocket.send("who?")
    return str(websocket.recv(timeout=ANSWER)).split()[0]


def test_a_web_server_on_port_80_is_refused_by_its_name(notes: App) -> None:
    outcome = notes.play("site")
    assert outcome.code != 0
    assert "port 80 of this host, on which the edge is to listen, belongs to nginx (pid " in outcome.failure()
    assert on(PLAIN, "ls /etc/haproxy/apps 2>/dev/null || true") == ""
    assert on(PLAIN, "systemctl is-active nginx") == "active\n"
    on(PLAIN, "systemctl disable --now nginx")


def test_a_docker_with_settings_of_its_own_is_refused_with_what_to_write(notes: App) -> None:
    before = theirs()
    outcome = notes.play("provision", fastapi_app_runtime="compose")
    assert outcome.code != 0
    assert "/etc/docker/daemon.json has settings that the inventory does not name" in outcome.failure()
    assert 'write docker_engine_daemon: {"bip": "10.99.0.1/24", "log-driver": "json-file"' in outcome.failure()
    assert theirs() == before


def test_one_processor_and_1_gb_will_do_while_apt_is_held(notes: App) -> None:
    """`fastapi run` with two workers and the memory of the defaults; the distribution's database, and migrations."""
    before = theirs()
    holding = ["docker", "exec", PLAIN, "python3", "-c", HOLDER]
    with small(), subprocess.Popen(holding, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        outcome = notes.play("site")
        assert outcome.code == 0, outcome.output
        assert "memory:" not in outcome.output, "nothing is too large"
        assert holder.stdout.readline() == "waited for\n"
    assert notes.json() == {"app": "notes"}
    assert notes.json("/healthz") == {"version": "1.4.0"}
    assert theirs() == before


def test_others_come_and_the_first_one_serves_on(notes: App, plain_shop: App, desk: App, plain_broker: Told) -> None:
    apps = (plain_shop, desk)
    with notes.asked() as asked, ThreadPoolExecutor(len(apps)) as pool:
        outcomes = [running.result() for running in [pool.submit(app.play, "site") for app in apps]]
        assert [outcome.failure() for outcome in outcomes if outcome.code] == []
    nothing_lost(asked)
    assert [app.json() for app in apps] == [{"app": app.name} for app in apps]
    assert desk.json("/python")["version"].startswith("3.11.")
    assert notes.json("/healthz") == {"version": "1.4.0"}
    until(lambda: len(plain_broker()["done"]) >= 2, "the workers have ended tasks")
    assert len(plain_broker()["beats"]) == 1


def test_a_release_of_each_under_load(notes: App, plain_shop: App, desk: App, plain_broker: Told) -> None:
    """By another server and a newer schema, other values, fewer workers; tasks in hand and who watches are not lost."""
    apps = (notes, plain_shop, desk)
    before, tasks = {app.name: app.release for app in apps}, plain_broker()
    assert plain_shop.json("/uploads/first/new") == {"uid": 10002}
    write(notes, "/notes/kept")
    write(desk, "/tickets/kept")
    Path(notes.variables["fastapi_package_source"], "migrations/versions/0002_stars.py").write_text(STARS)
    environment = plain_shop.variables["fastapi_app_environment"] | {"AGAIN": "1"}
    with watching(notes) as websocket:
        assert said(websocket) == before["notes"]
        outcomes = side_by_side(
            {
                # Hypercorn reads no variable that says where it is to listen.
                "notes": {"fastapi_app_command": ["hypercorn", "--bind", "127.0.0.1:@PORT@", "notes.main:app"]},
                "shop": {"fastapi_app_environment": environment},
                "desk": {"fastapi_app_workers": 1},
            },
            apps,
        )
        assert {name: outcome.failure() for name, outcome in outcomes.items() if outcome.code} == {}
        assert said(websocket) == before["notes"], "whoever watches is not cut off"
    assert [app.name for app in apps if app.release == before[app.name]] == []
    assert [app.json() for app in apps] == [{"app": app.name} for app in apps]
    with watching(notes) as websocket:
        assert said(websocket) == notes.release
    assert notes.json("/notes") == ["kept"]
    assert on(PLAIN, REVISION) == "0002\n"
    assert desk.json("/tickets") == ["kept"]
    assert plain_shop.json("/uploads")["files"] == ["first"]
    assert plain_shop.send(80) == 200
    until(lambda: len(plain_broker()["beats"]) > len(tasks["beats"]), "the new beat is there")
    assert one_after_another(plain_broker()["beats"])
    lost = set(plain_broker()["given"]) - set(plain_broker()["done"])
    until(lambda: lost <= set(plain_broker()["done"]), "what the old workers had in hand is done")
    until(lambda: len(units("shop")) == 3, "the new ones alone are there", every=SELDOM)


def test_the_app_is_told_what_was_written_and_its_secret_is_nowhere(plain_shop: App) -> None:
    assert plain_shop.json("/settings") == {
        "price_format": '$ {price} 100% "net"\n',
        "origins": ["https://shop.example.org", "https://www.example.org"],
        "beta": True,
        "payment_key_is_there": len("planted-$payment-key"),
        "prepared": "yes",
    }
    for where in ("systemctl show 'slipway-shop@*'", "systemctl cat 'slipway-shop@*'", "ps axww"):
        seen = on(PLAIN, f"{where} || true")
        assert "src.worker" in seen
        assert "planted" not in seen, where


def test_a_job_runs_in_what_serves_and_one_that_fails_is_in_status(plain_shop: App, plain_broker: Told) -> None:
    until(lambda: any(who.endswith(f"/{plain_shop.release}") for who in plain_broker()["runs"]), "its job runs in it")
    outcome = plain_shop.play("run", slipway_job="ledger")
    assert outcome.code != 0
    assert f"the job ledger of release {plain_shop.release} failed: exit code 3" in outcome.failure()
    until(lambda: "counted all" in plain_shop.play("status").output, "status says what the other one printed last")


def test_a_release_that_does_not_serve_is_refused_in_each_shape(notes: App, plain_shop: App, desk: App) -> None:
    apps = (notes, plain_shop, desk)
    before, running = {app.name: app.release for app in apps}, units("shop")
    broken = {"command": ["python", "-m", "src.wrker"]}
    outcomes = side_by_side(
        {
            # Alone, since its Uvicorn ends workers that need more than 5 s to start.
            "notes": {"fastapi_app_health_path": "/not-there", "fastapi_app_workers": 1},
            "shop": {"fastapi_app_processes": plain_shop.variables["fastapi_app_processes"] | {"worker": broken}},
            "desk": {"fastapi_app_environment": {"PORT": "5001"}},
        },
        apps,
    )
    told = {
        "notes": ("/not-there", "404"),
        "shop": ("the process worker of the new release ended", "No module named src.wrker"),
        "desk": ("5001", "fastapi_app_port", "PORT"),
    }
    for app in apps:
        outcome = outcomes[app.name]
        assert outcome.code != 0, app.name
        assert [words for words in told[app.name] if words not in outcome.failure()] == [], outcome.failure()
        assert app.release == before[app.name]
    assert units("shop") == running, "the processes were left alone"


def test_a_rollback(plain_shop: App) -> None:
    before = plain_shop.release
    with plain_shop.asked() as asked:
        outcome = plain_shop.play("rollback")
        assert outcome.code == 0, outcome.output
    nothing_lost(asked)
    assert plain_shop.release != before
    assert plain_shop.json("/uploads")["files"] == ["first"]


def test_production_and_staging_share_a_host_and_neither_user_nor_database(notes: App, make_app: Make) -> None:
    """The inventory of the one, copied; what has to have a name of its own is named."""
    of_staging = of_the_notes("notes-staging") | {"fastapi_app_robots": False, "fastapi_app_memory_mib": None}

    def copied(**more: Any) -> App:
        return make_app(PLAIN, PLAIN_ADDRESS, **notes.variables | of_staging | more)

    with notes.asked() as asked:
        outcome = copied(data=of_the_notes("notes")["data"]).play("provision")
        assert outcome.code != 0
        assert (
            "database notes and role notes of this server is notes's. Give notes-staging another one"
            in outcome.failure()
        )
        outcome = copied().play("site")
        assert outcome.code != 0
        assert "uid 10001 belongs to slipway-notes on this host, not to slipway-notes-staging" in outcome.failure()
        assert "fastapi_app_uid another number, such as 10004" in outcome.failure()
        staging = copied(fastapi_app_uid=10004)
        outcome = staging.play("deploy")
        assert outcome.code == 0, outcome.output
        assert (staging.json("/notes"), notes.json("/notes")) == ([], ["kept"])
        outcome = staging.play("remove", slipway_remove="notes-staging")
        assert outcome.code == 0, outcome.output
    nothing_lost(asked)
    assert staging.get()[0] in (421, 503)


def test_all_are_back_after_a_boot(notes: App, plain_shop: App, desk: App, plain_broker: Told) -> None:
    settings, _ = theirs()
    releases = [app.release for app in (notes, plain_shop, desk)]
    subprocess.run(["docker", "restart", "--time", "1", PLAIN], check=True, capture_output=True, timeout=PATIENCE)
    for app in (notes, plain_shop, desk):
        until(lambda app=app: app.get()[0] == 200, f"{app.name} serves after the boot")  # type: ignore[misc]
        assert app.json() == {"app": app.name}
    assert [app.release for app in (notes, plain_shop, desk)] == releases
    until(lambda: len(units("shop")) == 3, "the processes of shop are back", every=SELDOM)
    until(lambda: bool(plain_broker()["done"]) and bool(plain_broker()["beats"]), "and at work")
    assert notes.json("/notes") == ["kept"]
    assert desk.json("/tickets") == ["kept"]
    assert plain_shop.json("/uploads")["files"] == ["first"]
    until(lambda: theirs()[1].startswith("true"), "so is the container of somebody else")
    assert theirs()[0] == settings
