#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Hold an app on a host for one run, freeze it, or let it go."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lock
short_description: Hold an app on a host for one run, freeze it, or let it go
description:
  - A lease belongs to one run of ansible-playbook. The controller renews it while the run lives and frees it soon
    after it ended, however it ended. When the controller itself is gone, it runs out 120 seconds later.
  - A freeze stays, over reboots too, until somebody lifts it.
  - A lease that was taken over from a dead holder or broken, and every freeze, is written into the ledger.
options:
  app: {description: Name of the app., type: str, required: true}
  root: {description: Directory of the app on the host., type: path, required: true}
  state:
    description:
      - V(held) takes the lease for this run, and fails when another run or a freeze holds the app.
      - V(given_back) ends the lease of this run, at its end; where it holds none there is nothing to do.
      - V(frozen) lets nobody deploy until it is freed. V(free) breaks the lease and lifts the freeze.
      - V(shown) only tells.
    type: str
    choices: [held, given_back, frozen, free, shown]
    default: held
  what: {description: What this run is about for the message that others get., type: str, default: a run}
  reason: {description: Why the app is frozen., type: str}
  run: {description: Set by the action plugin., type: str}
  who: {description: Set by the action plugin., type: str}
  from: {description: Set by the action plugin., type: str}
extends_documentation_fragment: [slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode: {description: Tells whether the app is held and takes nothing., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Hold the app while it is deployed
  slipway.fleet.lock:
    app: shortlinks
    root: /opt/slipway/shortlinks
    what: a deploy

- name: Let nobody deploy over the weekend
  slipway.fleet.lock:
    app: shortlinks
    root: /opt/slipway/shortlinks
    state: frozen
    reason: the sale runs until Monday
"""

RETURN = r"""
holder: {description: The run that holds the app; empty when none does., returned: always, type: dict}
freeze: {description: The freeze with its reason; empty when there is none., returned: always, type: dict}
lease_file: {description: The file that the controller renews., returned: when held, type: str}
taken_over: {description: The dead holder whose lease this run took., returned: when held, type: dict}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.answer import answer
from ..module_utils.host.errors import SlipwayError
from ..module_utils.release import locking
from ..module_utils.release.lease import Lease

ARGUMENTS: dict[str, Any] = {
    "app": {"type": "str", "required": True},
    "root": {"type": "path", "required": True},
    "state": {"type": "str", "choices": ["held", "given_back", "frozen", "free", "shown"], "default": "held"},
    "what": {"type": "str", "default": "a run"},
    "reason": {"type": "str"},
    "run": {"type": "str"},
    "who": {"type": "str"},
    "from": {"type": "str"},
}


VERBS = {"held": locking.hold, "frozen": locking.freeze, "free": locking.free}


def silent(event: dict[str, Any]) -> None:
    """A module has one answer, at its end."""


def undone(state: str, what: str) -> str:
    """What did not happen; whether this is the first thing of a run that changes something is not known here."""
    if state == "held":
        return f"{what} did not begin; "
    return "the lock was not changed; " if state in VERBS else ""


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True, required_if=[("state", "frozen", ["reason"])])
    options = module.params
    run = {"id": options["run"], **{name: options[name] for name in ("who", "from", "what")}}
    arguments = {"place": {"app": options["app"], "root": options["root"]}, "run": run, "reason": options["reason"]}
    result: dict[str, Any] = {"changed": False}
    try:
        if options["state"] in VERBS and not module.check_mode:
            result = VERBS[options["state"]](arguments, silent)
        elif options["state"] == "given_back" and not module.check_mode:
            Lease(options["app"], Path(options["root"])).give_back(str(options["run"]))
        elif options["state"] == "held":
            lease = Lease(options["app"], Path(options["root"]))
            if problem := lease.problem(str(options["run"])):
                module.warn(f"a run would stop here: {problem}")
        result.update(locking.shown(arguments, silent))
    except SlipwayError as error:
        module.fail_json(msg=f"{undone(options['state'], options['what'])}{error}", **error.details)
    answer(module, result)


if __name__ == "__main__":
    main()
