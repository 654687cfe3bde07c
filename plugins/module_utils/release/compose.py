"""The Compose runtime of a slot: one Compose project `<app>-<slot>` with one service `web`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Optional

from ..image import CONTENT_LABEL, image_named_in
from .listening import parse_listening
from .model import SLOTS, SlotStatus
from .runtime import RuntimeFailed
from .slots import in_own_directory
from .store import write_durably

RELEASE_LABEL = "slipway.release"


class Compose:
    """Starts, stops and looks at the slots of one app through the Docker command line."""

    def __init__(self, app: str, releases: Path, sockets: Path) -> None:
        self.app = app
        self.releases = releases
        self.sockets = sockets

    def start(self, slot: str, release: str) -> None:
        """Start `release` in `slot` from its own rendered files. Raises RuntimeFailed with Compose's words."""
        self._compose(slot, release, "up", "--detach", "--no-build", "--pull", "never", "web", timeout=120)

    def stop(self, slot: str, grace: float) -> None:
        """Stop and remove `slot`: SIGTERM, `grace` seconds, SIGKILL. Nothing to do is fine."""
        containers = self._containers(slot)
        if containers:
            self._docker("stop", "--time", str(int(grace)), *containers, timeout=grace + 30)
            self._docker("rm", "--force", *containers, timeout=60)

    def status(self) -> dict[str, SlotStatus]:
        """Both slots, in one call to Docker."""
        found = {slot: SlotStatus() for slot in SLOTS}
        containers = [container for slot in SLOTS for container in self._containers(slot)]
        if containers:
            for item in json.loads(self._docker("inspect", *containers)):
                labels = item["Config"]["Labels"]
                slot = labels["com.docker.compose.project"].rpartition("-")[2]
                state = item["State"]
                found[slot] = SlotStatus(
                    release=labels.get(RELEASE_LABEL),
                    running=state["Running"] and not state["Restarting"],
                    restarts=item["RestartCount"],
                    exit_code=state["ExitCode"],
                    out_of_memory=state["OOMKilled"],
                    started=state["StartedAt"],
                    container=item["Id"],
                )
        return found

    def logs(self, slot: str, lines: int) -> str:
        containers = self._containers(slot)
        if not containers:
            return ""
        return self._docker("logs", "--tail", str(lines), containers[0], merge=True)

    def listening(self, slot: str) -> list[str]:
        """Addresses on which the slot's processes listen, for the diagnosis of a slot that never answered."""
        containers = self._containers(slot)
        if not containers:
            return []
        try:
            tables = self._docker("exec", containers[0], "cat", "/proc/net/tcp", "/proc/net/unix")
        except RuntimeFailed:
            return []
        return parse_listening(tables)

    def discard(self, releases: list[str]) -> None:
        """Untag the images that only `releases` name, and those built for this app that no release names.

        Layers go with the last tag; an image in use is left.
        """
        others = {path.name for path in self.releases.iterdir()} - set(releases)
        wanted = {self.image_of(release) for release in others}
        unwanted = {self.image_of(release) for release in releases} | set(self._built())
        for reference in unwanted - wanted - {None}:
            try:
                self._docker("image", "rm", str(reference))
            except RuntimeFailed:
                continue

    def _built(self) -> list[str]:
        """The images that the deploy playbook built for this app, as it names and labels them."""
        names = self._docker(
            "image", "ls", "--filter", f"label={CONTENT_LABEL}", "--format", "{{.Repository}}:{{.Tag}}",
            f"slipway/{self.app}",
        ).split()  # fmt: skip
        return [name for name in names if not name.endswith(":<none>")]

    def image_of(self, release: str) -> Optional[str]:
        """The image that a staged release names."""
        return image_named_in(self.releases / release / "compose.yaml")

    def run(self, release: str, command: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
        """Run a one-off command in `release`, with its environment, secrets, network and limits, outside any slot."""
        return subprocess.run(
            [
                *self._command(f"{self.app}-oneoff", release),
                *("run", "--rm", "--no-deps", "-T", "--entrypoint", command[0], "web", *command[1:]),
            ],
            env=self._environment("oneoff", release),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def _containers(self, slot: str) -> list[str]:
        return self._docker(
            "ps", "--all", "--no-trunc", "--quiet",
            "--filter", f"label=com.docker.compose.project={self.app}-{slot}",
            "--filter", "label=com.docker.compose.oneoff=False",
        ).split()  # fmt: skip

    def _command(self, project: str, release: str) -> list[str]:
        return ["docker", "compose", "--project-name", project, "--file", str(self._file(release))]

    def _file(self, release: str) -> Path:
        """The Compose file of a release; of one from before slots had directories a copy that knows them."""
        staged = self.releases / release / "compose.yaml"
        text = staged.read_text(encoding="utf-8")
        now = in_own_directory(text, self.sockets, "${SLIPWAY_SLOT}")
        if now == text:
            return staged
        copy = staged.with_name(".own-directory.yaml")
        write_durably(copy, now)
        return copy

    def _environment(self, slot: str, release: str) -> dict[str, str]:
        return {**os.environ, "SLIPWAY_SLOT": slot, "SLIPWAY_RELEASE": release}

    def _compose(self, slot: str, release: str, *arguments: str, timeout: float) -> None:
        command = [*self._command(f"{self.app}-{slot}", release), *arguments]
        _checked(command, timeout, self._environment(slot, release))

    def _docker(self, *arguments: str, timeout: float = 60, merge: bool = False) -> str:
        return _checked(["docker", *arguments], timeout, merge=merge)


def _checked(command: list[str], timeout: float, environment: Any = None, merge: bool = False) -> str:
    try:
        result = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merge else subprocess.PIPE,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        raise RuntimeFailed("there is no `docker` on this host; run the provision playbook") from None
    except subprocess.TimeoutExpired:
        raise RuntimeFailed(f"`{' '.join(command[:3])}` did not end within {timeout:.0f} s") from None
    if result.returncode:
        raise RuntimeFailed((result.stderr or result.stdout or f"exit code {result.returncode}").strip())
    return result.stdout
