#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: target
short_description: Compute what a host is to serve, without asking it
description:
  - Checks the variables of role fastapi_app and renders its templates, for M(slipway.fleet.rollout). Runs on the
    controller and makes no connection.
  - What is known only when the image or package is there, such as the release's id, stands as a mark in the result.
options:
  what: {description: Name of the variable with the target., type: str, required: true}
  specification: {description: Argument specification that the variables must keep to., type: path, required: true}
  wrong: {description: Name of the variable with a sentence for each unusable value., type: str, required: true}
  contents:
    description:
      - Where V(image) and V(package) come from, each with the name of the variable that has the C(request) and, where
        there is one, of the one that has what is C(wrong) with it. Without it they are on the host already.
    type: dict
    default: {}
extends_documentation_fragment: [slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode: {description: Does the same., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Compute what this host is to serve
  slipway.fleet.target:
    specification: "{{ role_path }}/meta/argument_specs.yml"
    what: __fastapi_app_target
    wrong: __fastapi_app_wrong_for_a_release
  no_log: true
  register: fastapi_app_target_result
"""

RETURN = r"""
target: {description: What the host is to serve., returned: when every value can be used, type: dict}
content: {description: Where the image or package comes from., returned: when every value can be used, type: dict}
wrong: {description: A sentence for each value that cannot be used., returned: always, type: list, elements: str}
"""
