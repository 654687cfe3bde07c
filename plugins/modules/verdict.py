#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: verdict
short_description: Tell what became of a run over the fleet
description:
  - Puts together what role fastapi_app registered on every host of the play, shows it as a table with the diagnosis of
    each host that failed, and writes the report. Runs on the controller, once.
  - In check mode it shows the plan instead and writes nothing.
options:
  app: {description: Name of the app., type: str, required: true}
  operation: {description: What the run was., type: str, choices: [deploy, rollback, restart], default: deploy}
  batches: {description: Sizes of the batches as in C(serial)., type: list, elements: raw, default: [1, "25%", "100%"]}
  migrations: {description: Directory of Alembic revisions on the controller, for the plan., type: path}
  probe: {description: Result of M(slipway.fleet.probe) when it was stopped., type: dict, default: {}}
  probe_must_pass: {description: Whether a failed request of the probe fails the run., type: bool, default: false}
  directory: {description: Where reports go; without it C(reports/INVENTORY)., type: path}
author: [Slipway contributors]
attributes:
  check_mode: {description: Shows the plan., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Show the table and write the report
  slipway.fleet.verdict:
    app: shortlinks
  run_once: true
  register: slipway_verdict_result
"""

RETURN = r"""
verdict: {description: One of good or nothing or reverted or held or failed., returned: always, type: str}
message: {description: The verdict in a sentence., returned: always, type: str}
wrong:
  description: For each host that does not serve what the run was about a sentence that says what it serves and why.
  returned: always
  type: dict
report: {description: Path of the report, empty when none was written., returned: always, type: str}
"""
