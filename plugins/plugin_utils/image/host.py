# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What every way of having an image shares: its host, the controller's cache, and the form of the answer."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import sent


def cache() -> Path:
    """The controller's directory for what is made once and sent to many hosts."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    directory = Path(home) / "slipway" / "images"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory


@contextmanager
def once(name: str) -> Iterator[None]:
    """Let one of Ansible's parallel workers do the work while the others wait for its result."""
    with open(cache() / f"{name}.lock", "w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


class Host:
    """The host of one task."""

    def __init__(self, action: ActionBase, task_vars: dict[str, Any]) -> None:
        self._action = action
        self._task_vars = task_vars
        self.check_mode: bool = action._task.check_mode
        self.name = str(action._task.delegate_to or task_vars["inventory_hostname"])

    def call(self, **arguments: Any) -> dict[str, Any]:
        """Run the module there. Raises ImageError with what it said."""
        result: dict[str, Any] = self._action._execute_module(
            "slipway.fleet.image", arguments, task_vars=self._task_vars
        )
        if result.get("failed"):
            raise ImageError(str(result.get("msg", result)))
        return result

    def call_with(self, archive: Path, **arguments: Any) -> dict[str, Any]:
        """Send a file, run the module with it as its `archive`, and leave nothing of it there."""
        with sent(self._action, archive) as remote:
            return self.call(archive=remote, **arguments)

    def put(self, local: Path, remote: str) -> None:
        """Send one file, as the user of the connection."""
        self._action._transfer_file(str(local), remote)

    def fetch(self, remote: str, local: Path) -> None:
        """Get one file that the user of the connection can read."""
        self._action._connection.fetch_file(remote, str(local))


def answer(reference: str, content: str, image: str | None, changed: bool, **more: Any) -> dict[str, Any]:
    """The result of the task; `more` are facts that one way knows and another does not."""
    return {"changed": changed, "reference": reference, "content": content, "id": image, **more}
