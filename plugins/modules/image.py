#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Put one image on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image
short_description: Put one image on a host, and nothing else
description:
  - Whatever the source, the wanted image is on the host afterwards. A host that has it is not touched.
  - An image that is built is known by a key of what it is built from (context, Dockerfile, build arguments), kept as
    the label C(slipway.content). An unchanged context builds nothing and sends nothing, from whichever controller.
options:
  name:
    description: Name with tag. For V(pull) and V(ship) the image to take, for the builds the repository to tag in.
    type: str
    required: true
  source:
    description:
      - V(pull) takes it from its registry on the host.
      - V(ship) sends the image that the controller's Docker has.
      - V(build) builds on the controller, once for all hosts, and sends the result.
      - V(build_on_host) sends the context and builds on each host.
    type: str
    choices: [pull, ship, build, build_on_host]
    default: pull
  context: {description: Build context on the controller., type: path}
  dockerfile: {description: Dockerfile below the context., type: str, default: Dockerfile}
  build_args: {description: Build arguments., type: dict, default: {}}
  ca_file: {description: CA bundle on the controller that the build needs behind an inspecting proxy., type: path}
  pull_again: {description: Ask the registry again for a name that the host already has., type: bool, default: false}
  operation:
    description:
      - V(identify) only tells name and content of the wanted image, and asks no host.
      - The others are set by the action plugin for the part that runs on the host.
    type: str
    choices: [identify, find, pull, load, build]
    default: find
  archive: {description: Set by the action plugin., type: path}
  expected: {description: Set by the action plugin., type: str}
  content: {description: Set by the action plugin., type: str}
author: [Slipway contributors]
attributes:
  check_mode: {description: Builds nothing and moves nothing and tells whether it would., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Build the app's image once and put it on every host
  slipway.fleet.image:
    name: slipway/shortlinks
    source: build
    context: "{{ playbook_dir }}/.."
"""

RETURN = r"""
id: {description: Image id., returned: when known, type: str}
reference: {description: Name of this content on the host., returned: always, type: str}
content: {description: Key of the image's content., returned: always, type: str}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.image import ImageError, look
from ..module_utils.image_load import build, load
from ..module_utils.image_pull import pull

ARGUMENTS: dict[str, Any] = {
    "name": {"type": "str", "required": True},
    "source": {"type": "str", "choices": ["pull", "ship", "build", "build_on_host"], "default": "pull"},
    "context": {"type": "path"},
    "dockerfile": {"type": "str", "default": "Dockerfile"},
    "build_args": {"type": "dict", "default": {}},
    "ca_file": {"type": "path"},
    "pull_again": {"type": "bool", "default": False},
    "operation": {"type": "str", "choices": ["identify", "find", "pull", "load", "build"], "default": "find"},
    "archive": {"type": "path"},
    "expected": {"type": "str"},
    "content": {"type": "str"},
}


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    options = module.params
    try:
        if options["operation"] == "find":
            module.exit_json(**look(options["name"], module.check_mode))
        if options["operation"] == "pull":
            module.exit_json(**pull(options, module.check_mode))
        archive = Path(options["archive"])
        try:
            module.exit_json(**(build if options["operation"] == "build" else load)(options))
        finally:
            archive.unlink(missing_ok=True)
    except ImageError as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
