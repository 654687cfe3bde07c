#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Host part of slipway.fleet.tree: puts what the action plugin rendered in place."""

from __future__ import annotations

DOCUMENTATION = r"""
module: tree
short_description: Put a list of rendered files in place in one step
version_added: 0.1.0
description:
  - Renders templates on the controller, sends them in one call and puts them in place atomically.
  - All validators run before any file is replaced. When one refuses, nothing is changed.
  - New files without a validator are there before the validators run, so that a validated file can refer to them.
options:
  files:
    description: The files, directories and links, in the order in which they are made.
    type: list
    elements: dict
    required: true
    suboptions:
      dest:
        description: Absolute path on the host.
        type: path
        required: true
      state:
        description:
          - C(file) has the content and the attributes given.
          - C(directory) is made with its missing parents.
          - C(link) is a symbolic link to O(files[].src), which need not exist.
          - C(absent) is removed, a directory with everything in it.
          - C(touch-once) is made when it is missing and left alone afterwards.
        type: str
        choices: [file, directory, link, absent, touch-once]
        default: file
      src:
        description:
          - A Jinja template, looked up where M(ansible.builtin.template) looks.
          - For state C(link), the path that the link leads to.
        type: str
      content:
        description: Text, instead of O(files[].src).
        type: str
      owner:
        description: Name or number. Without it an owner stays as it is, and new files belong to the user of the task.
        type: str
      group:
        description: Name or number, like O(files[].owner).
        type: str
      mode:
        description: Three or four octal digits in quotes. Required for files and directories.
        type: str
      validate:
        description: A command, run without a shell, in which C(%s) stands for the file to check. Not run in check mode.
        type: str
      secret:
        description: The content is shown nowhere, neither in a diff nor in what the validator says.
        type: bool
        default: false
      program:
        description: It is part of Slipway itself. A diff names it and does not show its text.
        type: bool
        default: false
      replaces:
        description: Path of a file on the host that a new one takes the place of; a diff shows what differs from that.
        type: str
      keeps:
        description:
          - A regular expression, with one group at most. What it finds in the file that is there, line by line, it must
            find in the new one, or the task fails before anything is changed.
        type: str
      otherwise:
        description: What is said then. C(%s) stands for what would be lost.
        type: str
  contents:
    description: Filled by the action plugin with what it rendered. Not for tasks.
    type: str
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author:
  - The Slipway authors
"""

EXAMPLES = r"""
- name: Configure the edge
  slipway.fleet.tree:
    files:
      - {dest: /etc/haproxy/errors, state: directory, owner: root, group: root, mode: "0755"}
      - src: haproxy.cfg.j2
        dest: /etc/haproxy/haproxy.cfg
        owner: root
        group: haproxy
        mode: "0640"
        validate: haproxy -c -f %s
      - {content: "{{ haproxy_tls_certificate }}", dest: /etc/haproxy/site.pem, mode: "0400", secret: true}
  notify: Reload haproxy
"""

RETURN = r"""
changed_paths:
  description: The paths that were changed, or would be in check mode, in the order of the list.
  returned: always
  type: list
  elements: str
  sample: [/etc/haproxy/haproxy.cfg]
"""

import base64
import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.slipway.fleet.plugins.module_utils.host import files as tree
from ansible_collections.slipway.fleet.plugins.module_utils.host.answer import answer

# The contents travel apart from the rest as one opaque value that is not logged: so no text of a file is in the host's
# journal, in the invocation that -vvv prints, or among the values that Ansible would blank out in the answer.
ARGUMENTS = {
    "files": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "dest": {"type": "path", "required": True},
            "state": {"type": "str", "choices": list(tree.STATES), "default": "file"},
            "src": {"type": "str"},
            "owner": {"type": "str"},
            "group": {"type": "str"},
            "mode": {"type": "str"},
            "validate": {"type": "str"},
            "secret": {"type": "bool", "default": False, "no_log": False},
            "program": {"type": "bool", "default": False},
            "replaces": {"type": "str"},
            "keeps": {"type": "str"},
            "otherwise": {"type": "str"},
        },
    },
    "contents": {"type": "str", "no_log": True},
}


def act(module: AnsibleModule) -> dict[str, Any]:
    """Bring the host to what the task says and return the task's result."""
    contents = json.loads(base64.b64decode(module.params["contents"] or "e30="))
    changes = tree.plan(tree.parse(module.params["files"], contents), module.check_mode)
    if not module.check_mode:
        tree.apply(changes)
    result: dict[str, Any] = {"changed": bool(changes), "changed_paths": [str(change.item.dest) for change in changes]}
    if module._diff:
        result["diff"] = [part for change in changes for part in change.diff]
    return result


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    try:
        answer(module, act(module))
    except tree.TreeError as error:
        module.fail_json(msg=str(error), changed_paths=[])


if __name__ == "__main__":
    main()
