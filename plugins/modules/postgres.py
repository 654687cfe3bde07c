#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Lets an app into a shared database server, makes what it has there, and takes logins of before away."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgres
short_description: Let an app into a shared database server, make its databases, and retire its logins
version_added: 0.1.0
description:
  - An app has a part of C(pg_hba.conf), roles, and databases to which no other role connects. Those of other apps stay
    as they are, and what is another app's is refused by its name before anything is changed.
  - A database or a role that is not named any more stays, with what is in it.
options:
  operation:
    description:
      - V(admit) writes the app's part of C(pg_hba.conf) and has a running server read it.
      - V(make) makes roles, databases and extensions in the running server.
      - V(retire) takes logins of the app away by which it does not come any more, and nobody else does.
    type: str
    choices: [admit, make, retire]
    required: true
  app:
    description: The app.
    type: str
    required: true
  provider:
    description: What runs the server.
    type: str
    choices: [compose, native]
    required: true
  databases:
    description: >-
      C(name), C(user), C(extensions) of each database, and C(login) where the app comes as a member of the user.
    type: list
    elements: dict
    required: true
  passwords:
    description: Password by user, of its login where it has one. No server is sent them; it gets what it keeps of them.
    type: dict
    default: {}
  careful:
    description: Whether O(operation=make) refuses to change a password by which something may log in now.
    type: bool
    default: false
  wait:
    description: Seconds for sessions of a former login to end by themselves; while there are any, none is taken away.
    type: int
    default: 60
  network:
    description: Whether apps come over a network.
    type: bool
    default: true
  settings:
    description: The variables that are the whole server's, by name.
    type: dict
    default: {}
  shared_settings:
    description: What happens where another app was there first, with other settings.
    type: str
    choices: [refuse, keep, replace]
    default: refuse
  directory:
    description: The server's directory on the host.
    type: path
    default: /opt/slipway/postgres
extends_documentation_fragment: [slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode: {description: Tells what would change, and refuses what would be refused., support: full}
  diff_mode: {description: Shows the file before and after., support: full}
"""

EXAMPLES = r"""
- name: Let the app in
  slipway.fleet.postgres:
    operation: admit
    app: shortlinks
    provider: compose
    databases: [{name: shortlinks, user: shortlinks, extensions: [postgis]}]
"""

RETURN = r"""
takes:
  description: Whether the server has its settings from this app's inventory.
  returned: when O(operation=admit)
  type: bool
said:
  description: What was made or taken away, or would be in check mode.
  returned: when O(operation=make) or O(operation=retire)
  type: list
  elements: str
  sample: [made database shortlinks]
former:
  description: By which names the app can log in besides that of now.
  returned: when O(operation=make)
  type: list
  elements: str
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.answer import answer
from ..module_utils.host.errors import SlipwayError
from ..module_utils.host.shared import SHARED_SETTINGS
from ..module_utils.postgres.admitting import access_file, admit, have_read
from ..module_utils.postgres.databases import Database, Making
from ..module_utils.postgres.retiring import retire
from ..module_utils.postgres.server import SUPERUSERS, Server

ARGUMENTS: dict[str, Any] = {
    "operation": {"type": "str", "choices": ["admit", "make", "retire"], "required": True},
    "app": {"type": "str", "required": True},
    "provider": {"type": "str", "choices": list(SUPERUSERS), "required": True},
    "databases": {"type": "list", "elements": "dict", "required": True},
    "passwords": {"type": "dict", "default": {}, "no_log": True},
    "careful": {"type": "bool", "default": False},
    "wait": {"type": "int", "default": 60},
    "network": {"type": "bool", "default": True},
    "settings": {"type": "dict", "default": {}},
    "shared_settings": {"type": "str", "choices": list(SHARED_SETTINGS), "default": "refuse"},
    "directory": {"type": "path", "default": "/opt/slipway/postgres"},
}


def act(options: Mapping[str, Any], check_mode: bool, server: Server) -> dict[str, Any]:
    """Bring the server to what the task says and return its result. Raises SlipwayError and OSError."""
    wanted = [
        Database(one["name"], one["user"], tuple(one.get("extensions") or ()), one.get("login") or "")
        for one in options["databases"]
    ]
    if options["operation"] == "admit":
        return admit(Path(options["directory"]), options, wanted, server, check_mode)
    if options["operation"] == "retire":
        said = retire(server, wanted, options["wait"], check_mode)
        return {"changed": bool(said), "said": said}
    making = Making(server, options["passwords"], check_mode)
    if not check_mode:
        have_read(server, access_file(Path(options["directory"])))
    if not check_mode or server.answers():
        making.all(wanted, passwordless=options["provider"] == "compose", careful=options["careful"])
    else:
        making.said = [f"make database {database.name}" for database in wanted]
    return {"changed": bool(making.said), "said": making.said, "former": making.former}


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    result: dict[str, Any] = {}
    try:
        result = act(module.params, module.check_mode, Server(SUPERUSERS[module.params["provider"]]))
    except SlipwayError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be read or written ({error.strerror}).")
    if not module._diff:
        result.pop("diff", None)
    answer(module, result)


if __name__ == "__main__":
    main()
