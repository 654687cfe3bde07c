# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Starts and stops the probe on the controller; see the module of the same name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import main, reports, run_id
from ansible_collections.slipway.fleet.plugins.plugin_utils.probe import client, process

OPTIONS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["started", "stopped"], "required": True},
    "run": {"type": "str"},
    "directory": {"type": "str"},
    "urls": {"type": "list", "elements": "str", "default": []},
    "path": {"type": "str", "default": "/version"},
    "host_header": {"type": "str", "default": ""},
    "ca_file": {"type": "path", "default": ""},
    "verify": {"type": "bool", "default": True},
    "rate": {"type": "float", "default": 10.0},
    "timeout": {"type": "float", "default": 5.0},
    "limit": {"type": "float", "default": 3600.0},
}
SENT = ("urls", "path", "host_header", "ca_file", "verify", "rate", "timeout", "limit")


class ActionModule(ActionBase):  # type: ignore[misc]
    """Everything happens on the controller; no host is asked for anything but what the edges answer."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(OPTIONS)
        files = process.Files.of(Path(options["directory"] or reports(task_vars)), options["run"] or run_id())
        return self._started(options, files) if options["state"] == "started" else self._stopped(files)

    def _started(self, options: dict[str, Any], files: process.Files) -> dict[str, Any]:
        if options["rate"] == 0:
            return {"changed": False, "msg": "the probe is off (rate 0)"}
        settings = {option: options[option] for option in SENT}
        found: dict[str, Any] = {"changed": False, "samples": str(files.samples.absolute())}
        try:
            if self._task.check_mode:
                client.Settings(samples=found["samples"], **settings).targets()
            elif not process.running(files):
                found["pid"] = process.start(settings, files, main())
        except (ValueError, OSError) as error:
            raise AnsibleActionFail(f"the probe cannot ask the edge: {error}") from error
        return found

    def _stopped(self, files: process.Files) -> dict[str, Any]:
        nothing: dict[str, Any] = {"changed": False, "summary": {}, "samples": None}
        if self._task.check_mode:
            return nothing
        summary = process.stop(files)
        return {"changed": False, "summary": summary, "samples": str(files.samples.absolute())} if summary else nothing
