# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Controller part of slipway.fleet.tree: renders all templates and sends them in one call."""

from __future__ import annotations

import base64
import json
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.files import rendered
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.rendering import Renderer


class ActionModule(ActionBase):  # type: ignore[misc]
    """See the module of the same name for the options."""

    _requires_connection = True
    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.validate_argument_spec({"files": {"type": "list", "required": True}})
        files, contents = rendered(Renderer(self._templar, self._loader), self._task.args["files"], task_vars)
        arguments = {"files": files, "contents": base64.b64encode(json.dumps(contents).encode()).decode()}
        result.update(self._execute_module("slipway.fleet.tree", module_args=arguments, task_vars=task_vars))
        return result
