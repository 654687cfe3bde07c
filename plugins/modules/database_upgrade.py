#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Brings a database server's data to another major version of PostgreSQL, and back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: database_upgrade
short_description: Bring a database server's data to another major version of PostgreSQL, and back
description:
  - Fills a new server beside the one in place by dump and restore, while nobody is let into that, compares the two, and
    puts the new one in its place. What was in place is kept.
  - The work is done in a session of its own, which goes on where the connection is lost. One that was killed is
    finished or taken back by the next.
options:
  operation:
    description:
      - V(look) says what would be done and why it may not be.
      - V(upgrade) and V(back) do it.
    type: str
    choices: [look, upgrade, back]
    required: true
  back: {description: Whether O(operation=look) is for the way back., type: bool, default: false}
  provider: {description: What runs the server., type: str, choices: [compose, native], required: true}
  image: {description: The wanted image., type: str, default: ""}
  wanted: {description: The wanted major version; 0 where the image alone tells it., type: int, default: 0}
  files:
    description: The texts of the files of the new server as the role writes them, by their path below O(directory).
    type: dict
    default: {}
  user: {description: User id of postgres in the image., type: int, default: 999}
  initdb: {description: How a data directory is made., type: str, default: ""}
  deadline: {description: Seconds for a server to answer., type: int, default: 120}
  directory: {description: The server's directory., type: path, default: /opt/slipway/postgres}
  backups: {description: The directory of the host's backups., type: path, default: /var/lib/slipway/backup}
extends_documentation_fragment: [slipway.fleet.record, slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode: {description: Looks as ever and does nothing else., support: partial}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Say what an upgrade would do
  slipway.fleet.database_upgrade:
    operation: look
    provider: compose
    image: postgres:18.1
"""

RETURN = r"""
told: {description: The plan, or what was done., returned: success, type: dict}
closed: {description: Whether nobody is let into the database any more., returned: failure, type: bool}
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.answer import answer
from ..module_utils.host.errors import SlipwayError
from ..module_utils.host.ledger import RECORD_ARGUMENT, recorded
from ..module_utils.postgres.server import SUPERUSERS
from ..module_utils.release.detach import run_detached
from ..module_utils.upgrade.clusters import Clusters
from ..module_utils.upgrade.containers import SETTINGS, Containers
from ..module_utils.upgrade.model import Provider
from ..module_utils.upgrade.upgrading import Upgrade

ARGUMENTS: dict[str, Any] = {
    "operation": {"type": "str", "choices": ["look", "upgrade", "back"], "required": True},
    "back": {"type": "bool", "default": False},
    "provider": {"type": "str", "choices": list(SUPERUSERS), "required": True},
    "image": {"type": "str", "default": ""},
    "wanted": {"type": "int", "default": 0},
    "files": {"type": "dict", "default": {}},
    "user": {"type": "int", "default": 999},
    "initdb": {"type": "str", "default": ""},
    "deadline": {"type": "int", "default": 120},
    "directory": {"type": "path", "default": "/opt/slipway/postgres"},
    "backups": {"type": "path", "default": "/var/lib/slipway/backup"},
    "record": RECORD_ARGUMENT,
}


def provider_of(options: Mapping[str, Any]) -> Provider:
    """Whoever runs the server, as the task says."""
    root, initdb, deadline = Path(options["directory"]), options["initdb"], float(options["deadline"])
    if options["provider"] == "native":
        return Clusters(root, options["wanted"], options["files"].get(SETTINGS, ""), initdb, deadline)
    return Containers(root, options["image"], options["files"], options["user"], initdb, deadline)


def upgrade_of(options: Mapping[str, Any]) -> Upgrade:
    return Upgrade(Path(options["directory"]), provider_of(options), options["wanted"], Path(options["backups"]))


def act(options: Mapping[str, Any]) -> dict[str, Any]:
    """What the task says, done; its answer. Raises SlipwayError and OSError."""
    root, upgrade = Path(options["directory"]), upgrade_of(options)
    if options["operation"] == "look":
        return upgrade.plan(options["back"])
    what = "back" if options["operation"] == "back" else f"to {options['image'] or options['wanted']}"

    def work(_: object) -> dict[str, Any]:
        with recorded(options["record"], "upgrade_database", what) as note:
            done = upgrade.back() if options["operation"] == "back" else upgrade.upgrade()
            note.more["what"] = f"PostgreSQL {done['from']} to {done['to']}"
        return {**done, "warnings": note.warnings}

    return run_detached(work, root / "upgrade.log", lambda _: None)


def left_closed(options: Mapping[str, Any]) -> bool:
    """Whether visitors would meet errors: also where nobody can tell."""
    try:
        return upgrade_of(options).closed()
    except (SlipwayError, OSError):
        return True


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    looks = module.params["operation"] == "look"
    if module.check_mode and not looks:
        module.exit_json(changed=True, told={}, msg="not run in check mode")
    told: dict[str, Any] = {}
    try:
        told = act(module.params)
    except SlipwayError as error:
        module.fail_json(msg=str(error), closed=left_closed(module.params))
    except OSError as error:
        words = f"{error.filename} cannot be read or written ({error.strerror})."
        module.fail_json(msg=words, closed=left_closed(module.params))
    warnings = told.pop("warnings", [])
    changed = not looks and (told["done"] or bool(told["settled"]))
    answer(module, {"changed": changed, "told": told, "warnings": warnings})


if __name__ == "__main__":
    main()
