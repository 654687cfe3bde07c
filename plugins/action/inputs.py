# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Refuses variables of a role that cannot be used; see the module of the same name."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import of_right_types, refuse_wrong

OPTIONS: dict[str, Any] = {
    "specification": {"type": "path", "required": True},
    "entry_point": {"type": "str", "default": "main"},
    "wrong_from": {"type": "str"},
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Asks no host."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(OPTIONS)
        of_right_types(self._templar, options["specification"], task_vars, options["entry_point"])
        if wrong := options["wrong_from"]:
            refuse_wrong({"wrong": self._templar.template(task_vars[wrong])})
        return {"changed": False}
