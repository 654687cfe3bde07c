"""A host of the distribution's clusters: real directories, and a runner that does to them what the programs would.

A cluster's data is one file; a database server is a file postmaster.pid. `reached` is told of each command before it is
done, and may never return.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.postgres.admitting import access_file
from ansible_collections.slipway.fleet.plugins.module_utils.upgrade import clusters, upgrading
from ansible_collections.slipway.fleet.plugins.module_utils.upgrade.clusters import Clusters
from ansible_collections.slipway.fleet.plugins.module_utils.upgrade.upgrading import Upgrade

OLD, NEW = 15, 17
OFFER = f"postgres (PostgreSQL) {NEW}.6\n--\nplpgsql.control\n--\nC.utf8\n"
ANSWERS = {"SELECT 1": "1", "SHOW port": "5432"}
CLOSED = "# closed\n"


class Host:
    """One with PostgreSQL 15 in place and 17 installed. `fails`: a program that does not do what it is told."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.etc, self.data = directory / "root", directory / "etc", directory / "data"
        self.programs, self.socket = directory / "programs", directory / "data" / "slipway-upgrade"
        self.fails, self.commands = "", 0
        self.reached: Callable[[int], None] = lambda number: None
        for name, path in (
            ("CLUSTERS", self.etc),
            ("DATA", self.data),
            ("PROGRAMS", self.programs),
            ("SOCKET", self.socket),
        ):
            monkeypatch.setattr(clusters, name, path)
        # What is killed here are processes, and not the machine.
        monkeypatch.setattr(os, "sync", lambda: None)
        monkeypatch.setattr(os, "fsync", lambda descriptor: None)
        monkeypatch.setattr(upgrading, "close", lambda root, server, door: access_file(root).write_text(CLOSED))
        monkeypatch.setattr(upgrading, "let_in", lambda root, server: access_file(root).write_text(""))
        monkeypatch.setattr(upgrading, "copy", self._copy)
        monkeypatch.setattr(upgrading, "analyze", lambda new: None)
        access_file(self.root).parent.mkdir(parents=True)
        access_file(self.root).touch()
        (self.root / "config" / "postgresql.conf").write_text("port = 5432\n# settings\n", encoding="utf-8")
        for major in (OLD, NEW):
            (self.programs / str(major) / "bin").mkdir(parents=True)
            (self.programs / str(major) / "bin" / "postgres").touch()
        self.make(OLD, 5432, "rows of 15")
        conf = self.etc / str(OLD) / "main" / "conf.d"
        conf.mkdir()
        (conf / "slipway.conf").symlink_to(self.root / "config" / "postgresql.conf")
        (self.data / str(OLD) / "main" / "postmaster.pid").touch()

    def make(self, major: int, port: int, rows: str = "", how: str = "auto") -> None:
        config, data = self.etc / str(major) / "main", self.data / str(major) / "main"
        config.mkdir(parents=True)
        data.mkdir(parents=True)
        (config / "postgresql.conf").write_text(f"data_directory = '{data}'\nport = {port}\n", encoding="utf-8")
        (config / "start.conf").write_text(f"{how}\n", encoding="utf-8")
        (data / "rows").write_text(rows, encoding="utf-8")
        (data / "PG_VERSION").write_text(f"{major}\n", encoding="utf-8")

    def upgrade(self) -> Upgrade:
        provider = Clusters(self.root, NEW, "port = 5432\n# settings\n", "--locale=C", 5, run=self.run)
        return Upgrade(self.root, provider, NEW, self.root / "no-backups")

    def run(self, words: Sequence[str], timeout: float, **_: Any) -> Ran:
        self.commands += 1
        self.reached(self.commands)
        program = self._program(words)
        if program == self.fails:
            return Ran(tuple(words), 1, stderr=f"{program} refuses")
        said = getattr(self, f"_{program}", lambda *_: "")(*words)
        return Ran(tuple(words), 1, stderr=f"{program}: no") if said is None else Ran(tuple(words), 0, said)

    @staticmethod
    def _program(words: Sequence[str]) -> str:
        known = ("psql", "pg_ctl", "sh")
        return next((word.rpartition("/")[2] for word in words if word.rpartition("/")[2] in known), words[0])

    def _psql(self, *words: str) -> str:
        return "\n".join(ANSWERS.get(word, "") for word in words)

    def _sh(self, *words: str) -> str:
        return OFFER

    def _install(self, *words: str) -> str:
        self.socket.mkdir(exist_ok=True)
        return ""

    def _pg_createcluster(self, _: str, major: str, *more: str) -> str | None:
        if (self.etc / major / "main").exists():
            return None
        self.make(int(major), 5433, how="manual")
        return ""

    def _pg_dropcluster(self, *words: str) -> str | None:
        *_, major, name = words
        if not (self.etc / major / name).exists():
            return None
        shutil.rmtree(self.data / major / name, ignore_errors=True)
        shutil.rmtree(self.etc / major / name)
        return ""

    def _pg_renamecluster(self, _: str, major: str, name: str, to: str) -> str | None:
        if (self.etc / major / to).exists() or not (self.etc / major / name).exists():
            return None
        (self.etc / major / name).rename(self.etc / major / to)
        if (self.data / major / name).exists():
            (self.data / major / name).rename(self.data / major / to)
        return ""

    def _pg_conftool(self, *words: str) -> str:
        file = self.etc / words[1] / words[2] / "postgresql.conf"
        file.write_text(re.sub(r"port = \d+", f"port = {words[-1]}", file.read_text()), encoding="utf-8")
        return ""

    @staticmethod
    def _port(config: Path) -> str:
        linked = config / "conf.d" / "slipway.conf"
        file = linked if linked.exists() else config / "postgresql.conf"
        return file.read_text(encoding="utf-8").partition("port = ")[2].split()[0]

    def _systemctl(self, _: str, verb: str, unit: str = "") -> str:
        if verb in ("start", "stop"):
            pid = self.data / unit[11:13] / "main" / "postmaster.pid"
            pid.touch() if verb == "start" else pid.unlink(missing_ok=True)
        return ""

    def _pg_ctl(self, *words: str) -> str:
        pid = Path(words[words.index("-D") + 1]) / "postmaster.pid"
        pid.touch() if words[-1] == "start" else pid.unlink(missing_ok=True)
        return ""

    def _copy(self, *_: object) -> list[Any]:
        (self.data / str(NEW) / "main" / "rows").write_text(self.rows(f"{OLD}/main"), encoding="utf-8")
        return []

    def rows(self, name: str) -> str:
        return (self.data / name / "rows").read_text(encoding="utf-8")

    def written(self, name: str, rows: str) -> None:
        (self.data / name / "rows").write_text(rows, encoding="utf-8")

    def all_rows(self) -> dict[str, str]:
        """What each cluster has that the host's tools know of."""
        found = sorted(path.parent for path in self.etc.glob("*/*/start.conf"))
        return {f"{path.parent.name}/{path.name}": self.rows(f"{path.parent.name}/{path.name}") for path in found}

    def boots(self) -> list[str]:
        """The clusters that start with the host."""
        found = [path for path in self.etc.glob("*/*/start.conf") if path.read_text(encoding="utf-8") == "auto\n"]
        return [f"{path.parent.parent.name}/{path.parent.name}" for path in found]

    def boots_on(self, port: int) -> list[str]:
        """Those of them on a port; the role's settings say it where they are linked."""
        return [name for name in self.boots() if self._port(self.etc / name) == str(port)]

    def has_port(self, port: int) -> list[str]:
        """The clusters whose port it would be, whoever starts them."""
        found = [path.parent for path in self.etc.glob("*/*/start.conf")]
        return [f"{path.parent.name}/{path.name}" for path in found if self._port(path) == str(port)]

    def serves(self) -> str:
        """The cluster with the role's settings, which runs and lets everybody in."""
        (link,) = self.etc.glob("*/main/conf.d/slipway.conf")
        name = f"{link.parts[-4]}/main"
        assert (self.data / name / "postmaster.pid").exists()
        assert access_file(self.root).read_text(encoding="utf-8") == ""
        return name

    def killed(self, before: int, work: Callable[[], object]) -> bool:
        """Do something in a process that is killed before a command; whether it came to that."""
        child = os.fork()
        if child == 0:
            code = 1
            try:
                self.commands = 0
                self.reached = lambda number: os.kill(os.getpid(), signal.SIGKILL) if number == before else None
                work()
                code = 0
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "it failed by itself"
        return os.WIFSIGNALED(status)
