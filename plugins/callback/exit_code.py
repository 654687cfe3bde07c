# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Ends ansible-playbook with the exit code that a task asked for."""

from __future__ import annotations

DOCUMENTATION = r"""
name: exit_code
type: notification
short_description: End a run with the exit code that a task asked for
description:
  - A run of Ansible ends with 0, or with 2 or 4 for hosts that failed or did not answer. The playbooks that look at a
    fleet have more to say, such as 3 for drift. A task says so with C(exit_code) in its result, the highest one counts.
  - It ends the run after the recap. A run in which a host failed for another reason ends as Ansible says.
requirements:
  - Enable it as the last one with C(callbacks_enabled = slipway.fleet.progress, slipway.fleet.exit_code) in the section
    C(defaults) of C(ansible.cfg).
author: [Slipway contributors]
"""

from typing import Any

from ansible.plugins.callback import CallbackBase


def wanted(asked: list[int], others: int) -> int:
    """The exit code, 0 for none of our own: another failure than those that asked counts more."""
    return 0 if others or not asked else max(asked)


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Collects what tasks ask for; the exception of the end is what sys.exit raises."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "slipway.fleet.exit_code"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._asked: list[int] = []
        self._others = 0

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        code = result.result.get("exit_code")
        if isinstance(code, int) and code:
            self._asked.append(code)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        failed = sum(
            stats.summarize(host)["failures"] + stats.summarize(host)["unreachable"] for host in stats.processed
        )
        if code := wanted(self._asked, failed - len(self._asked)):
            raise SystemExit(code)
