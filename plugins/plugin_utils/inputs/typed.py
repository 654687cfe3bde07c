# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Variables that are not of a role's type, or none of its choices: all hosts' at once, before one of them is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.refusals import (
    of_containers,
    of_types,
    of_values,
)

_TEMPLATE = ("{{", "{%", "{#")
# What playbooks know besides the choices of a role, which is then not asked for: nobody runs that on a host of data.
_WITHOUT = {"postgres_provider": "none", "redis_provider": "none"}
# Whose choices a playbook names with what each of them does.
_BY_PLAYBOOKS = ("haproxy_server_state",)
_PLAIN = (str, int, float, bool, type(None))


def wrong_types(hosts: Mapping[str, Mapping[str, Any]], options: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A sentence for each variable of any host whose type is wrong or that is no choice, as the inventory has them.

    What a template makes is known once it is rendered, with facts and results of tasks perhaps: the role looks then.
    """
    of_hosts: dict[str, list[str]] = {}
    looked: dict[tuple[str, str], list[str]] = {}
    for host, variables in hosts.items():
        for name in options.keys() & variables.keys():
            known = (name, repr(variables[name]))
            if known not in looked:
                looked[known] = _wrong(name, variables[name], options[name])
            for sentence in looked[known]:
                of_hosts.setdefault(sentence, []).append(host)
    return [f"{sentence} (of {of[0]}{' and others' if of[1:] else ''})." for sentence, of in sorted(of_hosts.items())]


def _wrong(name: str, value: Any, option: Mapping[str, Any]) -> list[str]:
    if value == _WITHOUT.get(name, _WITHOUT) or name in _BY_PLAYBOOKS:
        return []
    if not _known(value):
        if not isinstance(value, (dict, list)):
            return []
        option, value = {"type": option.get("type", "str")}, type(value)()  # what is in it is known later
    asked = {name: {key: said for key, said in option.items() if key != "required"}}
    said = of_values(ArgumentSpecValidator(asked).validate({name: value}).error_messages)
    return list(dict.fromkeys([*of_types(said, asked), *of_containers({name: value}, asked)]))


def _known(value: Any) -> bool:
    """Whether it is what it will be: no template, and nothing of an inline vault."""
    if isinstance(value, str):
        return not any(mark in value for mark in _TEMPLATE)
    if isinstance(value, dict):
        return all(_known(one) for one in value.values())
    if isinstance(value, list):
        return all(_known(one) for one in value)
    return isinstance(value, _PLAIN)
