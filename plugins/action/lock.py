# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Controller part of slipway.fleet.lock: says who this run is, and keeps its lease alive."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import (
    keep_alive,
    on_host,
    run_id,
    whence,
    who,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.agreement import unreached
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Unreachable


class ActionModule(ActionBase):  # type: ignore[misc]
    """See the module of the same name for the options."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        options = {"run": run_id(), "who": who(), "from": whence(), **self._task.args}
        try:
            result = on_host(self, "slipway.fleet.lock", options, task_vars)
        except Unreachable as error:
            if options.get("state", "held") != "held":
                return {"changed": False, "outcome": "unreachable", "cause": f"it cannot be reached: {error}"}
            host, hosts = task_vars["inventory_hostname"], task_vars["ansible_play_hosts_all"]
            return {
                "failed": True,
                "msg": f"the fleet is not held; {unreached(host, error, hosts)}",
            }
        if options.get("state", "held") == "held" and result.get("lease_file") and not self._task.check_mode:
            keep_alive(self, result["lease_file"], options["run"])
        return result
