#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The part of slipway.fleet.package that runs on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: package_host
short_description: The part of M(slipway.fleet.package) that runs on a host
description:
  - Private. The action plugin of M(slipway.fleet.package) calls it, and its options may change with any version.
options:
  operation:
    description: What to do, as C(plugins/module_utils/package/operations.py) has it.
    type: str
    required: true
    choices: [inspect, find, install, machine, python]
  root: {description: Directory of the app on the host., type: path}
  python: {description: Python on the host, by path or version., type: str, default: /usr/bin/python3}
  archive: {description: What the controller sent; it is removed., type: path}
  content: {description: Key of the package's content., type: str}
author: [Slipway contributors]
attributes:
  check_mode: {description: Is only asked for what changes nothing., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Have a package on a host
  slipway.fleet.package:
    app: shortlinks
    root: /opt/slipway/shortlinks
    source: "{{ playbook_dir }}/.."
    files: [app]
    lock: requirements/app.lock
"""

RETURN = r"""
present: {description: Whether the package is there., returned: for V(find), type: bool}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.answer import answer
from ..module_utils.package.operations import ERRORS, OPERATIONS, OPTIONS, perform


def main() -> None:
    operation = {"type": "str", "required": True, "choices": list(OPERATIONS)}
    module = AnsibleModule({"operation": operation, **OPTIONS}, supports_check_mode=True)
    try:
        result = perform(module.params["operation"], module.params)
    except ERRORS as error:
        module.fail_json(msg=str(error))
    else:
        answer(module, result)


if __name__ == "__main__":
    main()
