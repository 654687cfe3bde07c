#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Refuses what would be lost of a Docker Engine that was on a host before Slipway."""

from __future__ import annotations

DOCUMENTATION = r"""
module: engine_host
short_description: Refuse to take the place of a Docker Engine that somebody else set up
description:
  - Fails where another engine than the wanted one is installed, where C(daemon.json) has settings that the inventory
    does not name, and where the host is part of a swarm that the wanted settings would break.
  - It changes nothing.
options:
  source: {description: C(docker_engine_source)., type: str, required: true, choices: [distribution, docker]}
  daemon: {description: C(daemon.json) as the role would write it., type: dict, default: {}}
  named: {description: The settings of C(daemon.json) that the inventory names., type: list, elements: str, default: []}
extends_documentation_fragment: [slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode: {description: Does the same., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Refuse to take the place of another engine
  slipway.fleet.engine_host:
    source: distribution
    daemon: {live-restore: true}
"""

RETURN = r"""
installed: {description: Whether an engine is here already., returned: success, type: bool}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.command import CommandError
from ..module_utils.host.engine import ENGINES, look, problems

ARGUMENTS = {
    "source": {"type": "str", "required": True, "choices": list(ENGINES)},
    "daemon": {"type": "dict", "default": {}},
    "named": {"type": "list", "elements": "str", "default": []},
}


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    given = module.params
    try:
        there = look()
    except CommandError as error:
        module.fail_json(msg=str(error))
        raise
    if found := problems(there, given["source"], given["daemon"], given["named"]):
        module.fail_json(msg=f"Docker was left as it is. {'; '.join(found)}.")
    module.exit_json(changed=False, installed=bool(there.packages))


if __name__ == "__main__":
    main()
