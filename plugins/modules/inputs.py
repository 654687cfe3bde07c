#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: inputs
short_description: Refuse variables of a role that cannot be used
description:
  - Fails where a variable is not of the type that the role's argument specification names, where one is missing or made
    of what is undefined, and where the role finds one that it cannot use.
  - Runs on the controller and asks no host.
options:
  specification: {description: File with the role's argument specification., type: path, required: true}
  entry_point: {description: For which entry point of the role its variables are meant., type: str, default: main}
  wrong_from:
    description:
      - Name of the variable with what else is wrong, a list of sentences. It is read once the types are known to be
        right. Without it types alone are looked at.
    type: str
extends_documentation_fragment: [slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode: {description: Does the same., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Refuse values that cannot be used
  slipway.fleet.inputs:
    specification: "{{ role_path }}/meta/argument_specs.yml"
    wrong_from: __redis_wrong_values
"""

RETURN = ""
