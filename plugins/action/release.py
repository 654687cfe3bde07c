# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Controller part of slipway.fleet.release: one host's part in the transaction of a fleet."""

from __future__ import annotations

import time
from typing import Any, Optional

from ansible.plugins.action import ActionBase
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import (
    Unreachable,
    on_host,
    run_id,
    whence,
    who,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import reported as fleet

MODULE = "slipway.fleet.release"
# The results of this plugin on other hosts, under the names that role fastapi_app registers.
ROLLED = "fastapi_app_release_result"
BEFORE = "fastapi_app_doctor_result"
# Operations that only tell. A host that does not answer is part of what is told, and not the end of the run for it.
TELLING = ("observe", "history", "logs")


class ActionModule(ActionBase):  # type: ignore[misc]
    """See the module of the same name for the options."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        options = dict(self._task.args)
        options["about"] = {"who": who(), "from": whence(), "run": run_id(), **(options.get("about") or {})}
        operation = options.get("operation", "activate")
        if operation == "settle":
            return self._settle(options, task_vars)
        if operation == "activate" and options.get("defer_failure"):
            return self._roll(options, task_vars)
        try:
            result = on_host(self, MODULE, options, task_vars)
        except Unreachable as error:
            if operation in TELLING:
                return {"changed": False, "outcome": fleet.UNREACHABLE, "cause": f"it cannot be reached: {error}"}
            return {"unreachable": True, "msg": str(error)}
        if operation in TELLING:
            return reported(result)
        if operation == "activate" and not self._task.check_mode:
            result["outcome"] = fleet.outcome_of(result)
        return result

    def _roll(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """Release on this host, unless the roll has failed on another one already; a failure is reported, not raised.

        Ansible's own rules let the next batch go on after an unreachable host and after a rescued failure, so the gate
        is here, where it can see what every host reported.
        """
        tried = options.get("release")
        if found := fleet.trouble(rolled(task_vars)):
            return {"changed": False, "outcome": fleet.HELD, "cause": found, "tried": None}
        began = time.time()
        try:
            result = on_host(self, MODULE, options, task_vars)
        except Unreachable as error:
            return {
                "changed": False, "outcome": fleet.UNREACHABLE, "cause": f"cannot be reached: {error}",
                "began": began, "tried": tried,
            }  # fmt: skip
        if self._task.check_mode:
            return result
        return {**reported(result), "began": began, "tried": tried}

    def _settle(self, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        """End the run on this host: back to what it served before when the roll failed somewhere and that is wanted."""
        stopped = fleet.trouble(rolled(task_vars))
        before: dict[str, Any] = task_vars.get(BEFORE) or {}
        back: Optional[str] = (before.get("state") or {}).get("release")
        if not stopped or options.get("on_failure") == "hold":
            back = None
        if back:
            options["about"] = {"operation": "revert", "who": who(), "from": whence(), "run": run_id()}
        began = time.time()
        try:
            result = on_host(self, MODULE, {"run": run_id(), **options, "return_to": back}, task_vars)
        except Unreachable as error:
            return {"changed": False, "outcome": fleet.UNREACHABLE, "cause": f"cannot be reached: {error}"}
        return {**reported(result), "began": began}


def reported(result: dict[str, Any]) -> dict[str, Any]:
    """The module's result as a report: a failure is its outcome, and its long message the diagnosis."""
    report = {**result, "outcome": fleet.outcome_of(result)}
    if result.get("failed"):
        message = str(result.get("msg") or result.get("exception") or "no reason given")
        report |= {
            "failed": False, "changed": False,
            "cause": result.get("cause") or message.splitlines()[0],
            "diagnosis": message,
        }  # fmt: skip
        report.pop("exception", None)
    return report


def rolled(task_vars: dict[str, Any]) -> dict[str, Any]:
    """What this plugin reported for each host of the play so far in this run."""
    of_host = task_vars["hostvars"]
    return {host: of_host[host].get(ROLLED) for host in task_vars["ansible_play_hosts_all"]}
