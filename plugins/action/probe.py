# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Starts and stops the probe on the controller; see the module of the same name."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import main_process, reports, run_id
from ansible_collections.slipway.fleet.plugins.plugin_utils.probe import client as probe

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


def start(settings: dict[str, Any], note: Path) -> int:
    """Start the probe in a session of its own, so that Ctrl-C does not reach it, and note which process it is."""
    program = [sys.executable, "-I", probe.__file__]
    process = subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(settings).encode())
    process.stdin.close()
    known = {"pid": process.pid, "since": probe.started(process.pid), "timeout": settings["timeout"]}
    note.write_text(json.dumps(known) + "\n", encoding="utf-8")
    return process.pid


def stop(note: Path) -> None:
    """End the probe, once its requests in flight are answered; one that has ended already is no error."""
    known = json.loads(note.read_text(encoding="utf-8"))
    pid, since = int(known["pid"]), str(known["since"])
    if probe.alive(pid, since):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + float(known["timeout"]) + 2
    while probe.alive(pid, since):
        _reap(pid)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            deadline += 2
        time.sleep(0.05)
    note.unlink()


def _reap(pid: int) -> None:
    """A child of this very process would stay as a zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


class ActionModule(ActionBase):  # type: ignore[misc]
    """Everything happens on the controller; no host is asked for anything but what the edges answer."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(OPTIONS)
        name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in options["run"] or run_id())
        directory = Path(options["directory"] or reports(task_vars))
        samples, note = directory / f".probe-{name}.jsonl", directory / f".probe-{name}.json"
        if options["state"] == "started":
            return self._started(options, samples, note)
        return self._stopped(samples, note)

    def _started(self, options: dict[str, Any], samples: Path, note: Path) -> dict[str, Any]:
        if options["rate"] == 0:
            return {"changed": False, "msg": "the probe is off (rate 0)"}
        watched = main_process()
        settings = {
            **{option: options[option] for option in SENT},
            "samples": str(samples.absolute()),
            "watch": [(watched, probe.started(watched))],
        }
        try:
            probe.Settings(**settings).targets()
        except (ValueError, OSError) as error:
            raise AnsibleActionFail(f"the probe cannot ask the edge: {error}") from error
        if self._task.check_mode or (note.exists() and self._known(note)):
            return {"changed": False, "samples": str(samples)}
        samples.parent.mkdir(parents=True, exist_ok=True)
        samples.unlink(missing_ok=True)
        return {"changed": False, "samples": str(samples), "pid": start(settings, note)}

    def _known(self, note: Path) -> bool:
        known = json.loads(note.read_text(encoding="utf-8"))
        return probe.alive(int(known["pid"]), str(known["since"]))

    def _stopped(self, samples: Path, note: Path) -> dict[str, Any]:
        if self._task.check_mode:
            return {"changed": False, "summary": {}, "samples": None}
        if note.exists():
            stop(note)
        if not samples.exists():
            return {"changed": False, "summary": {}, "samples": None}
        found, ended = probe.read_samples(samples)
        return {"changed": False, "samples": str(samples), "summary": {**probe.summarize(found), "ended": ended}}
