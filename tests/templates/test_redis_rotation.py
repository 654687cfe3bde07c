"""A cache takes a new password beside the former one, then it alone, on a real server, cut after each effect."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.filter.acl import acl_passwords

from tests.app.conftest import takes, until
from tests.templates.rendering import Role

FIRST, SECOND, THIRD = "first-password-0123456789", "second-password-0123456789", "third-password-0123456789"


class Cache:
    """A server with the role's file of users, which is changed and loaded as the role's tasks do."""

    def __init__(self, directory: Path) -> None:
        self.socket, self.users = directory / "redis.sock", directory / "users.acl"
        self.put(FIRST)
        self.start()

    def start(self) -> None:
        here = str(self.socket.parent)
        options = [
            "--port",
            "0",
            "--unixsocket",
            str(self.socket),
            "--save",
            "",
            "--dir",
            here,
            "--aclfile",
            str(self.users),
        ]
        self.process = subprocess.Popen(["redis-server", *options], stdout=subprocess.DEVNULL)
        until(lambda: takes(self.socket), "redis-server")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)

    def role(self, password: str) -> Role:
        return Role(
            "redis",
            redis_provider="native",
            redis_password=password,
            __redis_places={"native": {"socket": str(self.socket)}},
        )

    def put(self, password: str, *, beside: bool = True) -> None:
        """What the tasks `users` write, and `retire` where no other is to stay beside it."""
        before = acl_passwords(self.users.read_text()) if beside and self.users.exists() else []
        self.users.write_text(self.role(password).render("users.acl.j2", __redis_taken_before=before))

    def load(self) -> str:
        return subprocess.run(
            self.role(FIRST).value("__redis_load"), capture_output=True, text=True, check=False
        ).stdout.strip()

    def says(self, *words: str, password: str = FIRST, user: str = "default") -> str:
        """What the server answers, errors included."""
        command = ["redis-cli", "-s", str(self.socket), "--no-auth-warning", "--user", user, "--pass", password, *words]
        ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        return (ran.stdout + ran.stderr).strip()

    def takes(self, password: str) -> bool:
        return self.says("SET", "one", "1", password=password) == "OK"


@pytest.fixture
def cache() -> Iterator[Cache]:
    with tempfile.TemporaryDirectory(prefix="redis") as directory:
        made = Cache(Path(directory))
        yield made
        made.stop()


@pytest.fixture(scope="module")
def shared() -> Iterator[Cache]:
    """One that nobody changes."""
    with tempfile.TemporaryDirectory(prefix="redis") as directory:
        made = Cache(Path(directory))
        assert made.takes(FIRST)
        yield made
        made.stop()


def test_it_rotates_and_goes_on_wherever_it_was_cut(cache: Cache) -> None:
    def taken() -> list[bool]:
        return [cache.takes(password) for password in (FIRST, SECOND)]

    cache.put(SECOND)
    assert taken() == [True, False], "cut before it was loaded"
    cache.put(SECOND)  # the next run finds the file as it was left
    assert cache.load() == "OK"
    assert taken() == [True, True]
    cache.stop()
    cache.start()
    assert taken() == [True, True], "after a restart too"
    cache.put(SECOND, beside=False)
    assert taken() == [True, True], "cut before it was loaded"
    cache.put(SECOND)
    assert cache.load() == "OK"
    assert taken() == [False, True]
    cache.put(SECOND, beside=False)
    assert cache.load() == "OK"
    assert taken() == [False, True]


def test_a_password_that_came_meanwhile_takes_both_away(cache: Cache) -> None:
    for password in (SECOND, THIRD):
        cache.put(password)
        assert cache.load() == "OK"
    assert [cache.takes(password) for password in (FIRST, SECOND, THIRD)] == [True, True, True]
    cache.put(THIRD, beside=False)
    assert cache.load() == "OK"
    assert [cache.takes(password) for password in (FIRST, SECOND, THIRD)] == [False, False, True]


def test_connections_stay_while_users_are_loaded(cache: Cache) -> None:
    command = ["redis-cli", "-s", str(cache.socket), "--no-auth-warning", "--pass", FIRST]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        into, out = client.stdin, client.stdout
        assert into
        assert out

        def asked(words: str) -> str:
            into.write(f"{words}\n")
            into.flush()
            return out.readline().strip()

        number = asked("CLIENT ID")
        cache.put(SECOND)
        assert cache.load() == "OK"
        assert asked("CLIENT ID") == number
        into.close()


def test_who_loads_may_do_nothing_else(cache: Cache) -> None:
    load = cache.role(FIRST).value("__redis_load")
    assert load[-2:] == ["ACL", "LOAD"]
    for words in (
        ["ACL", "LIST"],
        ["PING"],
        ["GET", "one"],
        ["CONFIG", "GET", "*"],
        ["ACL", "SETUSER", "default", "nopass"],
    ):
        said = subprocess.run([*load[:-2], *words], capture_output=True, text=True, check=False).stdout
        assert "NOPERM" in said, words


# What commands the server, its host or other clients, or what makes it unusable for all.
COMMANDS = """CONFIG GET *
CONFIG SET dir /etc
CONFIG SET dbfilename authorized_keys
CONFIG REWRITE
ACL LIST
ACL GETUSER default
ACL SETUSER other on nopass ~* +@all
ACL LOAD
FLUSHALL
FLUSHDB
SWAPDB 0 1
MODULE LOAD /tmp/module.so
MODULE LIST
DEBUG SLEEP 1
DEBUG SEGFAULT
SHUTDOWN NOSAVE
SAVE
BGSAVE
BGREWRITEAOF
KEYS *
SORT one
MIGRATE 127.0.0.1 6379 one 0 1000
RESTORE other 0 x
REPLICAOF 127.0.0.1 6379
SYNC
PSYNC ? -1
REPLCONF listening-port 1
FAILOVER
CLUSTER RESET
CLIENT LIST
CLIENT KILL TYPE normal
CLIENT PAUSE 10000
MONITOR
SLOWLOG GET
LATENCY RESET
LASTSAVE
PFDEBUG GETREG one
ROLE"""


@pytest.mark.parametrize("words", COMMANDS.splitlines())
def test_who_has_the_app_s_password_commands_no_server(shared: Cache, words: str) -> None:
    said = shared.says(*words.split())
    # DEBUG and MODULE are for nobody: Redis has them off.
    assert "NOPERM" in said or "command not allowed" in said, said
    arguments = ", ".join(repr(word) for word in words.split())
    by_script = shared.says("EVAL", f"return redis.call({arguments})", "0")
    assert any(said in by_script for said in ("can't run this command", "not allowed from script")), by_script
    assert shared.says("GET", "one") == "1"


def test_an_app_has_its_keys_and_what_libraries_ask(shared: Cache) -> None:
    """Or the test above would prove nothing."""
    for words, said in (
        ("SCAN 0", "one"),
        ("INFO server", "redis_version"),
        ('EVAL \'return redis.call("get","one")\' 0', "1"),
        ("CLIENT SETNAME app", "OK"),
        ("PUBLISH news 1", "0"),
    ):
        assert said in shared.says(*shlex.split(words)), words


@pytest.mark.parametrize("user", ["default", "health", "loader", "nobody"])
def test_without_the_password_nobody_reads_or_writes(shared: Cache, user: str) -> None:
    for words in (["GET", "one"], ["SET", "one", "2"], ["ACL", "WHOAMI"], ["INFO"], ["CONFIG", "GET", "*"]):
        said = shared.says(*words, user=user, password="none")
        assert any(word in said for word in ("NOPERM", "WRONGPASS", "NOAUTH")), (words, said)
    assert shared.says("GET", "one") == "1"


def test_a_server_of_before_says_that_it_does_not_know_who_loads(cache: Cache) -> None:
    """By this the role restarts it, once."""
    cache.stop()
    cache.users.write_text("\n".join(cache.users.read_text().splitlines()[:2]) + "\n")
    cache.start()
    said = cache.load()
    assert "NOAUTH" in said or "WRONGPASS" in said


@pytest.mark.parametrize(
    ("users", "found"),
    [
        ("", []),
        ("user default on #" + "a" * 64 + " ~* +@all\nuser health on nopass +ping\n", ["a" * 64]),
        ("user default on #" + "a" * 64 + " #" + "b" * 64 + " ~#" + "c" * 64, ["a" * 64, "b" * 64]),
        ("user other on #" + "a" * 64, []),
    ],
)
def test_which_passwords_a_file_of_users_has(users: str, found: list[str]) -> None:
    assert acl_passwords(users) == found
