# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Filters that look over all hosts of a fleet, for playbooks."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ansible import context
from ansible.errors import AnsibleFilterError
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.spelling import known_variables, misspelled, unknown

# By which variables an app is told what it works with.
_TOLD = ("fastapi_app_secrets", "fastapi_app_environment")
# What is looked at before a rotation, in the order in which it is told.
_FORESEEN = ("told", "database", "cache")


def command_words(line: str, name: str = "the command") -> list[str]:
    """The words of a command line as a shell splits them; nothing else of a shell is done to them.

    Raises AnsibleFilterError for an unclosed quotation mark; `name` is the variable that has it.
    """
    try:
        return shlex.split(str(line))
    except ValueError as error:
        raise AnsibleFilterError(f"{name} ({line!r}) cannot be split into words: {error}; close its quotes") from error


def whole_text(value: str, name: str) -> str:
    """The value of an extra variable with all its words.

    Of `-e name="two words"` the shell leaves `name=two words`, which Ansible reads as several variables and cuts at the
    first blank. An item that begins with the name and is not quoted once more is therefore taken as it was written.
    """
    for item in reversed(context.CLIARGS.get("extra_vars") or ()):
        said = str(item).strip()
        if said.startswith(f"{name}="):
            text = said[len(name) + 1 :]
            return value if text[:1] in {"'", '"'} else text
    return value


def misspelled_variables(
    hostvars: Mapping[str, Mapping[str, Any]], own: Sequence[str] = (), extra: Collection[str] = ()
) -> list[str]:
    """A sentence for each variable of any host that is almost one of Slipway's, or begins like those of its playbooks.

    Args:
        hostvars: of all hosts
        own: names that are meant so
        extra: names that were given on the command line
    """
    of_hosts: dict[str, list[str]] = {}
    for host in hostvars:
        for name in hostvars[host]:
            of_hosts.setdefault(str(name), []).append(host)
    names, known = set(of_hosts) - set(own), known_variables()
    return [
        f"{name} ({_whose(name, of_hosts[name], extra)}) is no variable of Slipway"
        + (f"; did you mean {meant}?" if meant else ".")
        for name, meant in {**misspelled(names, known), **unknown(names, known)}.items()
    ]


def _whose(name: str, hosts: Sequence[str], extra: Collection[str]) -> str:
    if name in extra:
        return "given with -e"
    return f"of {hosts[0]}{' and others' if hosts[1:] else ''}"


def lacking_credentials(hosts: Sequence[Mapping[str, Any]], credentials: Mapping[str, str]) -> list[str]:
    """A sentence for each host whose app is not told one of the credentials, by none of its secrets and variables.

    Args:
        hosts: the variables of the hosts that serve
        credentials: by the name of the variable that has it; an empty one is not looked for
    """
    found = []
    for host in hosts:
        told = [str(value) for name in _TOLD for value in (host.get(name) or {}).values()]
        for name, value in credentials.items():
            forms = {str(value), quote(str(value), safe=""), json.dumps(str(value))[1:-1]}
            if value and not any(form in text for form in forms for text in told):
                found.append(
                    f"{host['inventory_hostname']}: no value of fastapi_app_secrets or fastapi_app_environment has "
                    f"what {name} is, so its app would go on with what is to be taken away; write "
                    f"{{{{ {name} }}}} there."
                )
    return found


def elsewhere(hosts: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The hosts that were not seen to serve the release to which this run took the fleet.

    Of each host that is what `slipway.fleet.rollout` and then `slipway.fleet.release` answered.
    """
    found = []
    for host in hosts:
        wanted = (hostvars[host].get("slipway_rollout_result") or {}).get("release")
        serving = (hostvars[host].get("fastapi_app_status_result") or {}).get("serving") or {}
        if not wanted or serving.get("release") != wanted:
            found.append(host)
    return found


def foreseen(hosts: Sequence[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What would refuse the new credentials on these hosts, as the tasks of foresee_credentials.yml have found it."""
    found = []
    for host in hosts:
        said = {name: (hostvars[host].get(f"slipway_{name}_result") or {}).get("msg") for name in _FORESEEN}
        # What the app of a host is not told begins with the name of that one, whichever host of the database asks.
        found += [str(words).strip() if name == "told" else f"{host}: {words}" for name, words in said.items() if words]
    return list(dict.fromkeys(found))


class FilterModule:
    """What stands above, all of slipway.fleet."""

    def filters(self) -> dict[str, Any]:
        return {
            "command_words": command_words,
            "whole_text": whole_text,
            "elsewhere": elsewhere,
            "foreseen": foreseen,
            "lacking_credentials": lacking_credentials,
            "misspelled_variables": misspelled_variables,
        }
