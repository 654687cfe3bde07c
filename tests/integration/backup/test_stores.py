"""A store of Redis in a set: of one moment while it is written to, back in its place, as it was where that fails."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup import program, restoring, stores
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import BackupError, Manifest
from ansible_collections.slipway.fleet.plugins.module_utils.backup.restoring import Restore
from ansible_collections.slipway.fleet.plugins.module_utils.backup.saving import Host, save
from ansible_collections.slipway.fleet.plugins.module_utils.host import command
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import CommandError, Ran

from tests.app.conftest import until
from tests.templates.rendering import Role
from tests.unit.backup.memory import Databases, Repository, host

# Starts a server as a unit does: it is there when the command has ended, and one that runs is left alone.
START = """
import pathlib, subprocess, sys, time
directory = pathlib.Path(sys.argv[1])
asked = subprocess.run(["redis-cli", "-s", str(directory / "socket"), "ping"], capture_output=True, text=True)
if asked.stdout.strip() == "PONG":
    sys.exit(0)
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
# Stops it, and has nothing to do where none runs.
STOP = """
import pathlib, subprocess, sys, time
words = ["redis-cli", "-s", str(pathlib.Path(sys.argv[1]) / "socket")]
while subprocess.run([*words, "ping"], capture_output=True, text=True).stdout.strip() == "PONG":
    subprocess.run([*words, "shutdown"], capture_output=True)
    time.sleep(0.05)
"""


class Server:
    """A store as the role writes it down, with a real server."""

    def __init__(self, apps: Path) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="store"))
        self.data = self.directory / "data"
        self.data.mkdir()
        self.start = [sys.executable, "-c", START, str(self.directory)]
        said = {"name": "redis-shop", "data": str(self.data), "start": self.start}
        said["stop"] = [sys.executable, "-c", STOP, str(self.directory)]
        self.record = apps / "redis/instances/shop/config/store.json"
        self.record.parent.mkdir(parents=True)
        self.record.write_text(json.dumps(said))
        subprocess.run(self.start, check=True)

    def names(self) -> list[str]:
        """What Redis reads of its data, and what a restore has left beside."""
        return sorted(path.name for path in self.data.iterdir() if not path.name.startswith(stores.KEPT))

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
    assert not list(server.data.glob(f"{stores.BESIDE}*"))
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
    unread = r"redis-shop does not start on what was saved of it: it does not read its files$"
    with pytest.raises(BackupError, match=unread), replaced(store, broken):
        pytest.fail("it started")
    assert server.ask("GET", "order") == "later"
    assert server.names() == [stores.DIRECTORY]


@contextmanager
def replaced(store: stores.Store, source: Path, run: stores.Run = command.run) -> Iterator[None]:
    with stores.laid([(store, source)], "now") as laid, stores.replaced(laid, "now", run):
        yield


def of_before_7(directory: Path) -> Path:
    """A saved store of Redis 6: the one file, which a server of today takes into a directory when it starts."""
    directory.mkdir()
    words = ("SET", "order", "saved")
    file = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    (directory / stores.BEFORE_7).write_text(f"*{len(words)}\r\n{file}", newline="")
    return directory


@pytest.mark.parametrize("of_6", [False, True], ids=["of today", "of Redis 6"])
def test_what_fails_afterwards_has_the_store_of_before_back(
    made: tuple[Host, Repository], server: Server, of_6: bool
) -> None:
    server.ask("SET", "order", "first")
    (store,) = stores.stores(made[0].settings.apps)
    copy = server.directory / "copy"
    of_before_7(copy) if of_6 else store.copy(copy)

    def fail() -> None:
        assert server.ask("GET", "order") == ("saved" if of_6 else "first")
        server.ask("SET", "order", "meanwhile")
        raise ValueError("the databases")

    with pytest.raises(ValueError, match="the databases"), replaced(store, copy):
        fail()
    assert server.ask("GET", "order") == "first"
    assert server.names() == [stores.DIRECTORY]


@pytest.mark.parametrize("at", [1, 2], ids=["the first stop", "the start"])
def test_a_command_that_cannot_be_run_leaves_no_store_down(
    made: tuple[Host, Repository], server: Server, at: int
) -> None:
    server.ask("SET", "order", "first")
    (store,) = stores.stores(made[0].settings.apps)
    ran: list[Sequence[str]] = []

    def run(words: Sequence[str], limit: float) -> Ran:
        ran.append(words)
        if len(ran) == at:
            command.run(words, limit)  # it may have been done all the same
            raise CommandError("did not end")
        return command.run(words, limit)

    copy = of_before_7(server.directory / "copy")
    with pytest.raises(BackupError, match=r"redis-shop .*: did not end$"), replaced(store, copy, run):
        pytest.fail("it was replaced")
    assert server.ask("GET", "order") == "first"
    assert server.names() == [stores.DIRECTORY]


@pytest.mark.parametrize("what", ["stop", "start"])
def test_what_is_not_back_is_told_and_healed_by_the_next_run(
    made: tuple[Host, Repository], server: Server, what: str
) -> None:
    """Of two stores, the other one of which is put back all the same."""
    server.ask("SET", "order", "first")
    (store,) = stores.stores(made[0].settings.apps)
    copy, other = of_before_7(server.directory / "copy"), replace(store, name="other", data=server.directory / "other")
    (other.data / stores.DIRECTORY).mkdir(parents=True)
    undoing: list[str] = []

    def run(words: Sequence[str], limit: float) -> Ran:
        if undoing and words == list(getattr(store, what)):
            raise CommandError("did not end")
        return command.run(words, limit)

    def fail() -> None:
        undoing.append("it")
        raise ValueError("the databases")

    other = replace(other, stop=("true",), start=("true",))
    with (
        pytest.raises(BackupError, match=rf"^the databases; and what .* cannot be {what}[a-z]+: did not end\. Mend"),
        stores.laid([(store, copy), (other, copy)], "now") as laid,
        stores.replaced(laid, "now", run),
    ):
        fail()
    assert [path.name for path in other.data.iterdir()] == [stores.DIRECTORY]
    stores.heal(store)
    assert server.ask("GET", "order") == "first"
    assert server.names() == [stores.DIRECTORY]


def killed(server: Server, store: stores.Store, when: str) -> None:
    """As one has left it that was killed when it had laid the saved files beside, or at a later point."""
    copy, beside = of_before_7(server.directory / "copy"), server.data / f"{stores.BESIDE}2026-01-02"
    shutil.copytree(copy, beside)
    (server.data / f"{stores.KEPT}2026-01-01").mkdir()  # of an earlier restore
    (server.data / f"{stores.KEPT}2026-01-01/appendonlydir").mkdir()
    if when == "laid":
        return
    kept = server.data / f"{stores.KEPT}2026-01-02"
    kept.mkdir()
    subprocess.run(store.stop, check=True)
    (server.data / stores.DIRECTORY).rename(kept / stores.DIRECTORY)
    if when in {"exchanged", "read"}:
        (beside / stores.BEFORE_7).rename(server.data / stores.BEFORE_7)
    if when in {"booted", "read"}:
        subprocess.run(store.start, check=True)
        server.ask("SET", "order", "since")


@pytest.mark.parametrize("when", ["laid", "kept", "booted", "exchanged", "read"])
@pytest.mark.parametrize("again", [False, True], ids=["once", "where the first try does not start it"])
def test_what_a_killed_restore_has_left_is_healed_by_every_run(
    made: tuple[Host, Repository], server: Server, when: str, again: bool
) -> None:
    server.ask("SET", "order", "first")
    (store,) = stores.stores(made[0].settings.apps)
    stores.heal(store, run=lambda *_: pytest.fail("nothing was killed"))
    killed(server, store, when)
    if again:
        with pytest.raises(BackupError, match="which a restore that was killed left, cannot be started"):
            stores.heal(replace(store, start=("false",)))
    program.answer(program.parser().parse_args(["backup"]), made[0])
    assert server.ask("GET", "order") == "first"
    since = [path.name for path in server.data.glob(f"{stores.KEPT}20*/*")]
    assert server.names() == [stores.DIRECTORY]
    assert len(since) == (1 if when in {"laid", "kept"} else 2), "what was written since is kept"


def test_one_that_cannot_be_healed_fails_a_backup_and_no_other_verb(
    made: tuple[Host, Repository], server: Server
) -> None:
    parsed = program.parser().parse_args
    program.answer(parsed(["backup"]), made[0])
    (store,) = stores.stores(made[0].settings.apps)
    killed(server, store, "exchanged")
    server.record.write_text(json.dumps({**json.loads(server.record.read_text()), "start": ["false"]}))
    with pytest.raises(BackupError, match="redis-shop, which a restore that was killed left, cannot be started"):
        program.answer(parsed(["backup"]), made[0])
    uploads = f"{made[0].settings.directories[0]}"
    words = ["restore", f"--part=directory:{uploads}", f"--confirm={uploads}", "--no-safety"]
    done = program.answer(parsed(words), made[0])
    assert "cannot be started" in done["warnings"][0]
    server.record.write_text(json.dumps({**json.loads(server.record.read_text()), "start": server.start}))
    words = ["restore", "--part=store:redis-shop", "--confirm=redis-shop", "--no-safety"]
    assert program.answer(parsed(words), made[0])["restored"]
    assert server.names() == [stores.DIRECTORY]


def test_stores_are_fetched_and_compared_before_a_directory_changes_its_name(
    made: tuple[Host, Repository], server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(made[0], "timer")
    _, kept = next(iter(made[1].kept.values()))
    name = next(path for path in kept if path.endswith(".base.rdb"))
    kept[name] = (b"no store", kept[name][1])
    monkeypatch.setattr(restoring, "_exchanged", lambda *_: pytest.fail("a directory went live"))
    with pytest.raises(BackupError, match=r"not what was saved"):
        Restore(made[0], "latest", ["all"]).run("h", safety=False)
    assert server.names() == [stores.DIRECTORY]


def test_a_set_that_the_server_would_not_read_is_refused_by_name(made: tuple[Host, Repository], server: Server) -> None:
    save(made[0], "timer")
    restore = Restore(made[0], "latest", ["all"])
    assert restore.plan()["impossible"] == ""
    subprocess.run([sys.executable, "-c", STOP, str(server.directory)], check=True)
    shutil.rmtree(server.data / stores.DIRECTORY)
    (server.data / stores.BEFORE_7).touch()
    assert "store:redis-shop cannot be restored: the set has it as Redis 7" in restore.plan()["impossible"]
    with pytest.raises(BackupError, match=r"nothing was done: store:redis-shop .* would start empty\. Have Redis 7"):
        restore.run("h", safety=False)
    assert (server.data / stores.BEFORE_7).exists()


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
    with pytest.raises(BackupError, match="this host has none of that name; run slipway.fleet.provision"):
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
