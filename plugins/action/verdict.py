# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Tells what became of a run over the fleet; see the module of the same name."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller import plays
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import (
    main_process,
    reports,
    started_at,
    whence,
    who,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import verdict as fleet
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.batches import batch_of
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.migrations import pending
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.reported import host_row, trouble
from ansible_collections.slipway.fleet.plugins.plugin_utils.report import document as report

BEFORE, ROLLED, SETTLED = "fastapi_app_doctor_result", "fastapi_app_release_result", "fastapi_app_settle_result"


class ActionModule(ActionBase):  # type: ignore[misc]
    """Reads the results of all hosts of the play; only this plugin and the gate of the roll do."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        options = self._task.args
        rows = self._rows(task_vars, options.get("batches") or [1, "25%", "100%"])
        release = fleet.wanted(rows)
        if self._task.check_mode:
            Display().display("\n" + self._plan(rows, release, task_vars) + "\n")
            return {"changed": False, "verdict": "planned", "message": "", "wrong": {}, "report": ""}
        word = fleet.verdict(rows)
        message = fleet.sentence(word, rows, release)
        run = {
            "app": options["app"],
            "inventory": reports(task_vars).name,
            "operation": options.get("operation", "deploy"),
            "release": release,
            "who": who(),
            "from": whence(),
            "started": started_at(main_process()),
            "ended": time.time(),
            "verdict": word,
            "message": message,
            "plays": plays.timed(plays.begun, time.time()),
            "hosts": rows,
        }
        probe = (options.get("probe") or {}).get("summary") or {}
        show(run, rows, probe)
        path = "" if word == "nothing" else self._write(run, options, task_vars)
        return {
            "changed": False,
            "failed": bool(options.get("probe_must_pass") and probe.get("failed")),
            "msg": f"{probe.get('failed', 0)} of {probe.get('requests', 0)} requests of the probe failed; see {path}",
            "verdict": word,
            "message": message,
            "wrong": fleet.wrong(rows, message, release),
            "report": path,
        }

    def _rows(self, task_vars: dict[str, Any], batches: list[Any]) -> list[dict[str, Any]]:
        of_host = task_vars["hostvars"]
        hosts = task_vars["ansible_play_hosts_all"]
        rolling = [host for host in hosts if not (of_host[host].get(BEFORE) or {}).get("settled")]
        found = {host: [of_host[host].get(name) for name in (BEFORE, ROLLED, SETTLED)] for host in hosts}
        stopped = bool(trouble({host: results[1] for host, results in found.items()}))
        batch = {host: batch_of(host, rolling, batches) for host in rolling}
        return [host_row(host, batch.get(host, 0), found[host], stopped) for host in hosts]

    def _plan(self, rows: list[dict[str, Any]], release: str, task_vars: dict[str, Any]) -> str:
        of_host = task_vars["hostvars"]
        before = {row["host"]: of_host[row["host"]].get(BEFORE) or {} for row in rows if row["batch"]}
        directory = self._task.args.get("migrations")
        since = next((report["migration"] for report in before.values() if report.get("migration")), "")
        steps = pending(Path(directory), since) if directory and before else []
        free = {host: report["free_mib"] for host, report in before.items() if "free_mib" in report}
        images = [(report.get("image", ""), report.get("release_image", "")) for report in before.values()]
        return fleet.plan(rows, release, steps, free, images)

    def _write(self, run: dict[str, Any], options: dict[str, Any], task_vars: dict[str, Any]) -> str:
        """Write the report as a page and as JSON; returns the path of the page."""
        directory = Path(options.get("directory") or reports(task_vars))
        samples = (options.get("probe") or {}).get("samples")
        page = report.write(report.build(run, report.read_samples(samples)), directory, report.name_of(run))
        if samples:  # the report has what they tell
            Path(samples).unlink(missing_ok=True)
        Display().display(f"The report is {page}\n")
        return str(page)


def show(run: dict[str, Any], rows: list[dict[str, Any]], probe: dict[str, Any]) -> None:
    """The table, what the probe saw, and what is known of each host that failed."""
    screen = Display()
    screen.display(f"\n{report.table(run)}\n\n{run['message']}")
    if probe.get("requests"):
        screen.display(f"{probe['failed']} of {probe['requests']} requests through the edge failed meanwhile")
    screen.display("")
    for row in rows:
        if row["diagnosis"]:
            screen.display(f"--- {row['host']} ---\n{row['diagnosis']}\n", color="red")
