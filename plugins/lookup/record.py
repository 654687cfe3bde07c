# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""In which ledger of a host an operation stands, and whose it is."""

from __future__ import annotations

DOCUMENTATION = r"""
name: record
short_description: In which ledger of a host an operation stands, and whose it is
description:
  - What the option C(record) of modules takes. No host is asked.
options:
  _terms:
    description:
      - Name of the app; without it the C(fastapi_app_name) of the host, or else of the first host of the group C(web)
        that has one. Where no host has one there is no ledger, and the value is empty.
    type: list
    elements: str
author: [Slipway contributors]
"""

EXAMPLES = r"""
- name: Say in the ledger that it begins
  slipway.fleet.ledger:
    operation: provision
    state: begun
    record: "{{ lookup('slipway.fleet.record', 'shortlinks') }}"
"""

RETURN = r"""
_raw: {description: A dictionary with C(root), C(run), C(who) and C(from)., type: list, elements: dict}
"""

import re
from collections.abc import Mapping
from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.slipway.fleet.plugins.module_utils.host.ledger import APPS
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import run_id, whence, who

NAME = r"[a-z][a-z0-9-]*"


class LookupModule(LookupBase):  # type: ignore[misc]
    """See DOCUMENTATION."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[dict[str, str]]:
        self.set_options(var_options=variables, direct=kwargs)
        app = str(terms[0]) if terms else app_of(variables or {})
        # What cannot be a name is refused by the role that it is for, and names no directory until then.
        named = re.fullmatch(NAME, app)
        return [{"root": str(APPS / app), "run": run_id(), "who": who(), "from": whence()} if named else {}]


def app_of(variables: Mapping[str, Any]) -> str:
    """The app of a host, by its own variables or those of the hosts that serve; empty where there is none."""
    of_host = variables.get("hostvars") or {}
    for host in (variables.get("inventory_hostname"), *(variables.get("groups") or {}).get("web", ())):
        if host in of_host and (app := of_host[host].get("fastapi_app_name")):
            return str(app)
    return ""
