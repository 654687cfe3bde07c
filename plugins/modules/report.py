#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Write what a run over the fleet did and what its users noticed, as a page and as JSON
description:
  - The page is one file that needs no network. It has the availability as a number, latency before and during and
    after the roll, a picture of hosts and phases over time, the table of hosts, and the log of a host that failed.
  - Runs on the controller. Whatever is missing in the run is left out of the report.
options:
  run:
    description:
      - C(app), C(inventory), C(operation), C(release), C(who), C(from), C(started), C(ended), C(verdict), C(message).
      - C(plays) with C(name), C(start), C(end).
      - C(hosts) with C(host), C(batch), C(was), C(tried), C(now), C(outcome), C(cause), C(diagnosis), and C(steps) with
        C(phase), C(start), C(seconds), C(revert).
      - Times are seconds since the epoch.
    type: dict
    required: true
  samples: {description: The file that M(slipway.fleet.probe) returned., type: path}
  directory: {description: Where the report goes; without it C(reports/INVENTORY)., type: path}
author: [Slipway contributors]
attributes:
  check_mode: {description: Writes nothing., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Write the report
  slipway.fleet.report:
    run: "{{ fleet_run }}"
    samples: "{{ fleet_probe_result.samples }}"
"""

RETURN = r"""
page: {description: The page., returned: always, type: str}
json: {description: The same figures for programs., returned: always, type: str}
figures: {description: C(requests) and C(failed) and C(availability)., returned: always, type: dict}
"""
