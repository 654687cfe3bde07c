#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Host part of slipway.fleet.bundle: the packages that a host lacks, where apt finds them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: bundle
short_description: Make a bundle, check it, and have its packages where apt finds them
description:
  - A bundle is one file with everything that provisioning and deploying take from elsewhere, for hosts that reach
    neither a registry nor a mirror.
  - V(need) tells what the roles of a host take from a bundle. V(make) writes one with what all hosts need. V(check)
    reads all of it before anything is changed. These ask no host.
  - V(packages) sends the packages that are not installed, and makes them known to an apt that is told so by the
    environment variable C(APT_CONFIG). The host's own sources and lists are not touched. V(discard) removes what was
    only needed to install.
options:
  operation:
    description: What to do. V(look) and V(index) are set by the action plugin.
    type: str
    required: true
    choices: [need, make, check, packages, discard, look, index]
  bundle: {description: The bundle on the controller. Required for the three that use one., type: path}
  images:
    description: For V(need), images with the options of M(slipway.fleet.image).
    type: list
    elements: dict
    default: []
  needed:
    description: For V(need), packages by the name of their group. For V(packages) it is known from earlier results.
    type: dict
    default: {}
  package:
    description: For V(need), the package of an app with the options of M(slipway.fleet.package).
    type: dict
    default: {}
  releases:
    description: For V(make), the image in whose container packages are fetched, by the name of the Debian release.
    type: dict
    default: {}
  signing_key:
    description: For V(make), the SSH key that signs it; without one it is not signed.
    type: path
  signers:
    description: For V(check), the file of those who may make bundles (ssh-keygen(1), ALLOWED SIGNERS). With it one that
      is not signed by them is refused, and one for another inventory, and one older than the newest that was used here.
    type: path
  oldest:
    description: For V(check), the time before which no bundle may have been made, instead of that of the newest used.
    type: str
  collections: {description: For V(make)., type: list, elements: str, default: []}
  archive: {description: Set by the action plugin., type: path}
  indexes: {description: Set by the action plugin., type: dict, default: {}}
  packages: {description: Set by the action plugin., type: list, elements: str, default: []}
extends_documentation_fragment: [slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode: {description: Writes and sends nothing and tells whether it would., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Check the bundle before anything is changed
  slipway.fleet.bundle:
    operation: check
    bundle: /srv/bundles/shortlinks.tar

- name: Have what the roles install
  slipway.fleet.bundle:
    operation: packages
    bundle: /srv/bundles/shortlinks.tar
"""

RETURN = r"""
need: {description: What a host takes from a bundle., returned: need, type: dict}
file: {description: The bundle., returned: make and check, type: str}
parts: {description: Parts in it., returned: make and check, type: int}
sha256: {description: SHA-256 of the file., returned: make, type: str}
sent: {description: Names of the packages that were sent., returned: packages, type: list, elements: str}
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.host.answer import answer
from ..module_utils.host.command import CommandError
from ..module_utils.host.packages import PLACE, HostPackages, PackagesError

ARGUMENTS: dict[str, Any] = {
    "operation": {
        "type": "str",
        "required": True,
        "choices": ["need", "make", "check", "packages", "discard", "look", "index"],
    },
    "bundle": {"type": "path"},
    "images": {"type": "list", "elements": "dict", "default": []},
    "needed": {"type": "dict", "default": {}},
    "package": {"type": "dict", "default": {}},
    "releases": {"type": "dict", "default": {}},
    "collections": {"type": "list", "elements": "str", "default": []},
    "signing_key": {"type": "path", "no_log": False},
    "signers": {"type": "path"},
    "oldest": {"type": "str"},
    "archive": {"type": "path"},
    "indexes": {"type": "dict", "default": {}},
    "packages": {"type": "list", "elements": "str", "default": []},
}


def perform(options: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    """The result of an operation of the host's part. Raises PackagesError."""
    packages = HostPackages(Path(PLACE))
    wanted = options["packages"]
    if options["operation"] == "look":
        return {"changed": False, **packages.look(options["indexes"], wanted)}
    if options["operation"] == "discard":
        return {"changed": False, "removed": 0 if check_mode else packages.discard()}
    archive = Path(options["archive"])
    try:
        if options["operation"] == "index":
            packages.take_index(archive)
        else:
            packages.take(archive)
    finally:
        archive.unlink(missing_ok=True)
    return {"changed": True, "missing": packages.missing(wanted)}


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    try:
        answer(module, perform(module.params, module.check_mode))
    except (PackagesError, CommandError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
