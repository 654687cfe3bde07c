# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""A container with the limits of a release and no network, by the Docker that the controller's client talks to."""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.host import command
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError, docker
from ansible_collections.slipway.fleet.plugins.module_utils.release.listening import parse_listening
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtime import RuntimeFailed
from ansible_collections.slipway.fleet.plugins.module_utils.release.still import Still
from ansible_collections.slipway.fleet.plugins.module_utils.release.users import Owner, user_of_app
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.findings import OPENAPI, candidates
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.inside import PROGRAM
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.trial import (
    Answer,
    Seen,
    Shipped,
    Trial,
    door_of,
    loopback_port,
    port_of,
)

# Says which machine and process of a controller started a container: several may use one Docker.
LABEL = "slipway.inspect"
# Seconds between two looks, and from the first answer until the memory is read, in which workers come up.
_INTERVAL = 0.5
_REST = 3.0
# Looks in a row at which it listens elsewhere, before that counts: a server may open more than one door, one by one.
_ELSEWHERE = 4
_MIB = {"B": 1 / (1 << 20), "KiB": 1 / 1024, "MiB": 1.0, "GiB": 1024.0}
_PYTHONS = ("python3", "python", "/usr/bin/python3", "/usr/local/bin/python3")
_NOT_STARTED = 126  # as a shell says it
# By which variables a release is told how many workers it has (roles/fastapi_app/vars/main.yml).
_WORKERS = ("WEB_CONCURRENCY", "GUNICORN_WORKERS", "GRANIAN_WORKERS")
_TEMPORARY = "/tmp"  # noqa: S108 - of a container
# What changes in any container, and nobody's files.
_NOT_WRITTEN = (_TEMPORARY, "/run", "/proc", "/dev", "/sys", "/root", "/etc/resolv.conf", "/etc/hosts", "/etc/hostname")


@dataclass(frozen=True)
class Limits:
    """Those of a release, by the names of the role's variables without prefix."""

    tmp_mib: int
    cpus: float
    pids: int
    open_files: int
    socket: str  # of its slot


def shipped(image: str) -> Shipped:
    """What an image says of itself. Raises ImageError where there is none."""
    inspected: dict[str, Any] = json.loads(docker("image", "inspect", image))[0]
    config: dict[str, Any] = inspected.get("Config") or {}
    ports = [int(port.partition("/")[0]) for port in config.get("ExposedPorts") or {} if port.endswith(("/tcp", "/"))]
    return Shipped(
        ports=tuple(sorted(ports)),
        user=str(config.get("User") or ""),
        command=(*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())),
        health_check=" ".join((config.get("Healthcheck") or {}).get("Test") or ()),
        in_registry=bool(inspected.get("RepoDigests")),
    )


def owner(image: str, wanted: str, otherwise: int) -> Owner:
    """The user and the group of a release of this image, see `user_of_app`. Raises ImageError."""

    def create(verb: str, *words: str) -> str:
        return docker(verb, *(_mark() if verb == "create" else ()), *words)

    try:
        with Still(image, create) as still:
            return user_of_app(wanted, shipped(image).user, otherwise, still.text)
    except RuntimeFailed as error:
        raise ImageError(str(error)) from error


def _mark() -> tuple[str, str]:
    return "--label", f"{LABEL}={platform.node()} {os.getpid()}"


def remove_left() -> None:
    """Remove what an inspection of this machine has left that was killed: containers whose process is gone."""
    told = f'{{{{.ID}}}} {{{{.Label "{LABEL}"}}}}'
    for line in docker("ps", "--all", "--filter", f"label={LABEL}", "--format", told).splitlines():
        container, _, whose = line.partition(" ")
        host, _, process = whose.rpartition(" ")
        if host == platform.node() and not _runs(process):
            docker("rm", "--force", "--volumes", container, accept="No such container")


def _runs(process: str) -> bool:
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:  # somebody else's
        pass
    return True


class Sandbox:
    """Starts an image as a release would be started, and looks at it. Raises ImageError."""

    def __init__(self, image: str, limits: Limits, environment: Mapping[str, Mapping[str, str]], host: str) -> None:
        """A sandbox for one image.

        Args:
            image: its name or id
            limits: of the container
            environment: variables for `socket` and for `port`, in whose values `@PORT@` stands for the port
            host: the name under which it is asked
        """
        self.image = image
        self.limits = limits
        self.environment = environment
        self.host = host

    def look(self, trial: Trial, about: Shipped, deadline: float) -> Seen:
        """Run a trial until it answers, ends, or `deadline` seconds are over; nothing of it is left."""
        with self._created(trial) as container:
            began = time.monotonic()
            try:
                docker("start", container)
            except ImageError as error:  # its program cannot be started, for its user or at all
                return Seen(running=False, exit_code=_NOT_STARTED, log=str(error))
            seen, counted = self._look(container, trial, began, ()), 0
            while seen.running:
                looked = time.monotonic()
                if door_of(trial, seen, self.limits.socket):
                    asked = self._look(container, trial, began, candidates(about))
                    if any(answer.status for answer in asked.answers.values()):
                        return self._rest(container, trial, asked, about)
                elif (counted := counted + 1 if port_of(seen) or loopback_port(seen) else 0) >= _ELSEWHERE:
                    break
                if time.monotonic() - began >= deadline:
                    break
                seen = self._look(container, trial, began, ())
                # A look takes a processor from the app that starts: no more than half of the time.
                time.sleep(max(_INTERVAL, time.monotonic() - looked))
            return seen

    def _rest(self, container: str, trial: Trial, seen: Seen, about: Shipped) -> Seen:
        """What it has and what it has written a while after its first answer."""
        openapi = seen.answers.get(OPENAPI, Answer(0))
        time.sleep(_REST)
        again = self._look(container, trial, time.monotonic(), candidates(about, openapi.text))
        used = docker("stats", "--no-stream", "--format", "{{.MemUsage}}", container)
        written = () if trial.read_only else self._written(container)
        return replace(again, seconds=seen.seconds, memory_mib=mebibytes(used), written=written)

    @contextmanager
    def _created(self, trial: Trial) -> Iterator[str]:
        container = docker("create", *self._arguments(trial), self.image).strip()
        try:
            yield container
        finally:
            docker("rm", "--force", "--volumes", container)

    def _arguments(self, trial: Trial) -> list[str]:
        """As roles/fastapi_app/templates/compose.yaml.j2 has it; a test holds the two equal."""
        limits, directory = self.limits, str(Path(self.limits.socket).parent)
        told = self.environment["port" if trial.port else "socket"]
        variables = {name: value.replace("@PORT@", str(trial.port)) for name, value in told.items()}
        if trial.workers:
            variables |= dict.fromkeys(_WORKERS, str(trial.workers))
        cpus, (uid, gid) = int(limits.cpus * 100000), trial.user
        return [
            *(*_mark(), "--network", "none", "--user", f"{uid}:{gid}"),
            *(["--read-only"] if trial.read_only else []),
            *("--tmpfs", f"{_TEMPORARY}:mode=1777,noexec,nosuid,size={limits.tmp_mib}m"),
            *("--tmpfs", f"{directory}:mode=750,uid={uid},gid={gid}"),
            *("--shm-size", "64m", "--cap-drop", "ALL", "--security-opt", "no-new-privileges:true"),
            *("--memory", f"{trial.memory_mib}m", "--memory-swap", f"{trial.memory_mib}m"),
            *("--cpu-period", "100000", "--cpu-quota", str(cpus), "--pids-limit", str(limits.pids)),
            *("--ulimit", f"nofile={min(limits.open_files, resource.getrlimit(resource.RLIMIT_NOFILE)[1])}"),
            *(
                part
                for name, value in {**variables, **trial.variables}.items()
                for part in ("--env", f"{name}={value}")
            ),
        ]

    def _look(self, container: str, trial: Trial, began: float, paths: Sequence[str]) -> Seen:
        state = json.loads(docker("inspect", container))[0]["State"]
        log = command.run(["docker", "logs", "--tail", "400", container], 60, merge=True).stdout
        seen = Seen(bool(state["Running"]), int(state["ExitCode"]), bool(state["OOMKilled"]), log)
        if not seen.running:
            return seen
        headers = {"Host": self.host, "X-Forwarded-Proto": trial.proto, "X-Forwarded-For": "127.0.0.1"}
        door = trial.port or self.limits.socket
        told = json.dumps({"door": door, "headers": headers, "paths": list(paths), "whole": OPENAPI})
        inside = self._inside(container, told)
        if inside is None:
            return seen
        return replace(
            seen,
            listening=tuple(parse_listening(inside["tables"])),
            commands=tuple(tuple(words) for words in inside["commands"]),
            answers={path: Answer(*answer) for path, answer in inside["answers"].items()},
            alembic=inside["alembic"],
            assets=tuple(inside["assets"]),
            seconds=time.monotonic() - began,
        )

    def _inside(self, container: str, told: str) -> dict[str, Any] | None:
        """What the program inside saw; None where the container ended meanwhile."""
        said = ""
        for python in _PYTHONS:
            ran = command.run(["docker", "exec", container, python, "-I", "-c", PROGRAM, told], 240)
            if ran.returncode == 0:
                found: dict[str, Any] = json.loads(ran.stdout)
                return found
            said = ran.said
            if "is not running" in said or "No such container" in said:
                return None
        if not json.loads(docker("inspect", container))[0]["State"]["Running"]:
            return None
        raise ImageError(
            f"{self.image} has no Python on its path by which one could look around in it ({said[-300:]}); write the "
            "lines by hand: roles/fastapi_app/README.md, Your app"
        )

    def _written(self, container: str) -> tuple[str, ...]:
        """Files and directories that it has made or changed, without those that only contain them."""
        paths = sorted(line[2:] for line in docker("diff", container).splitlines() if line[:1] in "AC")
        leaves = [path for path in paths if not any(other.startswith(f"{path}/") for other in paths)]
        return tuple(path for path in leaves if not path.startswith(_NOT_WRITTEN) and "__pycache__" not in path)


def mebibytes(used: str) -> int:
    """From what `docker stats` says, such as `92.3MiB / 512MiB`."""
    match = re.match(r"([\d.]+)\s*(B|KiB|MiB|GiB)", used.strip())
    return round(float(match[1]) * _MIB[match[2]]) if match else 0
