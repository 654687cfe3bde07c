#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Show or take away the maintenance page of an app at this host's edge."""

from __future__ import annotations

DOCUMENTATION = r"""
module: maintenance
short_description: Show or take away the maintenance page of an app at this host's edge
description:
  - Tells the running HAProxy, and writes it down for the next one, so that it holds over a reload and a reboot. No
    request in flight is cut.
  - What an operator switched and what the variables of the host say (O(declared)) are kept apart. The page is shown
    where either says so, so a later provision run neither undoes nor contradicts an operator. An operator cannot take
    away a page that the variables want; the module fails and says where it stands.
options:
  app: {description: Name of the app., type: str, required: true}
  shown: {description: Whether the page is shown., type: bool, required: true}
  socket: {description: Admin socket of HAProxy., type: path, required: true}
  declared: {description: Map that the variables of the host made., type: path, required: true}
  switched: {description: Map of what operators switched., type: path, required: true}
extends_documentation_fragment: [slipway.fleet.record, slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode: {description: Tells whether the page would change., support: full}
  diff_mode: {description: Shows the page before and after., support: full}
"""

EXAMPLES = r"""
- name: Show the maintenance page
  slipway.fleet.maintenance:
    app: shortlinks
    shown: true
    socket: /run/haproxy/admin.sock
    declared: /etc/haproxy/maintenance.map
    switched: /var/lib/haproxy/maintenance.map
"""

RETURN = r"""
shown: {description: Whether the page is shown., returned: success, type: bool}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.edge.haproxy import Edge, EdgeError
from ..module_utils.edge.maintenance import OFF, ON, Page, outcome
from ..module_utils.host.answer import answer
from ..module_utils.host.ledger import RECORD_ARGUMENT, recorded

ARGUMENTS: dict[str, Any] = {
    "app": {"type": "str", "required": True},
    "shown": {"type": "bool", "required": True},
    "socket": {"type": "path", "required": True},
    "declared": {"type": "path", "required": True},
    "switched": {"type": "path", "required": True},
    "record": RECORD_ARGUMENT,
}


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    options = module.params
    edge = Edge(options["socket"], f"app_{options['app']}", "")
    page = Page(edge, options["app"], Path(options["declared"]), Path(options["switched"]))
    wanted, before = (ON, OFF) if options["shown"] else (OFF, ON)
    result: dict[str, Any] = {}
    try:
        result = outcome(page, wanted, check_mode=True)
        if result["changed"] and not module.check_mode:
            with recorded(options["record"], "maintenance", wanted) as note:
                result = outcome(page, wanted, check_mode=False)
            result["warnings"] = note.warnings
    except EdgeError as error:
        module.fail_json(msg=str(error))
    if result["changed"]:
        result["diff"] = {"before": f"maintenance page {before}\n", "after": f"maintenance page {wanted}\n"}
    answer(module, result)


if __name__ == "__main__":
    main()
