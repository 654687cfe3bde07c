#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: inspect
short_description: Find out with which lines of an inventory an image is deployed
description:
  - Starts an image, or what the Dockerfile of a directory builds, on the controller with the limits of a release and
    without a network, and looks at it from inside with its own Python. What it lacks is changed one by one, until it
    answers, or there is nothing left to change.
  - The lines are those of the last start, so a release with them is started in the same way. Variables that it misses
    are given a placeholder, an address of nobody where their name ends in URL, URI or DSN, and are for the user to
    write.
  - The container is removed, and so is an image that was not there before. Docker's build cache stays.
options:
  what: {description: Directory with a Dockerfile, or name of an image., type: str, required: true}
  name: {description: Name of the app; without it that of directory or image., type: str, default: ""}
  host: {description: Name under which it is asked., type: str, default: localhost}
  health_path: {description: A path that is asked before all others., type: str, default: ""}
  deadline: {description: Seconds that it may take to answer after each start., type: float, default: 60.0}
  file: {description: Where the lines are written, too., type: path}
  image_from:
    description:
      - Name of a variable that says how images are built, by options of M(slipway.fleet.image). Those that say which
        image it is (C(name), C(context), C(bundle)) are not read.
    type: str
    required: true
  environment: {description: Variables that every release is told., type: dict, required: true}
  on_socket: {description: Variables that say where its socket is., type: dict, required: true}
  on_port: {description: Variables that say its port; C(@PORT@) stands for it., type: dict, required: true}
  given: {description: Variables of the inventory for this app., type: dict, default: {}}
  socket: {description: Socket of a slot., type: path, required: true}
  user: {description: Who the app is in its container; without it the image's own user., type: str, default: ""}
  uid: {description: The number where neither names another user than root., type: int, required: true}
  memory_mib: {description: Memory limit in MiB., type: int, required: true}
  tmp_mib: {description: Size of C(/tmp) in MiB., type: int, required: true}
  cpus: {description: Processors that it may use., type: float, required: true}
  pids: {description: Processes and threads that it may have., type: int, required: true}
  open_files: {description: Files that a process may have open., type: int, required: true}
author: [Slipway contributors]
attributes:
  check_mode: {description: Starts nothing., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
# As playbooks/inspect.yml has it, with the variables of the roles.
- name: Find out how an image is deployed
  slipway.fleet.inspect:
    what: registry.example.org/shop:1.4
    image_from: __fastapi_image_request
    environment: {WEB_CONCURRENCY: "2"}
    on_socket: {UVICORN_UDS: /run/slipway/inspect/blue/app.sock}
    on_port: {HOST: 0.0.0.0, PORT: "@PORT@"}
    socket: /run/slipway/inspect/blue/app.sock
    uid: 10001
    memory_mib: 512
    tmp_mib: 64
    cpus: 2
    pids: 256
    open_files: 65536
"""

RETURN = r"""
lines: {description: The lines of the inventory, each with its reason., returned: always, type: str}
problem: {description: Why a release with them would not serve; empty where it would., returned: always, type: str}
"""
