#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Tell which caches a host has, and how they are."""

from __future__ import annotations

DOCUMENTATION = r"""
module: caches
short_description: Tell which caches a host has, whose each is, and what it takes of its memory
description:
  - Looks at every cache of role P(slipway.fleet.redis#role) on the host, of this inventory and of others. The memory is
    that of the server's process, since nobody may ask a cache of another app.
  - It changes nothing.
options:
  own: {description: Name of the inventory's own cache on the host; empty where it has none., type: str, default: ''}
extends_documentation_fragment: [slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode: {description: Does the same., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Look at the caches of the host
  slipway.fleet.caches:
    own: redis-shop
"""

RETURN = r"""
own: {description: Name of the inventory's own cache., returned: success, type: str}
caches:
  description: Each with its name, app, mode, provider, limit_mib and used_mib, which is null where it does not run.
  returned: success
  type: list
  elements: dict
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.release.caches import caches

ARGUMENTS: dict[str, Any] = {"own": {"type": "str", "default": ""}}


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    try:
        found = [asdict(one) for one in caches(Path("/opt/slipway"))]
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be read ({error.strerror})")
        raise
    module.exit_json(changed=False, own=module.params["own"], caches=found)


if __name__ == "__main__":
    main()
