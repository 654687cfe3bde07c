# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Controller part of slipway.fleet.doctor: says what to do about a host that cannot be reached."""

from __future__ import annotations

import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import (
    of_right_types,
    on_host,
    refuse_wrong,
    run_id,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.agreement import unreached
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Unreachable
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.preflight import UNCHANGED


class ActionModule(ActionBase):  # type: ignore[misc]
    """See the module of the same name for the options."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        task_vars = task_vars or {}
        options = {"controller_time": time.time(), "run": run_id(), **self._task.args}
        if specification := options.pop("specification", None):
            of_right_types(self._templar, specification, task_vars)
        for option in ("wrong", "place", "release"):
            if name := options.pop(f"{option}_from", None):
                options[option] = self._templar.template(task_vars[name])
        refuse_wrong(options)
        options.pop("wrong", None)
        if name := options.pop("sought_from", None):
            options.update(self._templar.template(task_vars[name]))
        try:
            result = on_host(self, "slipway.fleet.doctor", options, task_vars)
        except Unreachable as error:
            host, hosts = task_vars["inventory_hostname"], task_vars["ansible_play_hosts_all"]
            return {"failed": True, "msg": f"{UNCHANGED}{unreached(host, error, hosts)}"}
        return result
