#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Say in the ledger of an app that an operation begins, or how it ended."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ledger
short_description: Say in the ledger of an app that an operation begins, or how it ended
description:
  - For an operation of several tasks. Modules that are one by themselves record it, where they are told O(record).
  - One that began and of which nobody says how it ended is shown as not ended. It failed, was killed, or is under way.
  - A ledger that cannot be written stops no operation; it is a warning. A record is no change of the host.
options:
  operation: {description: What is done., type: str, required: true}
  what: {description: To what., type: str, default: ""}
  state: {description: How far it is., type: str, choices: [begun, done, failed], required: true}
  begun: {description: RV(begun) of the task that said that it begins., type: dict, default: {}}
  cause: {description: Why it failed., type: str, default: ""}
extends_documentation_fragment: [slipway.fleet.record, slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode: {description: Writes nothing., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Say that the host is prepared
  slipway.fleet.ledger:
    operation: provision
    state: begun
    record: "{{ lookup('slipway.fleet.record') }}"
  register: ledger_result

- name: Say that it was
  slipway.fleet.ledger:
    operation: provision
    state: done
    begun: "{{ ledger_result.begun }}"
    record: "{{ lookup('slipway.fleet.record') }}"
"""

RETURN = r"""
begun: {description: What the record of the end is told., returned: always, type: dict}
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.answer import answer
from ..module_utils.host.ledger import BEGUN, DONE, FAILED, RECORD_ARGUMENT, noted

ARGUMENTS: dict[str, Any] = {
    "operation": {"type": "str", "required": True},
    "what": {"type": "str", "default": ""},
    "state": {"type": "str", "choices": [BEGUN, DONE, FAILED], "required": True},
    "begun": {"type": "dict", "default": {}},
    "cause": {"type": "str", "default": ""},
    "record": RECORD_ARGUMENT,
}


def perform(options: dict[str, Any]) -> dict[str, Any]:
    """The result of the module."""
    note = noted(options["record"], options["operation"], options["what"])
    note.begun.update(options["begun"])
    if options["state"] == BEGUN:
        note.begin()
    else:
        note.end(options["state"], **({"cause": options["cause"].splitlines()[0]} if options["cause"].strip() else {}))
    return {"changed": False, "begun": note.begun, "warnings": note.warnings}


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    answer(module, {"changed": False, "begun": {}} if module.check_mode else perform(module.params))


if __name__ == "__main__":
    main()
