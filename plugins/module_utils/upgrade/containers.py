"""PostgreSQL in a container of Compose: the new data is a volume of its own, and compose.yaml says which one serves.

The new server is filled in the network of the one in place, where its pg_dump comes in over 127.0.0.1, and listens on
its socket alone.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from ..backup.postgres import Server
from ..host import command
from ..host.durable import write_durably
from ..postgres.server import CONTAINER, STATEMENT, SUPERUSERS, Run
from ..postgres.volume import volume_of, with_volume
from .model import Offer, Side, UpgradeError, gone
from .model import Run as Upgrade

NAME = "slipway-postgres-upgrade"
PROJECT = "slipway-postgres"
DATA = "/var/lib/postgresql/data"
COMPOSE, SETTINGS = "compose.yaml", "config/postgresql.conf"
_IMAGE = re.compile(r'^    image: ("[^"]*")$', re.MULTILINE)
# A server that nobody else reaches, and that is made anew where its host goes down.
_FAST = (
    *("fsync=off", "full_page_writes=off", "synchronous_commit=off", "wal_level=minimal", "max_wal_senders=0"),
    *("max_wal_size=4GB", "checkpoint_timeout=1h", "maintenance_work_mem=128MB", "autovacuum=off", "archive_mode=off"),
)
FAST = tuple(word for setting in _FAST for word in ("-c", setting))
# The entry point starts a server of its own first, which answers on the socket as well.
_READY = (
    'for i in $(seq {tries}); do [ "$(cat /proc/1/comm)" = postgres ] && pg_isready --quiet && exit; '
    "sleep 0.2; done; exit 1"
)
_OFFER = 'postgres --version && echo -- && ls "$(pg_config --sharedir)/extension" && echo -- && locale -a'


class Containers:
    """The server of a host's Compose project.

    Args:
        root: the directory with compose.yaml
        image: the wanted image, as it is on this host
        files: the texts of compose.yaml and of the settings, as the inventory has them
        user: the user id of postgres in it
        initdb: how a data directory is made
        deadline: seconds for a server to answer
    """

    door = "host all postgres 127.0.0.1/32 trust\n"

    def __init__(
        self,
        root: Path,
        image: str,
        files: Mapping[str, str],
        user: int,
        initdb: str,
        deadline: float,
        run: Run = command.run,
    ) -> None:
        self._root, self._image, self._files, self._user = root, image, files, user
        self._initdb, self._deadline, self._run = initdb, deadline, run

    def server(self) -> Server:
        return Server(SUPERUSERS["compose"], run=self._run)

    def now(self) -> Side:
        texts = {name: self._text(name) for name in (COMPOSE, SETTINGS)}
        image = _IMAGE.search(texts[COMPOSE])
        if not image:
            raise UpgradeError(
                f"nothing was done: {self._root / COMPOSE} is not what slipway.fleet.provision writes; run that first"
            )
        return Side(self.server().major(), volume_of(texts[COMPOSE]), json.loads(image[1]), texts)

    def offer(self) -> Optional[Offer]:
        if self._run(["docker", "image", "inspect", self._image], STATEMENT).returncode:
            return None
        words = ["docker", "run", "--rm", "--network=none", "--entrypoint=sh", self._image, "-c", _OFFER]
        return offered(self._done(words, f"{self._image} does not say what it has"))

    def new(self, major: int) -> Side:
        name = f"{PROJECT}-{major}-{time.strftime('%Y%m%d%H%M%S', time.gmtime())}"
        return Side(major, name, self._image, {**self._files, COMPOSE: with_volume(self._files[COMPOSE], name)})

    def disk(self) -> Path:
        wanted = ["docker", "volume", "inspect", "--format", "{{.Mountpoint}}", volume_of(self._text(COMPOSE))]
        return Path(self._done(wanted, "nobody knows where the data is").strip())

    def make(self, side: Side) -> Server:
        self.discard(side)
        labels = [f"--label=com.docker.compose.{name}" for name in (f"project={PROJECT}", "volume=data")]
        self._done(["docker", "volume", "create", *labels, side.name], "no volume could be made")
        self._done(
            [
                *("docker", "run", "--detach", "--name", NAME, "--network", f"container:{CONTAINER}"),
                *("--user", f"{self._user}:{self._user}", "--cap-drop=ALL", "--security-opt=no-new-privileges:true"),
                *("--shm-size=256m", "--log-driver=local", "--stop-signal=SIGINT"),
                *("--env", "POSTGRES_USER=postgres", "--env", "POSTGRES_PASSWORD_FILE=/proc/sys/kernel/random/uuid"),
                *("--env", f"POSTGRES_INITDB_ARGS={self._initdb}", "--env", f"PGDATA={DATA}"),
                *("--volume", f"{side.name}:{DATA}", side.image, "postgres", "-c", "listen_addresses=", *FAST),
            ],
            "the new server could not be started",
        )
        ready = _READY.format(tries=int(self._deadline * 5))
        ran = self._run(["docker", "exec", NAME, "sh", "-c", ready], self._deadline + STATEMENT)
        if ran.returncode:
            said = self._run(["docker", "logs", "--tail", "5", NAME], STATEMENT)
            raise UpgradeError(f"the new server does not start: {(said.stdout + said.stderr).strip() or ran.said}")
        return Server(("docker", "exec", "-i", NAME), "the new server", self._run)

    def accepts(self, side: Side) -> str:
        # Its hba_file is another one's, and is not read for this.
        script = (
            f"cat >/tmp/new.conf && postgres -D {DATA} -c config_file=/tmp/new.conf -c data_directory={DATA} -C port"
        )
        return accepted(self._run, ["docker", "exec", "-i", NAME, "sh", "-c", script], side.files[SETTINGS])

    def source(self) -> tuple[str, ...]:
        return ("docker", "exec", "-i", "--env", "PGHOST=127.0.0.1", NAME)

    def rest(self, side: Side) -> None:
        self._done(["docker", "stop", "--time", "600", NAME], "the new server does not stop")
        code = self._done(["docker", "inspect", "--format", "{{.State.ExitCode}}", NAME], "the new server is gone")
        if code.strip() != "0":
            raise UpgradeError(f"the new server did not stop in order: exit code {code.strip()}")
        os.sync()  # it wrote without waiting for the disk
        self._run(["docker", "rm", "--volumes", NAME], STATEMENT)

    def discard(self, side: Side) -> None:
        self._run(["docker", "rm", "--force", "--volumes", NAME], STATEMENT)
        self._run(["docker", "volume", "rm", side.name], STATEMENT)

    def put(self, side: Side, other: Side) -> None:
        if not self._run(["docker", "inspect", CONTAINER], STATEMENT).returncode:
            self._done(["docker", "stop", CONTAINER], "the server does not stop")
        for name in (SETTINGS, COMPOSE):
            write_durably(self._root / name, side.files[name])

    def placed(self, run: Upgrade) -> bool:
        return self._text(COMPOSE) == run.new.files[COMPOSE]

    def start(self, side: Side, other: Side) -> None:
        if self._text(SETTINGS) != side.files[SETTINGS]:
            write_durably(self._root / SETTINGS, side.files[SETTINGS])
        wait = ["--wait", "--wait-timeout", str(int(self._deadline))]
        words = ["docker", "compose", "--project-directory", str(self._root), "up", "--detach", "--pull=never", *wait]
        ran = self._run(words, self._deadline + STATEMENT)
        if ran.returncode or not self.server().answers():
            said = self._run(["docker", "logs", "--tail", "5", CONTAINER], STATEMENT)
            raise UpgradeError(
                f"PostgreSQL {side.major} does not start: {ran.said}; its last words: "
                f"{(said.stdout + said.stderr).strip()}"
            )

    def lacking(self, side: Side) -> str:
        if self._run(["docker", "volume", "inspect", side.name], STATEMENT).returncode:
            return gone(side)
        # No container refers to it, so a prune of images takes it.
        if self._run(["docker", "image", "inspect", side.image], STATEMENT).returncode:
            return (
                f"the data of PostgreSQL {side.major} is there ({side.name}), and its image is not on this host any "
                f"more; bring that with docker pull {side.image}, or docker load"
            )
        return ""

    def removal(self, side: Side) -> str:
        return f"docker volume rm {side.name}"

    def _text(self, name: str) -> str:
        try:
            return (self._root / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            raise UpgradeError(
                f"nothing was done: this host has no database of Slipway's in a container (no {self._root / name})"
            ) from None

    def _done(self, words: Sequence[str], otherwise: str) -> str:
        ran = self._run(words, STATEMENT)
        if ran.returncode:
            raise UpgradeError(f"{otherwise}: {ran.said}")
        return ran.stdout


def offered(said: str) -> Offer:
    """What a version of PostgreSQL told of itself: its version, its extensions, the system's locales."""
    version, extensions, locales = said.split("--\n", 2)
    found = re.search(r"(\d+)(?:\.\d+|\w+)?", version)
    if not found:
        raise UpgradeError(f"the new server does not say its version: {version.strip()}")
    control = ".control"
    return Offer(
        int(found[1]),
        found[0],
        frozenset(name[: -len(control)] for name in extensions.split() if name.endswith(control)),
        frozenset(locales.split()),
    )


def accepted(run: Run, words: Sequence[str], settings: str) -> str:
    """Why settings are refused by a command that reads them from its input; empty where they are not."""
    with tempfile.TemporaryFile() as source:
        source.write(settings.encode())
        source.seek(0)
        ran = run(words, STATEMENT, source=source)
    return ran.said if ran.returncode else ""
