#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: guard
short_description: Refuse a run that could only do nothing, or something else than was meant
description:
  - Fails where the groups of a playbook have no hosts, where C(--limit), C(--tags) or C(--skip-tags) leaves nothing to
    do, where the variables of a host cannot be read (broken YAML, a vault that does not open) or can be read by
    everybody, where a variable is almost one of Slipway's, where one begins with C(slipway_) and is none of them, and
    where one is of another type than its role wants.
  - Warns of a file that is called C(vault) and is not encrypted.
  - Runs on the controller, once, and asks no host.
options:
  over: {description: Groups that the playbook is about., type: list, elements: str, default: [web]}
  own_variables:
    description: Names of variables that are meant as they are.
    type: list
    elements: str
    default: []
  meant:
    description: By names of extra variables that the playbook does not read, those that whoever gives them means.
    type: dict
    default: {}
extends_documentation_fragment: [slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode: {description: Does the same., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Stop before anything is done
  slipway.fleet.guard:
    over: [load_balancer]
  run_once: true
"""

RETURN = ""
