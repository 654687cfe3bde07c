# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Ends ansible-playbook with the exit code that a task asked for, and not with 0 where it did nothing."""

from __future__ import annotations

DOCUMENTATION = r"""
name: exit_code
type: notification
short_description: End a run with the exit code that a task asked for, and one that did nothing not with 0
description:
  - A run of Ansible ends with 0, or with 2 or 4 for hosts that failed or did not answer. The playbooks that look at a
    fleet have more to say, such as 3 for drift. A task says so with C(exit_code) in its result, the highest one counts.
  - It ends the run after the recap. A run in which a host failed for another reason ends as Ansible says.
  - A run of Slipway's playbooks in which no task was begun ends with 2, and says why. Ansible ends with 0 where
    C(--start-at-task) names no task, or C(--skip-tags) leaves none.
  - Before the first of their tasks it names the file where C(group_vars/all) cannot be read. Ansible ends the run then,
    and does not say which one it is.
requirements:
  - Enable it as the last one with C(callbacks_enabled = slipway.fleet.progress, slipway.fleet.exit_code) in the section
    C(defaults) of C(ansible.cfg).
author: [Slipway contributors]
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import context
from ansible.errors import AnsibleError
from ansible.plugins.callback import CallbackBase

OURS = Path(__file__).resolve().parents[2] / "playbooks"
# As for --tags that leave no task.
NOTHING_BEGUN = 2


def wanted(asked: list[int], others: int) -> int:
    """The exit code, 0 for none of our own: another failure than those that asked counts more."""
    return 0 if others or not asked else max(asked)


def nothing_begun(options: Mapping[str, Any]) -> str:
    """Why a run with these options of ansible-playbook began no task; empty where somebody chose none step by step."""
    if options.get("step"):
        return ""
    if at := options.get("start_at_task"):
        return (
            f'Nothing was done: no task of this playbook is called "{at}", as --start-at-task says. --list-tasks shows '
            "their names."
        )
    if skipped := options.get("skip_tags"):
        return f"Nothing was done: --skip-tags {','.join(sorted(skipped))} leaves no task of this playbook."
    return "Nothing was done: no task of this playbook was begun."


def cannot_be_read(play: Any) -> str:
    """Which file of the variables of a play's first host cannot be read, as Ansible is about to find out, or nothing.

    It keeps what it reads here.
    """
    manager = play.get_variable_manager()
    host = next(iter(manager._inventory.get_hosts("all", ignore_limits=True)), None)
    try:
        if host:
            manager.get_vars(play=play, host=host, include_hostvars=False)
    except AnsibleError as error:
        from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.unreadable import (  # noqa: PLC0415 - seldom
            unreadable,
        )

        return str(unreadable(error))
    return ""


def is_ours(play: Any) -> bool:
    """Whether a play is one of the collection's, also where a playbook of somebody's own imports it."""
    path = str(play.get_path()).rpartition(":")[0]
    return bool(path) and Path(path).resolve().is_relative_to(OURS)


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
        self._ours = self._begun = self._read = False
        # Playbooks of this command whose end is to come.
        self._left = len(context.CLIARGS.get("args") or ())

    def v2_playbook_on_start(self, playbook: Any) -> None:
        self._ours = self._ours or any(map(is_ours, playbook.get_plays()))

    def v2_playbook_on_play_start(self, play: Any) -> None:
        if self._ours and not self._read:
            self._read = True
            if told := cannot_be_read(play):
                self._display.error(told)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self._begun = True

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        self._begun = True

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
        self._left -= 1
        if self._ours and not self._begun and self._left <= 0 and (words := nothing_begun(context.CLIARGS)):
            self._display.error(words)
            raise SystemExit(NOTHING_BEGUN)
