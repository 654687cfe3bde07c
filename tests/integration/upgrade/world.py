"""Two real servers of a test: the one in place, and one that is filled.

Both are of the version that this machine has; which major version a side is said to be is its name.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

from ansible_collections.slipway.fleet.plugins.module_utils.backup.postgres import Server
from ansible_collections.slipway.fleet.plugins.module_utils.host import command
from ansible_collections.slipway.fleet.plugins.module_utils.host.durable import write_durably
from ansible_collections.slipway.fleet.plugins.module_utils.postgres.admitting import access_file
from ansible_collections.slipway.fleet.plugins.module_utils.postgres.scram import verifier
from ansible_collections.slipway.fleet.plugins.module_utils.upgrade.model import Offer, Run, Side, UpgradeError
from ansible_collections.slipway.fleet.plugins.module_utils.upgrade.upgrading import Upgrade

from tests.app.conftest import binary
from tests.real_postgres import AS_USER

PASSWORD = "a-password-of-the-app"
OLD, NEW = 15, 16
HBA = """\
# Ansible managed
local all postgres peer
# app links
local links links scram-sha-256
local links +links scram-sha-256
"""
BINARIES = Path(binary("postgres")).parent
Reached = Callable[[str], None]


class Plain:
    """Runs servers as processes. `reached` is told of each step before it is taken, and may never return."""

    door = ""

    def __init__(self, root: Path, reached: Reached = lambda step: None) -> None:
        self.root, self.reached = root, reached
        self.offers = Offer(NEW, f"{NEW}.1", frozenset({"plpgsql", "pg_trgm"}), frozenset({"C.utf8", "en_US.utf8"}))

    def side(self, major: int) -> Side:
        return Side(major, f"data-{major}", files={"settings": f"# {major}\n"})

    def new(self, major: int) -> Side:
        return self.side(major)

    def server(self) -> Server:
        return self._server("live")

    def now(self) -> Side:
        return self.side(int((self.root / "current").read_text(encoding="utf-8")))

    def offer(self) -> Offer:
        return self.offers

    def disk(self) -> Path:
        return self.root

    def make(self, side: Side) -> Server:
        self.reached("make")
        self.discard(side)
        # What initdb makes, made once.
        self._done([*AS_USER, "cp", "--recursive", str(self.root / "empty"), str(self.root / side.name)])
        self.reached("made")
        self._start(side, "aside", "-c fsync=off")
        return self._server("aside")

    def accepts(self, side: Side) -> str:
        self.reached("accepts")
        return ""

    def source(self) -> tuple[str, ...]:
        self.reached("source")
        return self._as("live")

    def rest(self, side: Side) -> None:
        self.reached("rest")
        self._stop(side)

    def discard(self, side: Side) -> None:
        self.reached("discard")
        self._stop(side)
        shutil.rmtree(self.root / side.name, ignore_errors=True)

    def put(self, side: Side, other: Side) -> None:
        self.reached("put")
        for one in (other, side):
            self._stop(one)
        self.reached("stopped")
        write_durably(self.root / "settings", side.files["settings"])
        self.reached("settings")
        write_durably(self.root / "current", f"{side.major}\n")
        self.reached("placed")

    def placed(self, run: Run) -> bool:
        return self.now().major == run.new.major

    def start(self, side: Side, other: Side) -> None:
        self.reached("start")
        write_durably(self.root / "settings", side.files["settings"])
        if not (self.root / side.name / "postmaster.pid").exists():
            self._start(side, "live", f"-c hba_file={access_file(self.root)}")
        if not self.server().answers():
            raise UpgradeError(f"{side.name} does not start")
        self.reached("started")

    def lacking(self, side: Side) -> str:
        return "" if (self.root / side.name).is_dir() else "it is gone"

    def removal(self, side: Side) -> str:
        return f"rm {side.name}"

    def stop(self) -> None:
        for major in (OLD, NEW):
            self._stop(self.side(major))

    def _server(self, socket: str) -> Server:
        return Server(self._as(socket))

    def _as(self, socket: str) -> tuple[str, ...]:
        return (*AS_USER, "env", f"PGHOST={self.root / socket}", f"PATH={BINARIES}:/usr/bin:/bin")

    def _start(self, side: Side, socket: str, more: str) -> None:
        options = f"-c listen_addresses= -c unix_socket_directories={self.root / socket} -c max_connections=20 {more}"
        words = ["--pgdata", str(self.root / side.name), "--log", str(self.root / socket / "log"), "--options", options]
        self._done([*AS_USER, str(BINARIES / "pg_ctl"), *words, "--wait", "start"])

    def _stop(self, side: Side) -> None:
        if (self.root / side.name / "postmaster.pid").exists():
            words = ["--pgdata", str(self.root / side.name), "--mode=fast", "--wait", "stop"]
            self._done([*AS_USER, str(BINARIES / "pg_ctl"), *words])

    @staticmethod
    def _done(words: list[str]) -> None:
        with open(os.devnull, "wb") as nowhere:  # a server keeps the output of what has started it
            ran = command.run(words, 60, target=nowhere)
        if ran.returncode:
            raise UpgradeError(ran.said)


def begin(root: Path) -> Plain:
    """A server in place with an app's data in all its kinds, in a directory that the superuser can go through."""
    for name in ("live", "aside", "config"):
        (root / name).mkdir()
    if AS_USER:
        for path in (root, root / "live", root / "aside"):
            shutil.chown(path, "postgres")
    options = ["--auth=peer", "--username=postgres", "--no-sync", "--encoding=UTF8", "--locale=C"]
    made = [*AS_USER, str(BINARIES / "initdb"), "-D", str(root / "empty"), *options]
    subprocess.run(made, check=True, capture_output=True, cwd="/")
    provider = Plain(root)
    subprocess.run([*AS_USER, "cp", "-r", str(root / "empty"), str(root / f"data-{OLD}")], check=True, cwd="/")
    access_file(root).write_text(HBA, encoding="utf-8")
    (root / "current").write_text(f"{OLD}\n", encoding="utf-8")
    provider.start(provider.side(OLD), provider.side(NEW))
    server = provider.server()
    server.run_globals(f"CREATE ROLE links LOGIN CONNECTION LIMIT 7 PASSWORD '{verifier(PASSWORD)}';\n")
    server.sql(
        "postgres",
        "CREATE ROLE reader",
        "CREATE ROLE links_1a2b LOGIN IN ROLE links",
        "ALTER ROLE links_1a2b SET role TO links",
        "COMMENT ON ROLE links_1a2b IS 'slipway login of links'",
        "CREATE DATABASE links OWNER links CONNECTION LIMIT 9",
        "CREATE DATABASE maps",
        "REVOKE ALL ON DATABASE links FROM PUBLIC",
        "REVOKE ALL ON DATABASE postgres FROM PUBLIC",
        "ALTER DATABASE links SET statement_timeout TO '31s'",
        "ALTER ROLE links IN DATABASE links SET work_mem TO '5MB'",
        "CREATE DATABASE slipway_before_x",
        "ALTER DATABASE slipway_before_x ALLOW_CONNECTIONS false",
        # None of these is taken along.
        "ALTER DATABASE slipway_before_x SET work_mem TO '6MB'",
        "CREATE DATABASE slipway_restoring_links",
        "ALTER DATABASE slipway_restoring_links SET work_mem TO '6MB'",
        "ALTER DATABASE template1 SET work_mem TO '6MB'",
    )
    server.sql(
        "links",
        "SET ROLE links",
        "CREATE TABLE rows (id int GENERATED ALWAYS AS IDENTITY, text text, at float8, more jsonb)",
        "INSERT INTO rows (text, at, more) SELECT md5(g::text), g / 3.0, json_build_object('g', g) "
        "FROM generate_series(1, 2000) g",
        "CREATE INDEX ON rows (text)",
        "GRANT SELECT ON rows TO reader",
        "RESET ROLE",
        "CREATE EXTENSION pg_trgm",
        "SELECT lo_from_bytea(0, 'large')",
    )
    return provider


def upgrade(provider: Plain, wanted: int = NEW) -> Upgrade:
    return Upgrade(provider.root, provider, wanted, provider.root / "backups")


def written(provider: Plain) -> None:
    """A row of the app, by its own login."""
    as_app(provider, "INSERT INTO rows (text) VALUES ('later')")


def as_app(provider: Plain, statement: str) -> str:
    """What the server says to the app, which logs in with its password."""
    words = [
        str(BINARIES / "psql"),
        "-XAtq",
        "-v",
        "ON_ERROR_STOP=1",
        "-h",
        str(provider.root / "live"),
        "-U",
        "links",
        "links",
    ]
    ran = subprocess.run(
        [*words, "-U", "links", "links", "-c", statement],
        env={"PGPASSWORD": PASSWORD},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def killed(provider: Plain, step: str, work: Callable[[Plain], object]) -> None:
    """Do something in a process that is killed as soon as it reaches a step."""
    child = os.fork()
    if child == 0:
        try:
            work(Plain(provider.root, lambda now: os.kill(os.getpid(), signal.SIGKILL) if now == step else None))
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"it never came to {step}"
