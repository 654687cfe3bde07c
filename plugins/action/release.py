# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Controller part of slipway.fleet.release: a host that does not answer is part of what is told."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import on_host
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Unreachable
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.verdict import FAILED, UNCHANGED, UNREACHABLE


class ActionModule(ActionBase):  # type: ignore[misc]
    """See the module of the same name for the options."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        telling = self._task.args.get("operation", "observe") not in ("remove", "remove_volume")
        try:
            result = on_host(self, "slipway.fleet.release", self._task.args, task_vars)
        except Unreachable as error:
            if telling:
                return {"changed": False, "outcome": UNREACHABLE, "cause": f"it cannot be reached: {error}"}
            return {"unreachable": True, "msg": str(error)}
        return reported(result) if telling else result


def reported(result: dict[str, Any]) -> dict[str, Any]:
    """The module's result as a report: a failure is its outcome, and its long message the diagnosis."""
    if not result.get("failed"):
        return {**result, "outcome": UNCHANGED}
    message = str(result.get("msg") or result.get("exception") or "no reason given")
    told = {name: value for name, value in result.items() if name != "exception"}
    return {
        **told, "failed": False, "changed": False, "outcome": FAILED,
        "cause": result.get("cause") or message.splitlines()[0], "diagnosis": message,
    }  # fmt: skip
