# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Facts of a host, or what to do where it cannot be reached; see the module of the same name."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import on_host
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.agreement import unreached
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Unreachable
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.preflight import UNCHANGED

OPTIONS: dict[str, Any] = {"gather_subset": {"type": "list", "elements": "str", "required": True}}


class ActionModule(ActionBase):  # type: ignore[misc]
    """The module on the host is Ansible's own."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(OPTIONS)
        try:
            return on_host(self, "ansible.builtin.setup", options, task_vars)
        except Unreachable as error:
            host, hosts = task_vars["inventory_hostname"], task_vars["ansible_play_hosts_all"]
            return {"failed": True, "msg": f"{UNCHANGED}{unreached(host, error, hosts)}"}
