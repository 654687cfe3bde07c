#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The part of slipway.fleet.image that runs on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image_host
short_description: The part of M(slipway.fleet.image) that runs on a host
description:
  - Private. The action plugin of M(slipway.fleet.image) calls it, and its options may change with any version.
options:
  operation:
    description: What to do, as C(plugins/module_utils/image/operations.py) has it.
    type: str
    required: true
    choices: [find, look, ask, pull, keep, load, build, export, forget_export, inventory]
  name: {description: The image., type: str}
  expected: {description: Its id, where that is known., type: str, default: ""}
  registry_user: {description: User of the registry., type: str, default: ""}
  registry_password: {description: Its password., type: str, default: ""}
  registry_authorities: {description: PEM text of authorities to trust for this registry., type: str, default: ""}
  archive: {description: A file that came with the call; it is removed., type: path}
  target: {description: Where a file that came is to be kept., type: path}
  saved: {description: Configuration and layers of an image that is loaded., type: dict}
  incoming: {description: Directory of the pieces that arrived., type: path}
  chunks: {description: Those that make up the layers., type: list, elements: str}
  packed: {description: Bytes of each layer that comes., type: dict}
  content: {description: Key of what is built., type: str}
  dockerfile: {description: Dockerfile below the context., type: str}
  build_args: {description: Build arguments., type: dict, default: {}}
  build_target: {description: Stage of the Dockerfile that is built; empty for the last one., type: str, default: ''}
  build_secrets: {description: Secrets of the build., type: dict, default: {}}
  build_ssh: {description: Whether the build gets the SSH agent that is forwarded., type: bool, default: false}
  build_ssh_key: {description: A private key that it gets instead., type: str, default: ''}
  build_cache_mib: {description: MiB that BuildKit's cache may take., type: int}
  layers: {description: Layers to export., type: list, elements: str}
author: [Slipway contributors]
attributes:
  check_mode: {description: Changes nothing and tells whether it would., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Have an image on a host
  slipway.fleet.image:
    name: registry.example.com/shortlinks:2026-11-25
"""

RETURN = r"""
image: {description: The image as the host has it., returned: when an operation looks for it, type: dict}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.answer import answer
from ..module_utils.image.operations import ERRORS, OPERATIONS, OPTIONS, perform


def main() -> None:
    operation = {"type": "str", "required": True, "choices": list(OPERATIONS)}
    module = AnsibleModule({"operation": operation, **OPTIONS}, supports_check_mode=True)
    try:
        result = perform(module.params["operation"], module.params, module.check_mode)
    except ERRORS as error:
        module.fail_json(msg=str(error))
    else:
        answer(module, result)


if __name__ == "__main__":
    main()
