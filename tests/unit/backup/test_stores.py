"""A store of Redis in a set: of one moment while it is written to, back in its place, as it was where that fails."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup import restoring, stores
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import BackupError, Manifest
from ansible_collections.slipway.fleet.plugins.module_utils.backup.restoring import Restore
from ansible_collections.slipway.fleet.plugins.module_utils.backup.saving import Host, save
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran

from tests.app.conftest import until
from tests.templates.rendering import Role
from tests.unit.backup.memory import Databases, Repository, host

# Starts a server as a unit does: it is there when the command has ended.
START = """
import pathlib, subprocess, sys, time
directory = pathlib.Path(sys.argv[1])
words = ["redis-server", "--port", "0", "--unixsocket", str(directory / "socket"), "--dir", str(directory / "data"),
         "--appendonly", "yes", "--save", "", "--logfile", str(directory / "log")]
server = subprocess.Popen(words, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
for _ in range(600):
    said = subprocess.run(["redis-cli", "-s", str(directory / "socket"), "ping"], capture_output=True, text=True).stdout
    if said.strip() == "PONG":
        sys.exit(0)
    if server.poll() is not None:
        sys.exit("it does not read its files")
    time.sleep(0.05)
sys.exit("it does not answer")
"""


class Server:
    """A store as the role writes it down, with a real server."""

    def __init__(self, apps: Path) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="store"))
        self.data = self.directory / "data"
        self.data.mkdir()
        self.start = [sys.executable, "-c", START, str(self.directory)]
        said = {"name": "redis-shop", "data": str(self.data), "start": self.start}
        said["stop"] = ["redis-cli", "-s", str(self.directory / "socket"), "shutdown"]
        self.record = apps / "redis/instances/shop/config/store.json"
        self.record.parent.mkdir(parents=True)
        self.record.write_text(json.dumps(said))
        subprocess.run(self.start, check=True)

    def ask(self, *words: str) -> str:
        command = ["redis-cli", "-s", str(self.directory / "socket"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture
def made(tmp_path: Path) -> tuple[Host, Repository]:
    return host(tmp_path, Databases(postgres={}))


@pytest.fixture
def server(made: tuple[Host, Repository]) -> Iterator[Server]:
    started = Server(made[0].settings.apps)
    yield started
    subprocess.run(["redis-cli", "-s", str(started.directory / "socket"), "shutdown", "nosave"], check=False)


def test_a_set_has_a_store_and_a_restore_brings_it_back(
    made: tuple[Host, Repository], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(f"2026-01-01T00:00:0{second}Z" for second in range(9))
    monkeypatch.setattr(restoring, "now", lambda: next(times))  # what was there is kept by it
    server.ask("SET", "order", "first")
    assert save(made[0], "timer")["stores"] == ["redis-shop"]
    server.ask("SET", "order", "later")
    restore = Restore(made[0], "latest", ["store:redis-shop"])
    assert restore.plan()["stores"] == ["redis-shop"]
    assert restore.names() == ["redis-shop"]
    (part,) = restore.run("redis-shop")["restored"]
    assert server.ask("GET", "order") == "first"
    assert part["name"] == "store:redis-shop"
    assert list(Path(part["kept"]).iterdir()), "what was there is kept"
    assert not (server.data / stores.BESIDE).exists()
    Restore(made[0], "latest", ["all"]).run("h")
    assert server.ask("GET", "order") == "later", "the set that the restore made first, as part of all"


def test_it_is_of_one_moment_while_it_is_written_to_and_made_anew(
    made: tuple[Host, Repository], server: Server
) -> None:
    """Each number is written after the one before: a copy that has one and not all before it is of no moment."""
    done = threading.Event()
    script = (
        "for i = 1, 50 do redis.call('INCR', KEYS[1]); redis.call('RPUSH', KEYS[2], redis.call('GET', KEYS[1])) end"
    )

    def write() -> None:
        while not done.is_set():
            server.ask("EVAL", script, "2", "count", "list")
            server.ask("BGREWRITEAOF")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        until(lambda: int(server.ask("GET", "count") or 0) > 500, "there is something to save")
        for _ in range(3):
            save(made[0], "timer")
    finally:
        done.set()
        thread.join()
    Restore(made[0], "latest", ["store:redis-shop"]).run("redis-shop", safety=False)
    count = int(server.ask("GET", "count"))
    assert count > 500
    assert server.ask("LRANGE", "list", "0", "-1").split() == [str(number) for number in range(1, count + 1)]


def test_what_its_server_does_not_read_is_taken_back(made: tuple[Host, Repository], server: Server) -> None:
    server.ask("SET", "order", "first")
    save(made[0], "timer")
    server.ask("SET", "order", "later")
    _, kept = next(iter(made[1].kept.values()))
    name = next(path for path in kept if path.endswith(".base.rdb"))
    kept[name] = (b"no store", kept[name][1])
    with pytest.raises(BackupError, match=r"not what was saved"):
        Restore(made[0], "latest", ["store:redis-shop"]).run("redis-shop", safety=False)
    (store,) = stores.stores(made[0].settings.apps)
    broken = server.directory / "broken"
    store.copy(broken)
    next(broken.glob("*/*.base.rdb")).write_bytes(b"no store")
    with pytest.raises(BackupError, match=r"redis-shop does not start on what was saved of it: it does not read"):
        stores.replaced([(store, broken)], "now").__enter__()
    assert server.ask("GET", "order") == "later"


def test_what_fails_afterwards_has_the_store_of_before_back(made: tuple[Host, Repository], server: Server) -> None:
    server.ask("SET", "order", "first")
    (store,) = stores.stores(made[0].settings.apps)
    store.copy(server.directory / "copy")
    with suppress(ValueError), stores.replaced([(store, server.directory / "copy")], "now"):
        server.ask("SET", "order", "meanwhile")
        raise ValueError("the databases")
    assert server.ask("GET", "order") == "first"


def test_what_a_killed_restore_has_left_is_healed(made: tuple[Host, Repository], server: Server) -> None:
    server.ask("SET", "order", "first")
    (store,) = stores.stores(made[0].settings.apps)
    stores.heal(store, run=lambda *_: pytest.fail("nothing was killed"))
    subprocess.run(store.stop, check=True)
    kept = server.data / f"{stores.KEPT}now"
    for directory in (kept, server.data / stores.BESIDE):
        directory.mkdir()
    (server.data / stores.DIRECTORY).rename(kept / stores.DIRECTORY)
    stores.heal(store)
    assert server.ask("GET", "order") == "first"
    assert not kept.exists()


def test_the_one_file_of_before_redis_7(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    store = stores.Store("redis", tmp_path / "data", (), ())
    with pytest.raises(BackupError, match="redis has no append-only file in .*; does its server run"):
        store.copy(tmp_path / "into")
    (tmp_path / "data/appendonly.aof").write_text("*1")
    store.copy(tmp_path / "into")
    assert [path.name for path in (tmp_path / "into").iterdir()] == ["appendonly.aof"]
    assert store.bytes == 2


def test_what_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    manifest = Manifest("h", "t", "c", "/spool", files={"/spool/store-redis/appendonlydir/a": (1, "")})
    assert stores.chosen(manifest, ["all"]) == (["redis"], ["all"])
    assert stores.chosen(manifest, ["database:a", "store:redis"]) == (["redis"], ["database:a"])
    with pytest.raises(BackupError, match="no store rdis; it has: store:redis"):
        stores.chosen(manifest, ["store:rdis"])
    with pytest.raises(BackupError, match="this host has none of that name; run the playbook provision"):
        stores.live(tmp_path, ["redis"])
    assert stores.live(tmp_path, []) == []


@pytest.mark.parametrize("provider", ["compose", "native"])
def test_the_role_writes_down_how_a_store_is_reached(tmp_path: Path, provider: str) -> None:
    shop = Role("redis", redis_instance="shop", redis_mode="store", redis_provider=provider, redis_password="b" * 16)
    said = shop.value("__redis_store_files.store.content")
    (tmp_path / "redis/config").mkdir(parents=True)
    (tmp_path / "redis/config/store.json").write_text(json.dumps(said) if isinstance(said, dict) else said)
    (store,) = stores.stores(tmp_path, run=lambda words, _: Ran((), 0, f"/volumes/{words[-1]}\n"))
    data = {"compose": "/volumes/slipway-redis-shop-data", "native": "/var/lib/redis-shop"}[provider]
    assert (store.name, str(store.data)) == ("redis-shop", data)
    assert Role("redis").value("__redis_store_files[redis_mode].state") == "absent"
