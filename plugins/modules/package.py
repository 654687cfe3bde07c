#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Put one package of an app on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: package
short_description: Put the code of an app and its virtual environment on a host, without an image
description:
  - The controller fetches the wheels that the lock names, once for each Python, processor and C library that the hosts
    have, and sends each host what it lacks. The host makes the virtual environment offline, every hash checked.
  - A package is known by a key of what it is made from (the lock and the code). An unchanged one is neither fetched nor
    sent nor made again, from whichever controller.
  - Source distributions are refused. What a wheel was built from is nobody's business on a host that serves.
options:
  app: {description: Name of the app., type: str, required: true}
  root: {description: Directory of the app on the host., type: path, required: true}
  source: {description: Directory with the code on the controller; not needed with V(inspect)., type: path}
  files:
    description: Files and directories below O(source) that the app sees below C(/srv); empty for those of usual names.
    type: list
    elements: str
    default: []
  lock:
    description:
      - Lock below O(source), C(uv.lock), C(poetry.lock) or pip's requirements with a version and hashes for each; empty
        for the one that is found. Those of uv and Poetry are exported by the tool that wrote them, on the controller.
    type: str
    default: ""
  extras:
    description: Extras of the project that its lock is to bring, too, for C(uv.lock) and C(poetry.lock).
    type: list
    elements: str
    default: []
  project:
    description:
      - Whether the project itself is installed, from a wheel that the controller builds of O(files) and what
        C(pyproject.toml) names. V(found) is where that has a build system, and uv or Poetry are not told otherwise.
    type: str
    choices: [found, installed, left_out]
    default: found
  python:
    description: Python on the host, by its path or by the version of one that V(python) brought.
    type: str
    default: /usr/bin/python3
  wheels: {description: Directory on the controller with wheels of one's own that no index has., type: path}
  ca_file: {description: CA bundle on the controller for an index behind an inspecting proxy., type: path}
  bundle: {description: A bundle on the controller that has the wheels; then no index is asked., type: path}
  sbom: {description: Have a bill of materials of the package on the controller., type: bool, default: false}
  operation:
    description:
      - V(put) has the package on the host, V(identify) only tells its content and asks no host, V(inspect) only looks
        whether the host's Python suits, V(python) has one of uv's on the host where O(python) is a version.
    type: str
    choices: [put, identify, inspect, python]
    default: put
author: [Slipway contributors]
attributes:
  check_mode: {description: Fetches, sends and makes nothing and tells whether it would., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Have the code and what it needs on every host
  slipway.fleet.package:
    app: shortlinks
    root: /opt/slipway/shortlinks
    source: "{{ playbook_dir }}/.."
    files: [app, gunicorn_conf.py]
    lock: requirements/app.lock
"""

RETURN = r"""
reference: {description: Directory of the package on the host., returned: always, type: str}
content: {description: Key of the package's content., returned: always, type: str}
python: {description: Version of the host's Python., returned: always, type: str}
sent: {description: Bytes sent to this host., returned: always, type: int}
sbom: {description: Path of the bill of materials (CycloneDX) on the controller., returned: with O(sbom), type: str}
"""
