#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tell
short_description: Show what the hosts of a play told, put together for the fleet
description:
  - Reads what the tasks before it registered on every host of the play, and shows it. Runs on the controller, once.
  - V(status), V(history), V(audit), V(backups), V(balancers), V(caches), V(certificates) and V(peers) are tables, and
    JSON for programs. V(lock) and V(problems) are tables. V(backup_problems), V(balancer_problems), V(cache_problems),
    V(certificate_problems) and V(peer_problems) fail where a backup, a floating address, the app's cache, a certificate
    of a load balancer, or how it asks a host, is not as it should be; V(balancer_addresses) tells what is wrong with a
    balancer, and fails where two or none have an address. V(logs) are the lines of all hosts in the order of time.
    V(output) is what a command printed. V(drills) is a page with what is proven of the backups, which fails where a
    drill did. V(outside) says whether what must be kept outside is, V(between) what keeps users from hosts at load
    balancers.
  - A host that could not be asked is shown like the others, and the run does not end with 0.
options:
  what:
    description: What is shown.
    type: str
    choices:
      - status
      - history
      - audit
      - backups
      - backup_problems
      - balancers
      - balancer_problems
      - balancer_addresses
      - between
      - caches
      - cache_problems
      - certificates
      - certificate_problems
      - drills
      - outside
      - peers
      - peer_problems
      - lock
      - logs
      - problems
      - output
    required: true
  results: {description: Name of the variable that the hosts registered., type: str, required: true}
  drills: {description: For V(drills) the name of the variable that their drills registered., type: str}
  file:
    description: Where the JSON goes, of V(drills) the directory; without it to C(reports/INVENTORY/WHAT.json).
    type: path
extends_documentation_fragment: [slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode: {description: Shows the same and writes no file., support: full}
  diff_mode: {description: Has no diff., support: none}
notes:
  - A run of Ansible cannot choose its exit code. The callback P(slipway.fleet.exit_code#callback) ends it with the
    C(exit_code) of this result; without that callback the failed task ends it with 2.
"""

EXAMPLES = r"""
- name: Show what serves where
  slipway.fleet.tell:
    what: status
    results: fastapi_app_status_result
  run_once: true
"""

RETURN = r"""
rows: {description: The same for programs., returned: when the exit code is 0, type: list, elements: dict}
exit_code: {description: 3 for drift or what can be fixed and 4 for what was not seen., returned: when not 0, type: int}
file: {description: Path of the JSON or the page., returned: when it was written, type: str}
"""
