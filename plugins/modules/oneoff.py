#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Run one command in a staged release, outside its slots."""

from __future__ import annotations

DOCUMENTATION = r"""
module: oneoff
short_description: Run one command in a staged release, outside its slots
description:
  - The command gets the release's image, environment, secrets, network and limits, and nothing that serves is touched.
  - Used for the check of a release before it starts, for migrations, and for commands of operators.
options:
  app: {description: Name of the app., type: str, required: true}
  release: {description: Id of a staged release; without it the one that serves., type: str, default: ""}
  root: {description: Directory of the app on the host., type: path, required: true}
  command: {description: Command with its arguments., type: list, elements: str}
  job: {description: A job of the release that serves to run now in place of a command., type: str}
  purpose: {description: What the command is for; begins the error message., type: str, required: true}
  timeout: {description: Seconds the command may take., type: float, default: 300.0}
  once:
    description: Name of a mark that the release gets when the command succeeds; a release that has it is left alone.
    type: str
  alone:
    description: Whether two commands of one purpose never run beside each other here; a second one waits.
    type: bool
    default: true
  changed_when_output:
    description: A regular expression; the task is changed when the output matches. Without it the task never is.
    type: str
extends_documentation_fragment: [slipway.fleet.record]
author: [Slipway contributors]
attributes:
  check_mode: {description: Runs nothing., support: partial}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Tell the revision of the database
  slipway.fleet.oneoff:
    app: shortlinks
    release: 3f1c09d2a7be
    root: /opt/slipway/shortlinks
    command: [alembic, current]
    purpose: the revision
"""

RETURN = r"""
stdout: {description: What the command printed., returned: always, type: str}
stderr: {description: What the command printed to its standard error., returned: always, type: str}
rc: {description: Exit code., returned: always, type: int}
release: {description: The release in which it ran., returned: when it ran, type: str}
"""

import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.answer import answer
from ..module_utils.host.errors import SlipwayError
from ..module_utils.host.ledger import RECORD_ARGUMENT
from ..module_utils.release import operations

ARGUMENTS: dict[str, Any] = {
    "app": {"type": "str", "required": True},
    "release": {"type": "str", "default": ""},
    "root": {"type": "path", "required": True},
    "command": {"type": "list", "elements": "str"},
    "job": {"type": "str"},
    "purpose": {"type": "str", "required": True},
    "timeout": {"type": "float", "default": 300.0},
    "once": {"type": "str"},
    "alone": {"type": "bool", "default": True},
    "changed_when_output": {"type": "str"},
    "record": RECORD_ARGUMENT,
}


def silent(event: dict[str, Any]) -> None:
    """A module has one answer, at its end."""


def main() -> None:
    module = AnsibleModule(
        ARGUMENTS,
        mutually_exclusive=[("command", "job")],
        required_one_of=[("command", "job")],
        supports_check_mode=True,
    )
    options = dict(module.params)
    if module.check_mode:
        module.exit_json(changed=False, skipped=True, msg=f"{options['purpose']} is not run in check mode")
    pattern = options.pop("changed_when_output")
    place = {name: options.pop(name) for name in ("app", "root")}
    result: dict[str, Any] = {}
    try:
        result = operations.VERBS["run"]({**options, "place": place}, silent)
    except SlipwayError as error:
        module.fail_json(msg=str(error), **error.details)
    if result.pop("skipped", False):
        result["msg"] = f"{options['purpose']} was done before"
    answer(module, {"changed": bool(pattern and re.search(pattern, result["stdout"])), **result})


if __name__ == "__main__":
    main()
