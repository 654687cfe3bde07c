# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The host of one task, for action plugins whose other half is a module: see `link.Link`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import sent
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Unreachable


class ModuleLink:
    """The host that a task is for, or is delegated to; `module` is what runs there."""

    def __init__(self, action: ActionBase, module: str, task_vars: dict[str, Any]) -> None:
        self.name = str(action._task.delegate_to or task_vars["inventory_hostname"])
        self._action = action
        self._module = module
        self._task_vars = task_vars

    def call(self, operation: str, **options: Any) -> dict[str, Any]:
        result: dict[str, Any] = self._action._execute_module(
            self._module, {"operation": operation, **options}, task_vars=self._task_vars
        )
        if result.get("failed"):
            raise Refused(str(result.get("msg", result)))
        return result

    def call_with(self, archive: Path, operation: str, **options: Any) -> dict[str, Any]:
        with sent(self._action, archive) as remote:
            return self.call(operation, archive=remote, **options)

    def put(self, file: Path, remote: str) -> None:
        try:
            self._action._transfer_file(str(file), remote)
        except AnsibleError as error:
            raise Unreachable(" ".join(str(error).split())) from error

    def fetch(self, remote: str, local: Path) -> None:
        self._action._connection.fetch_file(remote, str(local))
