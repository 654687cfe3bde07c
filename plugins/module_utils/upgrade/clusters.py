"""PostgreSQL of the distribution: each version is a cluster named main.

The one that has the link to the role's settings (conf.d/slipway.conf) is the server of this host.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

from ..backup.postgres import Server
from ..host import command
from ..host.durable import sync_directory, write_durably
from ..postgres.clusters import CLUSTERS, LINK, in_place
from ..postgres.server import STATEMENT, SUPERUSERS, Run
from .containers import FAST, SETTINGS, accepted, offered
from .model import Offer, Side, UpgradeError, gone
from .model import Run as Upgrade

PROGRAMS = Path("/usr/lib/postgresql")
LIVE = Path("/var/run/postgresql")
DATA = Path("/var/lib/postgresql")
# Where the new server listens while it is filled, for its user alone.
SOCKET = DATA / "slipway-upgrade"
USER = ("runuser", "-u", "postgres", "--")
_PORT = re.compile(r"^\s*port\s*=?\s*'?(\d+)", re.MULTILINE)
# Seconds for a server to stop, which writes all that it has to its disk.
STOPS_IN = 3600.0


class Clusters:
    """The clusters of the distribution's package.

    Args:
        root: the role's directory, with the settings
        wanted: the version that the distribution has
        settings: the text of the role's settings, as the inventory has them
        initdb: the options with which a cluster is made
        deadline: seconds for a server to answer
    """

    door = ""

    def __init__(
        self, root: Path, wanted: int, settings: str, initdb: str, deadline: float, run: Run = command.run
    ) -> None:
        self._root, self._wanted, self._wants = root, wanted, settings
        self._initdb, self._deadline, self._run = initdb, deadline, run

    def server(self) -> Server:
        return Server(SUPERUSERS["native"], run=self._run)

    def now(self) -> Side:
        versions = in_place(CLUSTERS)
        if not versions:
            raise UpgradeError("nothing was done: this host has no database of Slipway's; run slipway.fleet.provision")
        return Side(versions[0], f"{versions[0]}/main", files={SETTINGS: self._settings.read_text(encoding="utf-8")})

    @property
    def _settings(self) -> Path:
        return self._root / SETTINGS

    def offer(self) -> Optional[Offer]:
        programs = PROGRAMS / str(self._wanted) / "bin"
        if not (programs / "postgres").exists():
            return None
        extensions = f"/usr/share/postgresql/{self._wanted}/extension"
        script = f"{programs}/postgres --version && echo -- && ls {extensions} && echo -- && locale -a"
        return offered(self._done(["sh", "-c", script], f"PostgreSQL {self._wanted} does not say what it has"))

    def new(self, major: int) -> Side:
        side = Side(major, f"{major}/main", files={SETTINGS: self._wants})
        if not self._config(side).exists():
            return side
        return replace(side, aside=f"kept_{time.strftime('%Y%m%d%H%M%S', time.gmtime())}")

    def disk(self) -> Path:
        return DATA

    def make(self, side: Side) -> Server:
        self._make_room(side)
        made = ["pg_createcluster", str(side.major), "main", "--start-conf=manual", "--", *self._initdb.split()]
        self._done(made, "no cluster could be made")
        self._done(
            ["install", "--directory", "--owner=postgres", "--mode=0700", str(SOCKET)], "no socket could be made"
        )
        options = " ".join([f"-c listen_addresses= -c unix_socket_directories={SOCKET} -c port=5432", *FAST])
        start = ["--wait", f"--timeout={int(self._deadline)}", f"--log={SOCKET}/log", f"--options={options}", "start"]
        self._done(self._pg_ctl(side, *start), "the new server does not start")
        return Server(self._as(side, SOCKET), "the new server", self._run)

    def _make_room(self, side: Side) -> None:
        """Have no cluster of that name. One that is there may have data: it is renamed, and never dropped."""
        if side.aside and not self._config(side, side.aside).exists():
            self._done(["systemctl", "stop", self._unit(side)], f"the cluster {side.name} does not stop")
            self._rename(side, "main", side.aside)
        for path in (self._config(side), self._data(side)):
            if path.exists():
                raise UpgradeError(f"{path}, which this upgrade did not make, is in its way; move it away")

    def _rename(self, side: Side, name: str, to: str) -> None:
        words = ["pg_renamecluster", str(side.major), name, to]
        self._done(words, f"the cluster {side.major}/{name} cannot be renamed to {side.major}/{to}")

    def accepts(self, side: Side) -> str:
        words = [*USER, str(PROGRAMS / str(side.major) / "bin" / "postgres"), "-D", str(self._data(side))]
        script = f'cat >{SOCKET}/new.conf && exec "$@" -c config_file={SOCKET}/new.conf -C port'
        return accepted(
            self._run,
            ["sh", "-c", script, "sh", *words],
            f"data_directory = '{self._data(side)}'\n{side.files[SETTINGS]}",
        )

    def source(self) -> tuple[str, ...]:
        return self._as(Side(self._wanted, ""), LIVE, *self._port())

    def _port(self) -> Sequence[str]:
        """Where the server in place listens on its socket."""
        ((port,),) = self.server().sql("postgres", "SHOW port")
        return (f"PGPORT={port}",)

    def rest(self, side: Side) -> None:
        stop = self._pg_ctl(side, "--mode=fast", "--wait", f"--timeout={int(STOPS_IN)}", "stop")
        ran = self._run(stop, STOPS_IN)
        if ran.returncode:
            raise UpgradeError(f"the new server does not stop: {ran.said}")
        os.sync()  # it wrote without waiting for the disk
        shutil.rmtree(SOCKET, ignore_errors=True)

    def discard(self, side: Side) -> None:
        """Drop the cluster where this run made it, and give the one that was in its way its name again."""
        if self._made(side):
            if (self._data(side) / "postmaster.pid").exists() and SOCKET.exists():
                self._run(self._pg_ctl(side, "--mode=immediate", "stop"), STATEMENT)
            dropped = ["pg_dropcluster", "--stop", str(side.major), "main"]
            self._done(dropped, f"the cluster {side.name}, which this upgrade made, cannot be dropped")
        shutil.rmtree(SOCKET, ignore_errors=True)
        if side.aside and self._config(side, side.aside).exists():
            self._rename(side, side.aside, "main")

    def _made(self, side: Side) -> bool:
        """Whether the cluster is that of the side, and not one in its way that was not renamed yet."""
        return self._config(side).exists() and (not side.aside or self._config(side, side.aside).exists())

    def put(self, side: Side, other: Side) -> None:
        for one in (other, side):
            self._done(["systemctl", "stop", self._unit(one)], f"PostgreSQL {one.major} does not stop")
        link = CLUSTERS / str(side.major) / LINK
        self._starts(other, "manual")
        self._starts(side, "auto")
        if side.aside:
            self._starts(side, "manual", side.aside)
        self._swap_ports(side, other)
        link.parent.mkdir(mode=0o755, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(self._settings)
        write_durably(self._settings, side.files[SETTINGS])
        (CLUSTERS / str(other.major) / LINK).unlink(missing_ok=True)
        sync_directory((CLUSTERS / str(other.major) / LINK).parent)

    def _starts(self, side: Side, how: str, name: str = "main") -> None:
        write_durably(self._config(side, name) / "start.conf", f"{how}\n")

    def _swap_ports(self, side: Side, other: Side) -> None:
        """The one in place has the port by the role's settings; of the other one it must not be the same."""
        own = self._port_of(side)
        if own != "5432":
            self._run(["pg_conftool", str(other.major), "main", "set", "port", own], STATEMENT)
            self._run(["pg_conftool", str(side.major), "main", "set", "port", "5432"], STATEMENT)

    def _port_of(self, side: Side) -> str:
        """The port of a cluster's own file, without the role's settings, which pg_conftool would show."""
        found = _PORT.search((self._config(side) / "postgresql.conf").read_text(encoding="utf-8"))
        return found[1] if found else "5432"

    def placed(self, run: Upgrade) -> bool:
        return in_place(CLUSTERS) == [run.new.major]

    def start(self, side: Side, other: Side) -> None:
        for version in in_place(CLUSTERS):
            if version != side.major:
                (CLUSTERS / str(version) / LINK).unlink(missing_ok=True)
        if self._made(other):  # which a way there that was cut may have had start with the host
            self._starts(other, "manual")
            self._swap_ports(side, other)
        self._starts(side, "auto")
        if self._settings.read_text(encoding="utf-8") != side.files[SETTINGS]:
            write_durably(self._settings, side.files[SETTINGS])
        self._run(["systemctl", "daemon-reload"], STATEMENT)  # a generator makes of start.conf what comes with the host
        self._done(["systemctl", "start", self._unit(side)], f"PostgreSQL {side.major} does not start")
        deadline = time.monotonic() + self._deadline
        while not self.server().answers():
            if time.monotonic() > deadline:
                raise UpgradeError(f"PostgreSQL {side.major} gives no answer within {self._deadline:.0f} s")
            time.sleep(0.2)

    def lacking(self, side: Side) -> str:
        return "" if (self._data(side) / "PG_VERSION").exists() and self._config(side).is_dir() else gone(side)

    def removal(self, side: Side) -> str:
        return f"pg_dropcluster {side.name.replace('/', ' ')}"

    def _config(self, side: Side, name: str = "main") -> Path:
        return CLUSTERS / str(side.major) / name

    def _data(self, side: Side) -> Path:
        return DATA / str(side.major) / "main"

    def _unit(self, side: Side) -> str:
        return f"postgresql@{side.major}-main.service"

    def _as(self, side: Side, socket: Path, *more: str) -> tuple[str, ...]:
        programs = f"PATH={PROGRAMS / str(side.major) / 'bin'}:/usr/bin:/bin"
        return (*USER, "env", f"PGHOST={socket}", programs, *more)

    def _pg_ctl(self, side: Side, *words: str) -> list[str]:
        settings = ["-D", str(self._data(side)), "-o", f"-c config_file={CLUSTERS}/{side.major}/main/postgresql.conf"]
        return [*USER, str(PROGRAMS / str(side.major) / "bin" / "pg_ctl"), *settings, *words]

    def _done(self, words: Sequence[str], otherwise: str) -> str:
        ran = self._run(words, STATEMENT)
        if ran.returncode:
            raise UpgradeError(f"{otherwise}: {ran.said}")
        return ran.stdout
