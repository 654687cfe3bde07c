#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: status
short_description: Show what serves on which host as a table, and write it as JSON
description:
  - Reads what M(slipway.fleet.release) observed on the hosts earlier in the same run. Runs on the controller.
options:
  hosts: {description: Hosts to show., type: list, elements: str, required: true}
  file: {description: Where to write the JSON; without it to C(reports/INVENTORY/status.json)., type: path}
author: [Slipway contributors]
attributes:
  check_mode: {description: Shows the table and writes no file., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Show the table and write the JSON
  slipway.fleet.status:
    hosts: "{{ groups['web'] }}"
    file: reports/status.json
"""

RETURN = r"""
rows:
  description: For each host its release and slot and health and since when and a list of differences.
  returned: always
  type: list
  elements: dict
"""
