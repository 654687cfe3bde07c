#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Ask the program that backs a host up."""

from __future__ import annotations

DOCUMENTATION = r"""
module: backup
short_description: Make a set, prove one, or restore one, on a host where backups are set up
description:
  - Starts C(slipway-backup) as a unit of its own, which goes on where the connection is lost, and waits for its end.
    What only looks is run as it is.
options:
  verb:
    description: What is asked.
    type: str
    choices: [backup, drill, status, plan, restore]
    required: true
  set: {description: Id of a set; V(latest) is the newest., type: str, default: latest}
  of:
    description:
      - Whose set or point in time is restored, where that is another host of the repository.
      - For a drill the host of the database, whose newest set is restored besides.
    type: str
    default: ""
  time: {description: A point in time instead of a set., type: str, default: ""}
  parts:
    description: What of a set is restored, V(all) or names like V(database:links) and V(directory:/srv/uploads).
    type: list
    elements: str
    default: [all]
  confirm: {description: The name of what is restored as it was typed., type: str, default: ""}
  any_schema: {description: Restore what does not fit the release that serves., type: bool, default: false}
  safety: {description: Make a set of what is there before a restore., type: bool, default: true}
  reason: {description: Why a set is made., type: str, default: asked}
  warns:
    description: For V(status), whether to warn of a repository that is lost with the disk of what is backed up.
    type: bool
    default: false
extends_documentation_fragment: [slipway.fleet.record, slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode: {description: Looks as ever and does nothing else., support: partial}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Make a set
  slipway.fleet.backup:
    verb: backup
"""

RETURN = r"""
set_up: {description: Whether backups are set up on the host., returned: for C(status), type: bool}
told: {description: The program's answer., returned: success, type: dict}
fault: {description: What is wrong, by a name of few words., returned: failure, type: str}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.backup.asking import LOOKS, NOT_SET_UP, PROGRAM, ask
from ..module_utils.host.answer import answer
from ..module_utils.host.errors import SlipwayError
from ..module_utils.host.ledger import RECORD_ARGUMENT

ARGUMENTS: dict[str, Any] = {
    "verb": {"type": "str", "choices": ["backup", "drill", "status", "plan", "restore"], "required": True},
    "set": {"type": "str", "default": "latest"},
    "of": {"type": "str", "default": ""},
    "time": {"type": "str", "default": ""},
    "parts": {"type": "list", "elements": "str", "default": ["all"]},
    "confirm": {"type": "str", "default": ""},
    "any_schema": {"type": "bool", "default": False},
    "safety": {"type": "bool", "default": True},
    "reason": {"type": "str", "default": "asked"},
    "warns": {"type": "bool", "default": False},
    "record": RECORD_ARGUMENT,
}


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    options = module.params
    verb = options["verb"]
    set_up = PROGRAM.exists()
    if verb == "status" and not set_up:
        module.exit_json(changed=False, set_up=False, told={})
    if not set_up:
        module.fail_json(msg=NOT_SET_UP)
    if module.check_mode and verb not in LOOKS:
        module.exit_json(changed=True, told={}, msg=f"{verb} is not run in check mode")
    told: dict[str, Any] = {}
    try:
        told = ask(options)
    except SlipwayError as error:
        module.fail_json(msg=str(error), **error.details)
    known = told.pop("to_be_told", [])
    warnings = told.pop("warnings", []) + (known if options["warns"] else [])
    answer(module, {"changed": verb not in LOOKS, "set_up": True, "told": told, "warnings": warnings})


if __name__ == "__main__":
    main()
