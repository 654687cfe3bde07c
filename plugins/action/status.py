# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Shows what serves on which host; see the module of the same name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.slipway.fleet.plugins.module_utils.status import row, table, with_fleet_drift


def default_file(inventory_sources: list[str]) -> str:
    """Where the JSON goes: below reports/, by the name of the inventory."""
    return f"reports/{Path(inventory_sources[0]).name}/status.json"


class ActionModule(ActionBase):  # type: ignore[misc]
    """Reads the observations of all hosts; the only place that looks at more than one host's results."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        of_host = task_vars["hostvars"]
        observed = {host: of_host[host].get("fastapi_app_status_result") for host in self._task.args["hosts"]}
        rows = with_fleet_drift([row(host, result) for host, result in observed.items()])
        Display().display(f"\n{table(rows)}\n")
        if not self._task.check_mode:
            path = Path(self._task.args.get("file") or default_file(task_vars["ansible_inventory_sources"]))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
        return {"changed": False, "rows": rows}
