# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Shows what the hosts of a play told; see the module of the same name."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.slipway.fleet.plugins.module_utils.host.shown import Screen, clean
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller import outside
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import inventory_name, reports
from ansible_collections.slipway.fleet.plugins.plugin_utils.report import drills as drilled
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import (
    audit as told_audit,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import (
    backups as told_backups,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import (
    balancers as told_balancers,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import (
    caches as told_caches,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import (
    certificates as told_certificates,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import (
    history as told_history,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import (
    lock as told_lock,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import (
    logs as told_logs,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import (
    peers as told_peers,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import (
    status as told_status,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.views.view import Results, Told

TELLERS: dict[str, Callable[[Results], Told]] = {
    "status": told_status.tell,
    "history": told_history.tell,
    "audit": told_audit.tell,
    "backups": told_backups.tell,
    "backup_problems": told_backups.tell_problems,
    "balancers": told_balancers.tell,
    "balancer_problems": told_balancers.tell_problems,
    "balancer_addresses": told_balancers.tell_addresses,
    "caches": told_caches.tell,
    "cache_problems": told_caches.tell_problems,
    "certificates": told_certificates.tell,
    "certificate_problems": told_certificates.tell_problems,
    "between": told_peers.tell_between,
    "peers": told_peers.tell,
    "peer_problems": told_peers.tell_problems,
    "lock": told_lock.tell,
    "problems": told_lock.tell_problems,
    "logs": told_logs.tell,
    "output": told_logs.tell_output,
}
WRITTEN = ("status", "history", "audit", "backups", "balancers", "caches", "certificates", "peers")


def unreachable(known: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What an earlier task of the run got of a host that did not answer, which is asked no more then."""
    results = (value for name, value in known.items() if name.endswith("_result") and isinstance(value, Mapping))
    return next((result for result in results if result.get("unreachable")), None)


class ActionModule(ActionBase):  # type: ignore[misc]
    """Reads the results of all hosts of the play; what is made of them is pure."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        options = self._task.args
        what, of_host = options["what"], task_vars["hostvars"]
        if what == "drills":
            return self._drills(options, task_vars)
        found = {
            host: of_host[host].get(options["results"]) or unreachable(of_host.raw_get(host))
            for host in task_vars["ansible_play_hosts_all"]
        }
        if what == "outside":
            sources = task_vars.get("ansible_inventory_sources") or []
            told = told_backups.tell_outside(found, list(outside.kept(sources, outside.password_files())))
        else:
            told = TELLERS[what](found)
        told = replace(told, text=clean(told.text), rows=Screen().told(told.rows), message=clean(told.message))
        if told.text:
            Display().display(f"\n{told.text}\n")
        result: dict[str, Any] = {"changed": False, "rows": told.rows}
        if what in WRITTEN and not self._task.check_mode:
            name = inventory_name(task_vars.get("ansible_inventory_sources") or [])
            path = Path(options.get("file") or f"reports/{name}/{what}.json")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(told.rows, indent=2) + "\n", encoding="utf-8")
            result["file"] = str(path)
        if told.code:  # the table was shown, so the failure says no more than why it is one
            result |= {"failed": True, "exit_code": told.code, "msg": told.message}
            del result["rows"]
        return result

    def _drills(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Write the report of a drill; fails where a set of a host is not proven."""
        of_host = task_vars["hostvars"]
        results, drills = (
            {host: of_host[host].get(options[name]) for host in task_vars["ansible_play_hosts_all"]}
            for name in ("results", "drills")
        )
        sources = task_vars.get("ansible_inventory_sources") or []
        report = Screen().told(drilled.build(inventory_name(sources), time.time(), results, drills))
        result: dict[str, Any] = {"changed": False}
        if report["hosts"] and not self._task.check_mode:
            page = drilled.write(report, Path(options.get("file") or reports(task_vars)))
            Display().display(f"\nThe report is {page}\n")
            result["file"] = str(page)
        if wrong := [host for host in report["hosts"] if host["cause"]]:
            return {**result, "failed": True, "msg": "; ".join(f"{host['host']}: {host['cause']}" for host in wrong)}
        return result
