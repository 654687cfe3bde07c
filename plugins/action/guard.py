# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Refuses a run that could only do nothing, or something else than was meant; see the module of the same name."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ansible import context
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars
from ansible_collections.slipway.fleet.plugins.filter.fleet import misspelled_variables
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.packing import keep_packed
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.plain_vault import (
    plain_vaults,
    readable_by_everybody,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.published_vault import vaults_of_the_lab
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.spelling import inputs_of_roles
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.typed import wrong_types
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.unreadable import unreadable

OPTIONS: dict[str, Any] = {
    "over": {"type": "list", "elements": "str", "default": ["web"]},
    "own_variables": {"type": "list", "elements": "str", "default": []},
    "meant": {"type": "dict", "default": {}},
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Asks no host."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(OPTIONS)
        sources = ", ".join(task_vars.get("ansible_inventory_sources") or [])
        chosen = task_vars["ansible_play_hosts_all"]
        limit = str(task_vars.get("ansible_limit") or "")
        if problem := no_hosts(options["over"], task_vars["groups"], chosen, sources, limit) or no_tasks(
            self._task.tags, task_vars.get("ansible_run_tags") or ["all"], task_vars.get("ansible_skip_tags") or []
        ):
            raise AnsibleActionFail(problem)
        inventories = task_vars.get("ansible_inventory_sources") or []
        if published := vaults_of_the_lab(inventories):
            raise AnsibleActionFail(known_to_everybody(published))
        try:
            extra = load_extra_vars(self._loader)
            wrong = others_meant(extra, options["meant"], options["own_variables"])
            wrong += misspelled_variables(task_vars["hostvars"], options["own_variables"], extra)
            given = {host: task_vars["hostvars"].raw_get(host) for host in task_vars["hostvars"]}
        except AnsibleError as error:
            raise AnsibleActionFail(unreadable(error)) from None  # which says it again
        if wrong:
            wrong.append("Correct the name, or name it in slipway_own_variables if it is yours.")
        if wrong := [*wrong, *wrong_types(given, inputs_of_roles())]:
            raise AnsibleActionFail(f"Nothing was done. {' '.join(wrong)}")
        keep_packed(context.CLIARGS.get("args") or ())
        # Ansible shows a warning once, however often a run comes here.
        return {"changed": False, "warnings": [readable_by_everybody(path) for path in plain_vaults(inventories)]}


def no_hosts(
    over: Sequence[str], groups: Mapping[str, Sequence[str]], chosen: Sequence[str], sources: str, limit: str
) -> str:
    """Why a playbook over some groups has no host to do something on; empty where it has.

    `chosen` are the hosts that --limit leaves, all of the inventory without it.
    """
    named = " or ".join(over)
    hosts = list(dict.fromkeys(host for group in over for host in groups.get(group) or ()))
    if not hosts:
        return (
            f"The inventory {sources} has no hosts in the group {named}, so nothing was done. Name an inventory "
            f"with -i, and its hosts in hosts.yml under {named}."
        )
    if limit and not set(hosts) & set(chosen):
        return (
            f"Nothing was done: this playbook is about the hosts of the group {named}, and --limit {limit} leaves "
            f"none of them. They are: {', '.join(hosts)}."
        )
    return ""


def no_tasks(own: Sequence[str], named: Sequence[str], skipped: Sequence[str]) -> str:
    """Why a run with --tags or --skip-tags has no other task than this one; empty where it has.

    `own` are the tags of this task. Those that a playbook of the user's own gives to ours are on all of its tasks.
    """
    if not ({"all", "untagged", *own} - {"always"}) & set(named):
        return (
            f"Nothing was done: no task of this playbook has the tag {' or '.join(named)}, so --tags leaves none of "
            "them. Run it without, or narrow it down with --limit."
        )
    # Those that are always done are this one alone.
    if "all" in skipped or ("untagged" in skipped and set(own) == {"always"}):
        return (
            f"Nothing was done: --skip-tags {','.join(sorted(skipped))} leaves no task of this playbook. Run it "
            "without, or narrow it down with --limit."
        )
    return ""


def others_meant(extra: Collection[str], meant: Mapping[str, str], own: Sequence[str] = ()) -> list[str]:
    """A sentence for each extra variable that a playbook does not read and that means one that it does."""
    return [
        f"{name} (given with -e) is no variable of Slipway; did you mean {ours}?"
        for name, ours in meant.items()
        if name in extra and ours not in extra and name not in own
    ]


def known_to_everybody(vaults: Sequence[str]) -> str:
    return (
        f"Nothing was done. Everybody can open {', '.join(vaults)}, since it is encrypted with the password of "
        "inventories/lab. Change what is in it, and encrypt it with a password of your own: ansible-vault rekey "
        "--vault-password-file inventories/lab/.vault_password --new-vault-id NAME@prompt FILE."
    )
