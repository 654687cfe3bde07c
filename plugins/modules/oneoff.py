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
  command: {description: Command with its arguments., type: list, elements: str, required: true}
  purpose: {description: What the command is for; begins the error message., type: str, required: true}
  timeout: {description: Seconds the command may take., type: float, default: 300.0}
  once:
    description: Name of a mark that the release gets when the command succeeds; a release that has it is left alone.
    type: str
  changed_when_output:
    description: A regular expression; the task is changed when the output matches. Without it the task never is.
    type: str
author: [Slipway contributors]
attributes:
  check_mode: {description: Runs nothing., support: partial}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Bring the database to this release's schema
  slipway.fleet.oneoff:
    app: shortlinks
    release: 3f1c09d2a7be
    root: /opt/slipway/shortlinks
    command: [python, -m, app.migrate]
    purpose: migration
"""

RETURN = r"""
stdout: {description: What the command printed., returned: always, type: str}
stderr: {description: What the command printed to its standard error., returned: always, type: str}
rc: {description: Exit code., returned: always, type: int}
release: {description: The release in which it ran., returned: when it ran, type: str}
"""

import re
import subprocess
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.release.diagnosis import last_exception
from ..module_utils.release.runtime import RuntimeFailed
from ..module_utils.release.runtimes import Runtimes
from ..module_utils.release.store import Store

ARGUMENTS: dict[str, Any] = {
    "app": {"type": "str", "required": True},
    "release": {"type": "str", "default": ""},
    "root": {"type": "path", "required": True},
    "command": {"type": "list", "elements": "str", "required": True},
    "purpose": {"type": "str", "required": True},
    "timeout": {"type": "float", "default": 300.0},
    "once": {"type": "str"},
    "changed_when_output": {"type": "str"},
}


def cause(code: int, output: str) -> str:
    """Why a one-off command failed, in one line."""
    if code == 137:
        return "out of memory: the kernel killed it at its memory limit"
    return last_exception(output) or f"exit code {code}"


def serving(store: Store) -> str:
    """The release that serves; empty where there is none."""
    state = store.state()
    return state.release if state else ""


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    options = module.params
    if module.check_mode:
        module.exit_json(changed=False, skipped=True, msg=f"{options['purpose']} is not run in check mode")
    store = Store(Path(options["root"]))
    release = options["release"] or serving(store)
    if not release:
        module.fail_json(msg=f"{options['purpose']} needs a release, and none was deployed to this host yet")
    mark = store.releases / release / f".{options['once']}"
    if options["once"] and mark.exists():
        module.exit_json(changed=False, rc=0, stdout="", stderr="", msg=f"{options['purpose']} was done before")
    result = None
    try:
        result = Runtimes(options["app"], store.releases).run(release, options["command"], options["timeout"])
    except subprocess.TimeoutExpired:
        module.fail_json(msg=f"{options['purpose']} did not end within {options['timeout']:.0f} s and was stopped")
    except RuntimeFailed as error:
        module.fail_json(msg=f"{options['purpose']} of release {release} could not be run: {error}")
    assert result is not None
    output = f"{result.stderr.strip()}\n{result.stdout.strip()}".strip()
    if result.returncode:
        module.fail_json(
            msg=f"{options['purpose']} of release {release} failed: {cause(result.returncode, output)}; "
            f"the release that serves was not touched\n{output}",
            rc=result.returncode,
            release=release,
            stdout=result.stdout,
            stderr=result.stderr,
        )
    if options["once"]:
        mark.touch()
    pattern = options["changed_when_output"]
    module.exit_json(
        changed=bool(pattern and re.search(pattern, result.stdout)),
        rc=0,
        release=release,
        stdout=result.stdout,
        stderr=result.stderr,
    )


if __name__ == "__main__":
    main()
