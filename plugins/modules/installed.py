#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Tells what a host has already of packages and a service."""

from __future__ import annotations

DOCUMENTATION = r"""
module: installed
short_description: Tell which packages and which service a host has already
description:
  - Asks dpkg and systemd, which takes a fraction of the time of C(apt) and C(systemd_service), so that those are run
    where they have something to do.
  - It changes nothing.
options:
  packages: {description: "Names, or C(name=version) with wildcards.", type: list, elements: str, default: []}
  held: {description: Names that an upgrade of the system is to leave alone., type: list, elements: str, default: []}
  unit: {description: A unit of systemd., type: str, default: ''}
extends_documentation_fragment: [slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode: {description: Does the same., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Look what is there
  slipway.fleet.installed:
    packages: [haproxy]
    unit: haproxy.service
"""

RETURN = r"""
missing: {description: Packages that are not installed in that version., returned: success, type: list, elements: str}
not_held: {description: Those that are to be held and are not., returned: success, type: list, elements: str}
serves: {description: Whether the unit runs and starts with the host., returned: success, type: bool}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host import installed
from ..module_utils.host.command import CommandError

ARGUMENTS = {
    "packages": {"type": "list", "elements": "str", "default": []},
    "held": {"type": "list", "elements": "str", "default": []},
    "unit": {"type": "str", "default": ""},
}


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    given = module.params
    try:
        there = installed.packages()
        serves = bool(given["unit"]) and installed.serves(given["unit"])
    except CommandError as error:
        module.fail_json(msg=str(error))
        raise
    module.exit_json(
        changed=False,
        missing=installed.absent(given["packages"], there),
        not_held=[name for name in given["held"] if name not in there or not there[name].held],
        serves=serves,
    )


if __name__ == "__main__":
    main()
