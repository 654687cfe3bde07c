"""Processes of a release under Compose: a project `<app>-processes-<group>`, with a service for each.

They are services of the release's own Compose file, so whatever its web process gets they get, too.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .beside import Instance
from .runtime import RuntimeFailed

if TYPE_CHECKING:
    from .compose import Compose

# The label of a process's container, with its name.
PROCESS_LABEL = "slipway.process"
_GROUP = re.compile(r"-processes-(\d+)$")
_GONE = ("exited", "dead", "created", "removing")


class ComposeBeside:
    """Starts, ends and looks at the processes of one app through the Docker command line."""

    def __init__(self, compose: Compose) -> None:
        self.compose = compose

    def instances(self) -> list[Instance]:
        """All containers of processes, in two calls to Docker."""
        found = self.compose._docker(
            *("ps", "--all", "--no-trunc", "--quiet", "--filter", f"label={PROCESS_LABEL}"),
            *("--filter", f"label=slipway.app={self.compose.app}"),
        ).split()
        return sorted(map(_instance, self.compose.known(found)), key=lambda one: (one.group, one.name, one.id))

    def start(self, slot: str, release: str, group: int, replicas: Mapping[str, int]) -> None:
        """Start so many of each, through Compose. Raises RuntimeFailed with its words."""
        scales = [word for name, number in replicas.items() for word in ("--scale", f"{name}={number}")]
        words = ("up", "--detach", "--no-build", "--pull", "never", "--no-recreate", *scales, *replicas)
        self.compose.up(f"{self.compose.app}-processes-{group}", slot, release, *words)

    def end(self, instances: Sequence[Instance]) -> None:
        """Have the daemon end them; its client waits for that in a session of its own, with the grace of each."""
        if not instances:
            return
        containers = [one.id for one in instances]
        try:
            subprocess.Popen(
                ["docker", "stop", *containers],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise RuntimeFailed(f"`docker stop` cannot be started: {error.strerror}") from error
        # Only after they are told: one that this marks as ending was.
        self.compose.stay_down(containers)

    def kill(self, instances: Sequence[Instance]) -> None:
        """Kill the containers, one call for each, since Docker refuses one that has ended."""
        for one in instances:
            with suppress(RuntimeFailed):
                self.compose._docker("kill", one.id)

    def forget(self, instances: Sequence[Instance]) -> None:
        """Remove the containers."""
        if instances:
            self.compose.remove([one.id for one in instances])

    def logs(self, instance: Instance, lines: int) -> str:
        return self.compose._docker("logs", "--tail", str(lines), instance.id, merge=True)


def _instance(item: Mapping[str, Any]) -> Instance:
    labels, state = item["Config"]["Labels"], item["State"]
    group = _GROUP.search(labels.get("com.docker.compose.project", ""))
    return Instance(
        id=item["Id"],
        name=labels[PROCESS_LABEL],
        slot=labels.get("slipway.slot", ""),
        release=labels.get("slipway.release", ""),
        group=int(group[1]) if group else 0,
        running=state["Running"] and not state["Restarting"],
        ending=item["HostConfig"]["RestartPolicy"]["Name"] == "no",
        gone=state["Status"] in _GONE,
        restarts=item["RestartCount"],
        exit_code=state["ExitCode"],
        out_of_memory=state["OOMKilled"],
    )
