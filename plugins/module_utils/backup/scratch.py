"""The server that a drill restores into, and the network in which a release finds it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Union

from ..host import command
from ..postgres.server import STATEMENT, Run
from ..release.stage import Stage
from .away import PROGRAMS, Away
from .likeness import Likeness
from .model import FAILED, BackupError, Database
from .postgres import Server

# The containers of a drill: its server, and what stands in for the caches of the host.
OWN = "^slipway-drill(-of-.*)?$"
# Whom a cluster lets in that stands in for one of another host: nobody else gets into its network.
ACCESS = "local all all peer\nhost all all all md5\n"
# What it says of a login that it has not, or has with another password.
_AWAY = re.compile(
    r"password authentication failed for user .*|role \".*\" (does not exist|is not permitted to log in)"
)


class StandIn(Server):
    """The server of a drill for one of which this host has not all that it was made with."""

    def make(self, database: Database, name: str) -> None:
        """With what sorts texts by code point where this host has not the locale; rows are the same with any."""
        try:
            super().make(database, name)
        except BackupError as error:
            if "locale" not in str(error).lower():
                raise
            plain = "C.UTF-8" if database.encoding == "UTF8" else "C"
            super().make(replace(database, collate=plain, ctype=plain, provider="", locale=""), name)


class StandInElsewhere(StandIn):
    """For one elsewhere, which counts as that one was counted."""

    counts = Away.counts


class Abroad:
    """The server of another host of the fleet, as a set of that host describes it."""

    own = True

    def __init__(self, host: str, likeness: Likeness) -> None:
        self.host, self._likeness = host, likeness

    def likeness(self) -> Likeness:
        return self._likeness

    def major(self) -> int:
        return self._likeness.major


class Scratch:
    """A server of its own for a drill, removed afterwards: enter it to have it run.

    It is in a network that leads nowhere, for a release that is started against it: in a container under the names of
    the live one, and for what shares its network at its addresses; as a cluster of the host at its addresses and, where
    they have its directory mounted in place of the live one, on its socket. Nobody else reaches it.
    """

    NAME = NETWORK = "slipway-drill"
    CLUSTER = Path("/var/lib/postgresql/slipway-drill")
    # Where `ip netns` has it.
    NAMESPACE = Path("/run/netns", NAME)

    def __init__(self, live: Union[Server, Abroad], provider: str, run: Run = command.run) -> None:
        self._live, self._provider, self._run = live, provider, run

    @property
    def disk(self) -> Path:
        """The directory on whose disk its data is."""
        return Path("/var/lib/docker") if self._provider == "compose" else self.CLUSTER.parent

    @property
    def stage(self) -> Stage:
        """Where releases find it. Raises BackupError where the live one does not say where they find that."""
        live = self._live.likeness()
        if self._provider == "compose":
            return Stage(self.NETWORK, str(self.NAMESPACE), lacks=live.lacks, server=self.NAME)
        sockets = dict.fromkeys(live.sockets, self.CLUSTER / "socket")
        return Stage(namespace=str(self.NAMESPACE), sockets=sockets)

    def __enter__(self) -> Server:
        self.remove()
        try:
            return self._container() if self._provider == "compose" else self._cluster()
        except BaseException:
            self.remove()
            raise

    def __exit__(self, *_: object) -> None:
        self.remove()

    def remove(self) -> None:
        """Take away what is there of it, or of one that was killed."""
        if self._provider == "compose":
            # What shares the network of the server is in none that Docker knows.
            for found in (f"network={self.NETWORK}", f"name={OWN}"):
                ran = self._run(["docker", "ps", "--all", "--quiet", "--filter", found], STATEMENT)
                self._run(["docker", "rm", "--force", "--volumes", self.NAME, *ran.stdout.split()], STATEMENT)
            self._run(["docker", "network", "rm", self.NETWORK], STATEMENT)
        elif (self.CLUSTER / "data" / "postmaster.pid").exists():
            stop = ("--pgdata", str(self.CLUSTER / "data"), "--mode=immediate", "stop")
            self._run(self._pg("pg_ctl", *stop), STATEMENT)
        shutil.rmtree(self.CLUSTER, ignore_errors=True)
        if self.NAMESPACE.exists():
            self._run(["ip", "netns", "delete", self.NAME], STATEMENT)

    def turned_away(self) -> str:
        """The last line in which it says of somebody that he is let in by no name or password; empty without one."""
        log = ["docker", "logs", self.NAME] if self._provider == "compose" else ["tail", "-n", "500", self._log]
        said = self._run(log, STATEMENT, merge=True).stdout
        return next((found[0] for line in reversed(said.splitlines()) if (found := _AWAY.search(line))), "")

    @property
    def _log(self) -> str:
        return str(self.CLUSTER / "log")

    def _container(self) -> Server:
        """The same image as the live one's, without a port, a capability, or a network that leads anywhere."""
        live = self._live.likeness()
        self._done(["docker", "network", "create", "--internal", self.NETWORK])
        self._done(
            [
                *("docker", "run", "--detach", "--name", self.NAME, "--network", self.NETWORK, "--user", live.user),
                *(word for name in live.names for word in ("--network-alias", name)),
                *("--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--cpu-shares", "128"),
                *("--shm-size", live.shared, "--memory", "512m", "--log-driver", "local"),
                *("--env", "POSTGRES_USER=postgres", "--env", "POSTGRES_PASSWORD_FILE=/proc/sys/kernel/random/uuid"),
                *("--env", "PGDATA=/var/lib/postgresql/data", "--volume", "/var/lib/postgresql/data"),
                *("--env", f"PGPORT={live.port}"),
                *(live.image, "postgres", "-c", "fsync=off", "-c", "listen_addresses=*"),
            ]
        )
        server = self._kind(("docker", "exec", "-i", self.NAME), "the server of the drill", self._run)
        # Over TCP, where the server that the entry point starts for itself does not listen.
        ask = "for i in $(seq 300); do pg_isready -q -h 127.0.0.1 && exit; sleep 0.2; done; exit 1"
        self._done(["docker", "exec", self.NAME, "sh", "-c", ask])
        if not live.lacks:
            process = self._done(["docker", "inspect", "--format", "{{.State.Pid}}", self.NAME]).strip()
            self._done(["ip", "netns", "attach", self.NAME, process])
            self._have_addresses(live.addresses)
        return server

    def _cluster(self) -> Server:
        """A cluster of the distribution's package, that lets in whom the live one does, where that is here."""
        data, socket = self.CLUSTER / "data", self.CLUSTER / "socket"
        # What nobody else comes into has the socket in a directory that is mounted for those who may.
        for path, mode in ((self.CLUSTER, "0700"), (data, "0700"), (socket, "0755")):
            self._done(["install", "--directory", "--owner=postgres", f"--mode={mode}", str(path)])
        settings = {"fsync": "off", "unix_socket_directories": socket, **self._lets_in()}
        if self._live.own:
            self._done(["ip", "netns", "add", self.NAME])
            self._have_addresses(self._live.likeness().addresses)
        self._done(self._pg("initdb", "--pgdata", str(data), "--auth=peer", "--encoding=UTF8"))
        if isinstance(self._live, Abroad):
            (data / "pg_hba.conf").write_text(ACCESS, encoding="utf-8")
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        start = self._pg("pg_ctl", "--pgdata", str(data), "--log", self._log, "--wait", "--options", options, "start")
        self._done([*(self._there() if self._live.own else ()), *start])
        there = (f"PGHOST={socket}", f"PGPORT={settings['port']}", f"PATH={self._bin()}:/usr/bin:/bin")
        return self._kind(("runuser", "-u", "postgres", "--", "env", *there), "the server of the drill", self._run)

    @property
    def _kind(self) -> type[Server]:
        if isinstance(self._live, Abroad):
            return StandIn
        return Server if self._live.own else StandInElsewhere

    def _lets_in(self) -> dict[str, object]:
        """The settings by which others come in: those of the live one, and for one elsewhere nobody but the host."""
        if not self._live.own:
            return {"listen_addresses": "''", "port": "5432"}
        live = self._live.likeness()
        files = {"hba_file": live.access, "ident_file": live.idents} if isinstance(self._live, Server) else {}
        return {"listen_addresses": "*", "port": live.port, **files}

    def _there(self) -> list[str]:
        """The words before a command that make it one in the network of the drill."""
        return ["nsenter", f"--net={self.NAMESPACE}", "--"]

    def _have_addresses(self, addresses: Sequence[str]) -> None:
        """In the network of the drill what listens everywhere answers at these, too."""
        ip = ["ip", "-netns", self.NAME]
        self._done([*ip, "link", "set", "lo", "up"])
        if any(":" in address for address in addresses):
            # Docker has it switched off in a network without IPv6.
            on = "echo 0 >/proc/sys/net/ipv6/conf/lo/disable_ipv6"
            self._done(["ip", "netns", "exec", self.NAME, "sh", "-c", on])
        for address in addresses:
            length, more = ("128", ["nodad"]) if ":" in address else ("32", [])
            self._done([*ip, "address", "add", f"{address}/{length}", "dev", "lo", *more])

    def _pg(self, program: str, *words: str) -> list[str]:
        return ["runuser", "-u", "postgres", "--", f"{self._bin()}/{program}", *words]

    def _bin(self) -> str:
        """Where the programs are that suit the live one."""
        major = self._live.major()
        return f"{PROGRAMS}/{self._live.programs if isinstance(self._live, Away) else major}/bin"

    def _done(self, words: Sequence[str]) -> str:
        ran = self._run(words, STATEMENT)
        if ran.returncode:
            raise BackupError(FAILED, f"the server of the drill could not be started: {ran.said}")
        return ran.stdout
