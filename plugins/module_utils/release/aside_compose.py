"""How a release is started aside in a container: its own service, as Compose resolves it, in another network."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..host.command import Ran
from .compose import Compose
from .model import Gate, Probe
from .probe import get_port
from .runtime import RuntimeFailed
from .stage import SLOT, Mounts, Stage, Unfit, within

# Seconds for Docker's own work.
LIMIT = 120.0


class Containers:
    """One release of an app at a time."""

    MADE_OF = "image"

    def __init__(self, app: str, compose: Compose, stage: Stage, place: Path, run: Callable[..., Ran]) -> None:
        self._compose, self._stage, self._run = compose, stage, run
        self._project = f"{app}-{SLOT}"
        self._file = place / f"{self._project}.json"

    def make(self, release: str, mounts: Mounts, _: float) -> int:
        """Write its Compose file; returns the bytes of memory that it may take. Raises RuntimeFailed and Unfit."""
        web = self._compose.resolved(SLOT, release)["services"]["web"]
        if not self._stage.network and not any(self._stage.socket(one["source"]) for one in web.get("volumes") or ()):
            raise Unfit(
                f"release {release} runs in a container and the database does not, and it has no "
                "fastapi_app_socket_directories with the database's socket"
            )
        made: dict[str, Any] = {"services": {"web": aside(web, mounts, self._stage)}}
        if self._stage.network and not self._stage.shared:
            made["networks"] = {"aside": {"external": True, "name": self._stage.network}}
        self._file.write_text(json.dumps(made), encoding="utf-8")
        return int(web.get("mem_limit") or 0)

    def start(self) -> None:
        """Raises RuntimeFailed."""
        self._done([*self._words(), "up", "--detach", "--no-build", "--pull", "never", "web"])

    def run(self, words: Sequence[str], timeout: float) -> Ran:
        return self._run([*self._words(), "run", "--rm", "--no-deps", "-T", "web", *words], timeout)

    def get(self, port: int, path: str, gate: Gate) -> Probe:
        """Ask it where it listens. Raises RuntimeFailed."""
        form = "{{.State.Pid}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        names = [self._stage.shared] if self._stage.shared else self._containers()
        process, _, address = self._done(["docker", "inspect", "--format", form, *names]).partition(" ")

        def asked() -> Probe:
            return get_port(f"{address.strip() or '127.0.0.1'}:{port}", port, path, gate.timeout, gate)

        try:
            return asked() if self._stage.network else within(f"/proc/{process}/ns/net", asked)
        except OSError as error:  # it is gone
            return Probe(error=str(error), nobody=True)

    def lost(self, release: str) -> str:
        """Why it cannot come to the database where it looks for it; empty where it can. Raises RuntimeFailed."""
        web = self._compose.resolved(SLOT, release)["services"]["web"]
        values = [str(value) for value in (web.get("environment") or {}).values()]
        secrets = sorted((self._compose.releases / release / "secrets").glob("*"))
        values += [path.read_text(encoding="utf-8", errors="replace") for path in secrets]
        return next(filter(None, map(self._silent, hosts(values))), "")

    def _silent(self, host: str) -> str:
        """Why no database answers it under that host; empty where one does."""
        if not self._stage.network:
            return f"it looks for the database at {host}, and has only sockets in a drill"
        if is_address(host):
            return "" if self._stage.shared else f"it finds the database by its address {host}, and {self._stage.lacks}"
        form = "{{range .NetworkSettings.Networks}}{{json .Aliases}}{{end}}"
        names = json.loads(self._done(["docker", "inspect", "--format", form, self._stage.server])) or []
        known = ", ".join(sorted(names))
        return "" if host in names else f"it looks for the database under the name {host}, and in a drill it is {known}"

    def runs(self) -> bool:
        return bool(self._containers(running=True))

    def log(self, lines: int) -> str:
        return self._done(["docker", "logs", "--tail", str(lines), *self._containers()], merge=True)

    def remove(self) -> None:
        """Raises SlipwayError."""
        if found := self._containers():
            self._done(["docker", "rm", "--force", "--volumes", *found])

    def _words(self) -> list[str]:
        return ["docker", "compose", "--project-name", self._project, "--file", str(self._file)]

    def _containers(self, running: bool = False) -> list[str]:
        wanted = ["--quiet", "--filter", f"label=com.docker.compose.project={self._project}"]
        return self._done(["docker", "ps", *([] if running else ["--all"]), *wanted]).split()

    def _done(self, words: Sequence[str], merge: bool = False) -> str:
        ran = self._run(words, LIMIT, merge=merge)
        if ran.returncode:
            raise RuntimeFailed(ran.said)
        return ran.stdout


def hosts(values: Sequence[str]) -> Iterator[str]:
    """The hosts that URLs of PostgreSQL name."""
    for value in values:
        with suppress(ValueError):
            url = urlsplit(value.strip())
            if url.scheme.partition("+")[0] in ("postgres", "postgresql") and url.hostname:
                yield url.hostname


def is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def aside(web: Mapping[str, Any], mounts: Mounts, stage: Stage) -> dict[str, Any]:
    """A service as Compose resolves it, as it is started aside: in that network alone, once, behind no port.

    It shares that of the server where this answers at addresses, too. Without one it reaches sockets only.
    `mounts` names what is mounted in place of a directory of the host.
    """
    left = {name: value for name, value in web.items() if name not in ("ports", "labels", "networks", "depends_on")}
    volumes = [{**one, "source": mounts(str(one["source"]))} for one in web.get("volumes") or ()]
    alone: dict[str, Any] = {"networks": {"aside": {}}} if stage.network else {"network_mode": "none"}
    if stage.shared:
        alone = {"network_mode": f"container:{stage.shared}"}
    return {**left, "volumes": volumes, **alone, "restart": "no", "healthcheck": {"disable": True}}
