#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: reach
short_description: Gather facts of a host, or say what to do where it cannot be reached
description:
  - Does what M(ansible.builtin.setup) does. Where the host cannot be reached the task fails and says how to go on,
    since what Ansible itself says is the connection's error alone.
options:
  gather_subset:
    description: As for M(ansible.builtin.setup).
    type: list
    elements: str
    required: true
extends_documentation_fragment: [slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode: {description: Does the same., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Reach the host, and look what it is
  slipway.fleet.reach:
    gather_subset: [distribution, hardware, "!all", "!min"]
"""

RETURN = r"""
ansible_facts: {description: The facts., returned: success, type: dict}
"""
