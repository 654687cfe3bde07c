#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Order the certificates that the names of this host's edge lack, and wait for them; or look at those that it has."""

from __future__ import annotations

DOCUMENTATION = r"""
module: certificates
short_description: Order the certificates that the names of an edge lack
description:
  - The names are those of all apps of the edge, whichever inventories they are from. Each gets a certificate and a key
    of its own by ACME, which the running HAProxy serves at once. Where the authority asks by HTTP, a name that leads
    elsewhere is told and not ordered; where it asks DNS, names with a star have one, too.
  - The same program is run by the timer C(slipway-certificates.timer), which renews them.
options:
  settings: {description: The file in which role haproxy says how certificates are ordered., type: path, required: true}
  state:
    description: With V(look) nothing is ordered; what is known of the certificates is told.
    type: str
    choices: [ordered, look]
    default: ordered
  names:
    description: Those that must have one. Of the others, of other inventories' apps, it is told what is wrong.
    type: list
    elements: str
    default: []
  certificate:
    description: With V(look) the file of the certificate that the team renews itself, where there is one.
    type: path
  days: {description: Days before its end from when that one is to be renewed., type: int, default: 14}
  wait: {description: "Seconds for all orders; what is left then, the timer orders.", type: int, default: 180}
  missing:
    description: What happens where one of O(names) has no valid certificate after that. HTTP serves it in any case.
    type: str
    choices: [fail, tell]
    default: fail
extends_documentation_fragment: [slipway.fleet.record, slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode: {description: Tells whether anything would be ordered., support: full}
  diff_mode: {description: Has nothing to show., support: none}
"""

EXAMPLES = r"""
- name: Order the certificates that are missing
  slipway.fleet.certificates:
    settings: /etc/haproxy/acme.json
    names: [shop.example.org]

- name: Look at the certificates
  slipway.fleet.certificates:
    state: look
    settings: /etc/haproxy/acme.json
    certificate: /etc/haproxy/certificates/site.pem
"""

RETURN = r"""
ordered:
  description: The names that got a certificate, or would be ordered in check mode.
  returned: success
  type: list
  elements: str
names:
  description:
    - What is known of each name. None where this edge orders no certificates. An entry with C(damaged) has the path of
      a file that cannot be read, and its C(error) says what to do.
  returned: success
  type: list
  elements: dict
  sample:
    - name: shop.example.org
      days: 89
      issuer: R11
      renewed: "2026-11-26T10:00:00Z"
      tried: ""
      error: ""
      overdue: ""
      early: false
      hsts: 604800
      hsts_from: ""
problems:
  description: A sentence for each name of which something is wrong.
  returned: with O(state=look)
  type: list
  elements: str
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.edge.acme import Renewal
from ..module_utils.edge.certificates import Settings, drift, of_the_vault, of_this_edge
from ..module_utils.host.answer import answer
from ..module_utils.host.errors import SlipwayError
from ..module_utils.host.ledger import RECORD_ARGUMENT, recorded

ARGUMENTS: dict[str, Any] = {
    "settings": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["ordered", "look"], "default": "ordered"},
    "names": {"type": "list", "elements": "str", "default": []},
    "certificate": {"type": "path"},
    "days": {"type": "int", "default": 14},
    "wait": {"type": "int", "default": 180},
    "missing": {"type": "str", "choices": ["fail", "tell"], "default": "fail"},
    "record": RECORD_ARGUMENT,
}


def refusal(missing: Sequence[Mapping[str, Any]]) -> str:
    """Why these names cannot be served by HTTPS, and what to do meanwhile."""
    return (
        f"{'. '.join(drift(missing))}. HTTP is served there meanwhile, and the timer tries again. Run the "
        "playbook again once that is mended, or set haproxy_acme_missing: tell to go on without"
    )


def look(options: dict[str, Any]) -> dict[str, Any]:
    """The result where nothing is to be ordered."""
    names = of_this_edge(Path(options["settings"]))
    if options["certificate"]:
        names += of_the_vault(Path(options["certificate"]), options["days"])
    return {"changed": False, "ordered": [], "names": names, "problems": drift(names)}


def act(options: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """The result of the module. Raises SlipwayError and OSError."""
    settings = Settings.load(Path(options["settings"]))
    if settings is None:
        return {"changed": False, "ordered": [], "names": []}
    renewal = Renewal(settings)
    renewal.records()  # one that is damaged is told before anything is begun
    if check_mode:
        due = renewal.orders()
        return {"changed": bool(due), "ordered": due, "names": []}
    names = [name.lower() for name in options["names"]]
    due = renewal.orders()
    with recorded(options["record"] if due else None, "certificates", ", ".join(due)) as note:
        outcome = renewal.run(asked=names, limit=options["wait"])
        note.more["ordered"] = outcome.changed
        missing = [entry for entry in outcome.missing if entry["name"] in names]
        if missing and options["missing"] == "fail":
            raise SlipwayError(refusal(missing))
    found = {"changed": bool(outcome.changed), "ordered": outcome.changed, "names": outcome.names}
    return {**found, "warnings": outcome.problems + note.warnings}


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    result: dict[str, Any] = {}
    try:
        result = look(module.params) if module.params["state"] == "look" else act(module.params, module.check_mode)
    except (SlipwayError, OSError) as error:
        module.fail_json(msg=str(error))
    answer(module, result)


if __name__ == "__main__":
    main()
