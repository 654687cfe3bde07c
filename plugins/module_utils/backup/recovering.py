"""A server as it was at a point in time, beside the live one: a base and its log, replayed until then."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional

from ..host import command
from ..postgres.server import CONTAINER, LIMIT, STATEMENT, Run
from . import files
from .archive import Archive
from .model import DAMAGED, FAILED, BackupError, Settings
from .points import Way, moment
from .postgres import Server

# What PostgreSQL says where the log has nothing that is later than the point.
ENDED = "recovery ended before configured recovery target was reached"
# A server that is not the live one and reaches nothing: it replays, and is asked for dumps.
CONFIG = """\
listen_addresses = ''
unix_socket_directories = '{socket}'
ssl = off
fsync = off
autovacuum = off
hot_standby = off
archive_mode = off
lc_messages = 'C'
logging_collector = off
max_prepared_transactions = 1000
max_logical_replication_workers = 0
restore_command = 'cp "{log}/%f" "%p"'
recovery_target_timeline = 'current'
recovery_target_action = 'promote'
"""
NOBODY_ELSE = "local all all trust\n"
# Seconds between two looks whether the replay is over.
EVERY = 0.2


class Beside:
    """What a recovery has on this host while it runs, and when it was killed."""

    NAME = "slipway-point"
    # Where the host's own user postgres gets to.
    CLUSTER = Path("/var/lib/postgresql/slipway-point")
    AS_OWNER: Sequence[str] = ("runuser", "-u", "postgres", "--")
    OWNER = "postgres:"

    def __init__(self, live: Server, settings: Settings, run: Run = command.run) -> None:
        self._live, self._run = live, run
        self._contained = settings.database == "compose"
        self.root = settings.place / "point" if self._contained else self.CLUSTER

    def remove(self) -> None:
        """Take away what is there of it, or of one that was killed."""
        self._stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def _stop(self) -> None:
        if self._contained:
            self._run(["docker", "rm", "--force", "--volumes", self.NAME], STATEMENT)
        elif (self.root / "data" / "postmaster.pid").exists():
            self._run(self._pg_ctl("--mode=immediate", "stop"), STATEMENT)

    def _pg_ctl(self, *words: str) -> list[str]:
        program = f"/usr/lib/postgresql/{self._live.major()}/bin/pg_ctl"
        return [*self.AS_OWNER, program, "--pgdata", str(self.root / "data"), *words]


class Recovered(Beside):
    """The server at a point: enter it to have it made and run."""

    def __init__(
        self,
        archive: Archive,
        live: Server,
        settings: Settings,
        way: Way,
        about: Mapping[str, Any],
        point: str,
        run: Run = command.run,
    ) -> None:
        super().__init__(live, settings, run)
        self._archive, self._way, self._about, self._point = archive, way, about, point

    def __enter__(self) -> Server:
        self.remove()
        try:
            self._fetch()
            return self._recovered()
        except BaseException:
            self.remove()
            raise

    def __exit__(self, *_: object) -> None:
        self.remove()

    def _fetch(self) -> None:
        """The data and the log on this host, with nothing in it that leads elsewhere."""
        data, log = self.root / "data", self.root / "log"
        files.empty(self.root)
        files.room("the recovery", (self.root, int(self._about["bytes"])))
        self._archive.fetch_data(self._about, data)
        if any((data / "pg_tblspc").iterdir()):
            raise BackupError(FAILED, "the base has tablespaces, whose files are not in it")
        for directory in (log, data / "pg_wal", self.root / "socket"):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(mode=0o700)
        self._fetch_log(log)
        (data / "backup_label").write_text(str(self._about["label"]), encoding="utf-8")
        (data / "recovery.signal").touch()
        (data / "pg_hba.conf").write_text(NOBODY_ELSE, encoding="ascii")
        (data / "pg_ident.conf").write_text("", encoding="ascii")
        (data / "postgresql.auto.conf").write_text("", encoding="ascii")

    def _fetch_log(self, into: Path) -> None:
        """The log, as far as the disk has room for it: natively that is the disk of the live server.

        A segment that was ended by time takes its whole size until its empty part is taken away, piece by piece.
        """
        size = int(self._about["size"])
        for piece in self._way.pieces:
            files.room("the log of the recovery", (into, (piece.last - piece.first + 1) * size))
            self._archive.fetch_log([piece], into)
        written = sum(path.stat().st_blocks * 512 for path in into.iterdir())
        # What is replayed is in the data then, and what was not yet written to that once more in the server's own log.
        files.room("the replay of the log", (self.root, written + min(written, self._live.disk()[1])))

    def _recovered(self) -> Server:
        """Replay until the point; where nothing was committed after it, all of the log, which has to be whole then."""
        until = moment(self._point).strftime("%Y-%m-%d %H:%M:%S.%f+00")
        said = self._start(f"recovery_target_time = '{until}'\n")
        if said is None:
            return self._server()
        if ENDED in said:
            self._stop()
            said = self._start("")
        if said is not None:
            raise BackupError(FAILED, f"the point {self._point} could not be recovered: {said[-2000:].strip()}")
        server = self._server()
        ((replayed,),) = server.sql("postgres", "SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')")
        last, size = self._way.pieces[-1].last, int(self._about["size"])
        if int(replayed) <= last * size:
            raise BackupError(
                DAMAGED,
                f"the write-ahead log could be replayed up to segment {int(replayed) // size} and not to {last}: what "
                f"is kept of it is damaged, and {self._point} cannot be recovered; name an earlier point, or a set",
            )
        return server

    def _server(self) -> Server:
        own: tuple[str, ...] = ("docker", "exec", "-i", self.NAME)
        if not self._contained:
            own = (*self.AS_OWNER, "env", f"PGHOST={self._socket}")
        return Server(own, "the server of the recovery", self._run)

    @property
    def _socket(self) -> str:
        return "/var/run/postgresql" if self._contained else str(self.root / "socket")

    def _start(self, target: str) -> Optional[str]:
        """Replay; why that did not end well, None where it did."""
        log = "/slipway/log" if self._contained else str(self.root / "log")
        text = CONFIG.format(socket=self._socket, log=log) + target
        (self.root / "data" / "postgresql.conf").write_text(text, encoding="utf-8")
        self._container() if self._contained else self._cluster()
        server = self._server()
        while not server.answers():
            if not self._runs():
                return self._said()
            time.sleep(EVERY)
        return None

    def _cluster(self) -> None:
        self._done(["chown", "--recursive", self.OWNER, str(self.root)])
        # It comes back when the replay begins, or could not.
        self._run(
            self._pg_ctl("--log", str(self.root / "said"), "--wait", f"--timeout={LIMIT:.0f}", "start"), LIMIT + 60
        )

    def _container(self) -> None:
        """The same image as the live one's, without a network, a port or a capability."""
        wanted = "{{.Image}} {{.Config.User}} {{.HostConfig.ShmSize}}"
        image, user, shared = self._done(["docker", "inspect", "--format", wanted, CONTAINER]).split()
        self._done(["chown", "--recursive", user, str(self.root)])
        self._done(
            [
                *("docker", "run", "--detach", "--name", self.NAME, "--network", "none", "--user", user),
                *("--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--cpu-shares", "128"),
                *("--shm-size", shared, "--memory", "512m", "--log-driver", "local", "--entrypoint", "postgres"),
                *("--volume", f"{self.root}/data:/slipway/data", "--volume", f"{self.root}/log:/slipway/log:ro"),
                *(image, "-D", "/slipway/data"),
            ]
        )

    def _runs(self) -> bool:
        if self._contained:
            return self._done(["docker", "inspect", "--format", "{{.State.Running}}", self.NAME]).strip() == "true"
        return self._run(self._pg_ctl("status"), STATEMENT).returncode == 0

    def _said(self) -> str:
        if self._contained:
            return self._run(["docker", "logs", "--tail", "50", self.NAME], STATEMENT, merge=True).stdout
        try:
            return (self.root / "said").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return "it said nothing"

    def _done(self, words: Sequence[str]) -> str:
        ran = self._run(words, STATEMENT)
        if ran.returncode:
            raise BackupError(FAILED, f"the server of the recovery could not be started: {ran.said}")
        return ran.stdout
