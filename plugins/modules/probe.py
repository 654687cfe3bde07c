#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: probe
short_description: Send steady requests to the edges while something is done to the fleet, and count what fails
description:
  - V(started) starts one process on the controller that asks the edges in turn, half of the time on kept connections
    and half on new ones, and writes down each request. V(stopped) ends it and gives the figures.
  - The process ends by itself with ansible-playbook, however that ends, and at its limit.
  - Failed is what a user would have noticed, which is every answer that is not the app's with 2xx, is cut short or does
    not come in time. A kept connection that the server closed while it was idle is no failure.
  - An edge of role C(haproxy) says whether the app gave an answer (C(X-Slipway-Answer)). Of others a 2xx is taken for
    the app's.
  - Requests before the first good answer of an edge are counted apart, since nothing was deployed yet, unless it gave
    none at all.
options:
  state: {description: Whether to start or to stop it., type: str, choices: [started, stopped], required: true}
  run:
    description: The one that was started is stopped by the same name; without it the run of ansible-playbook.
    type: str
  urls:
    description: Edges to ask in turn, each as C(http://HOST:PORT) or C(https://HOST:PORT).
    type: list
    elements: str
    default: []
  path:
    description: Path to ask for. A JSON answer with C(release) and C(slot) tells who answered.
    type: str
    default: /version
  host_header:
    description: Host to ask for, which is the name in the certificate too; without it that of the URL.
    type: str
    default: ""
  ca_file: {description: Certificates to trust instead of the controller's own., type: path, default: ""}
  verify: {description: Whether certificates must be right., type: bool, default: true}
  rate: {description: Requests a second over all URLs; 0 sends nothing., type: float, default: 10.0}
  timeout: {description: Seconds until a request without a whole answer has failed., type: float, default: 5.0}
  limit: {description: Seconds after which it ends by itself., type: float, default: 3600.0}
  directory: {description: Where the samples go; without it C(reports/INVENTORY)., type: path}
author: [Slipway contributors]
attributes:
  check_mode: {description: Sends nothing., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Ask both balancers from now on
  slipway.fleet.probe:
    state: started
    urls: [https://lb1.example.com, https://lb2.example.com]
    host_header: links.example.com

- name: Have the figures
  slipway.fleet.probe:
    state: stopped
  register: fleet_probe_result
"""

RETURN = r"""
samples: {description: File with a line of JSON for each request., returned: when there is one, type: str}
pid: {description: The process., returned: when started, type: int}
summary:
  description:
    - C(requests), C(failed), C(availability) from 0 to 1, C(before_first_answer), C(answered_by) (how often
      C(app), C(edge), C(nobody)), C(p50_ms), C(p95_ms), C(p99_ms),
      C(max_ms), the first 20 C(failures) with C(time) and C(error), and why it C(ended).
    - Empty when nothing was measured.
  returned: when stopped
  type: dict
"""
