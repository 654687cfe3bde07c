# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Writes the report of a run on the controller; see the module of the same name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.slipway.fleet.plugins.plugin_utils import report

OPTIONS: dict[str, Any] = {
    "run": {"type": "dict", "required": True},
    "samples": {"type": "path"},
    "directory": {"type": "path"},
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Three lines over `report.build` and `report.write`."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(OPTIONS)
        made = report.build(options["run"], report.read_samples(options["samples"]))
        inventory = Path(str(task_vars["ansible_inventory_sources"][0])).stem
        name = report.name_of(options["run"])
        page = Path(options["directory"] or Path("reports", inventory), f"{name}.html")
        if not self._task.check_mode:
            report.write(made, page.parent, name)
        requests = {key: made["requests"][key] for key in ("requests", "failed", "availability")}
        return {"changed": False, "page": str(page), "json": str(page.with_suffix(".json")), "figures": requests}
