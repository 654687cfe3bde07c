"""The server that a drill restores into, and the network in which a release finds it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ..host import command
from ..postgres.server import CONTAINER, STATEMENT, Run
from ..release.stage import Stage
from .away import Away
from .model import FAILED, BackupError, Database
from .postgres import Server

# The containers of a drill: its server, and what stands in for the caches of the host.
OWN = "^slipway-drill(-of-.*)?$"


def aliases(networks: str) -> list[str]:
    """The names under which a container is known in its networks, as Docker tells these in JSON."""
    found = json.loads(networks) or {}
    return sorted({name for network in found.values() for name in network.get("Aliases") or ()})


class StandIn(Server):
    """The server of a drill for one elsewhere, which counts as that one was counted."""

    counts = Away.counts

    def make(self, database: Database, name: str) -> None:
        """With what sorts texts by code point where this host has not the locale; rows are the same with any."""
        try:
            super().make(database, name)
        except BackupError as error:
            if "locale" not in str(error).lower():
                raise
            plain = "C.UTF-8" if database.encoding == "UTF8" else "C"
            super().make(replace(database, collate=plain, ctype=plain, provider="", locale=""), name)


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

    def __init__(self, live: Server, provider: str, run: Run = command.run) -> None:
        self._live, self._provider, self._run = live, provider, run

    @property
    def disk(self) -> Path:
        """The directory on whose disk its data is."""
        return Path("/var/lib/docker") if self._provider == "compose" else self.CLUSTER.parent

    @property
    def stage(self) -> Stage:
        """Where releases find it. Raises BackupError where the live one does not say where they find that."""
        if self._provider == "compose":
            return Stage(self.NETWORK, str(self.NAMESPACE), lacks=self._elsewhere(), server=self.NAME)
        directories = self._live.sql("postgres", "SHOW unix_socket_directories")[0][0].split(",")
        sockets = {directory.strip(): self.CLUSTER / "socket" for directory in directories}
        return Stage(namespace=str(self.NAMESPACE), sockets=sockets)

    def _elsewhere(self) -> str:
        """Why what comes to the container from outside of Docker would not find its twin; empty where it would."""
        form = "{{json .HostConfig.PortBindings}}"
        bound = json.loads(self._done(["docker", "inspect", "--format", form, CONTAINER])) or {}
        ports = {one["HostPort"] for some in bound.values() for one in some or ()}
        other = ports - {"5432"}
        if ports and not other:
            return ""
        where = f"on port {', '.join(sorted(other))} of this host, and in a drill" if ports else "nowhere, and"
        return f"the database's container is published {where} on 5432 alone (postgres_publish)"

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

    def _container(self) -> Server:
        """The same image as the live one's, without a port, a capability, or a network that leads anywhere."""
        wanted = "{{.Image}} {{.Config.User}} {{.HostConfig.ShmSize}} {{json .NetworkSettings.Networks}}"
        image, user, shared, networks = self._done(["docker", "inspect", "--format", wanted, CONTAINER]).split(" ", 3)
        addresses = [] if self._elsewhere() else self._addresses()
        self._done(["docker", "network", "create", "--internal", self.NETWORK])
        self._done(
            [
                *("docker", "run", "--detach", "--name", self.NAME, "--network", self.NETWORK, "--user", user),
                *(word for name in aliases(networks) for word in ("--network-alias", name)),
                *("--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--cpu-shares", "128"),
                *("--shm-size", shared, "--memory", "512m", "--log-driver", "local"),
                *("--env", "POSTGRES_USER=postgres", "--env", "POSTGRES_PASSWORD_FILE=/proc/sys/kernel/random/uuid"),
                *("--env", "PGDATA=/var/lib/postgresql/data", "--volume", "/var/lib/postgresql/data"),
                *(image, "postgres", "-c", "fsync=off", "-c", "listen_addresses=*"),
            ]
        )
        server = Server(("docker", "exec", "-i", self.NAME), "the server of the drill", self._run)
        # Over TCP, where the server that the entry point starts for itself does not listen.
        ask = "for i in $(seq 300); do pg_isready -q -h 127.0.0.1 && exit; sleep 0.2; done; exit 1"
        self._done(["docker", "exec", self.NAME, "sh", "-c", ask])
        if not self._elsewhere():
            process = self._done(["docker", "inspect", "--format", "{{.State.Pid}}", self.NAME]).strip()
            self._done(["ip", "netns", "attach", self.NAME, process])
            self._have_addresses(addresses)
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
            self._have_addresses(self._addresses())
        self._done(self._pg("initdb", "--pgdata", str(data), "--auth=peer", "--encoding=UTF8"))
        options = " ".join(f"-c {name}={value}" for name, value in settings.items())
        log = str(self.CLUSTER / "log")
        start = self._pg("pg_ctl", "--pgdata", str(data), "--log", log, "--wait", "--options", options, "start")
        self._done([*(self._there() if self._live.own else ()), *start])
        there = (f"PGHOST={socket}", f"PGPORT={settings['port']}", f"PATH={self._bin()}:/usr/bin:/bin")
        kind = Server if self._live.own else StandIn
        return kind(("runuser", "-u", "postgres", "--", "env", *there), "the server of the drill", self._run)

    def _lets_in(self) -> dict[str, object]:
        """The settings by which others come in: those of the live one, and for one elsewhere nobody but the host."""
        if not self._live.own:
            return {"listen_addresses": "''", "port": "5432"}
        asked = "SELECT current_setting('port'), current_setting('hba_file'), current_setting('ident_file')"
        ((port, access, names),) = self._live.sql("postgres", asked)
        return {"listen_addresses": "*", "port": port, "hba_file": access, "ident_file": names}

    def _there(self) -> list[str]:
        """The words before a command that make it one in the network of the drill."""
        return ["nsenter", f"--net={self.NAMESPACE}", "--"]

    def _addresses(self) -> list[str]:
        """The addresses of this host that lead to it from elsewhere, at which apps may know the live one."""
        found = json.loads(self._done(["ip", "-json", "address", "show", "scope", "global"]) or "[]")
        return sorted({info["local"] for link in found for info in link.get("addr_info") or () if "local" in info})

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
        return f"/usr/lib/postgresql/{self._live.programs if isinstance(self._live, Away) else major}/bin"

    def _done(self, words: Sequence[str]) -> str:
        ran = self._run(words, STATEMENT)
        if ran.returncode:
            raise BackupError(FAILED, f"the server of the drill could not be started: {ran.said}")
        return ran.stdout
