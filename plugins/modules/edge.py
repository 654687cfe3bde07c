#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Host part of slipway.fleet.edge: puts the edge together from the pieces of its apps."""

from __future__ import annotations

DOCUMENTATION = r"""
module: edge
short_description: Put the configuration of an edge together from a piece of each app
description:
  - Every app has a piece of its own in C(apps/) of HAProxy's directory. Those of this run are written, those of other
    inventories stay, and C(haproxy.cfg) is put together from all of them and read by C(haproxy -c) before anything is
    replaced.
  - Refused before anything is changed is a name that another app has, a second app without names, and other settings
    than those of the inventory whose apps were there first.
  - A configuration of the version before pieces is taken apart, with the blocks of apps that are not in this run.
options:
  directory:
    description: HAProxy's directory.
    type: path
    required: true
  files:
    description: What else the configuration needs, as in M(slipway.fleet.tree).
    type: list
    elements: dict
    default: []
  edge:
    description: Template of what is every app's. Without it that stays as it is.
    type: str
  piece:
    description: Template of the piece of an app, which is C(app) in it.
    type: str
  apps:
    description: The apps of this run, as C(haproxy_apps) has them; to the host go their names.
    type: list
    elements: dict
    default: []
  settings:
    description: The variables that are every app's, by name. A secret is a digest.
    type: dict
    default: {}
  shared_settings:
    description: What happens where another inventory's apps are behind this edge with other settings.
    type: str
    choices: [refuse, keep, replace]
    default: refuse
  removed:
    description: Apps whose piece goes, with what operators switched for them.
    type: list
    elements: str
    default: []
  switched:
    description: Map of the maintenance pages that operators switched.
    type: path
  stale:
    description:
      - Paths of files that nothing reads any more once the configuration is in place, and that go with it. They stay
        where the settings of the edge stay those of another inventory.
    type: list
    elements: path
    default: []
  admin_socket:
    description: Where the running HAProxy takes commands; without it no new host behind a balancer is held back.
    type: path
  state_file:
    description: Where HAProxy reads server states from at a reload.
    type: path
    default: /var/lib/haproxy/server-state
  owner:
    description: Owner of the files.
    type: str
    default: root
  group:
    description: Group that may read the configuration.
    type: str
    default: haproxy
  validate:
    description: A command in which C(%s) stands for the file to check.
    type: str
    default: haproxy -c -f %s
  contents:
    description: Filled by the action plugin with what it rendered. Not for tasks.
    type: str
extends_documentation_fragment: [slipway.fleet.record, slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode: {description: Tells what would change, and refuses what would be refused., support: full}
  diff_mode: {description: Shows the files before and after., support: full}
"""

EXAMPLES = r"""
- name: Configure HAProxy
  slipway.fleet.edge:
    directory: /etc/haproxy
    edge: edge.cfg.j2
    piece: app.cfg.j2
    apps: "{{ haproxy_apps }}"
    settings: {haproxy_request_timeout: 10}
  notify: Reload HAProxy
"""

RETURN = r"""
changed_paths:
  description: The paths that were changed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/etc/haproxy/apps/shortlinks.cfg, /etc/haproxy/haproxy.cfg]
kept:
  description: Whether the settings of the edge stay those of another inventory.
  returned: success
  type: bool
peers:
  description: Whether this edge has certificates of balancers or hosts (M(slipway.fleet.peers)).
  returned: success
  type: bool
"""

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.edge.behind import UNDRAIN, drains
from ..module_utils.edge.haproxy import OLDEST, Edge, EdgeError, outdated
from ..module_utils.edge.maintenance import HEADER
from ..module_utils.edge.maps import read, render
from ..module_utils.edge.newcomers import balanced, held_back
from ..module_utils.edge.pieces import Made, Present, Wanted, made, present
from ..module_utils.host import command
from ..module_utils.host import files as tree
from ..module_utils.host.answer import answer
from ..module_utils.host.errors import SlipwayError
from ..module_utils.host.ledger import APPS, DONE, RECORD_ARGUMENT, Ledger, noted
from ..module_utils.host.shared import SHARED_SETTINGS, alone
from ..module_utils.release.listening import holder_of

# Hashes of passwords, which stand in the pieces of apps that ask for one.
_HASHES = re.compile(r"\$[56]\$[./A-Za-z0-9=$]+")
# Where the edge listens: the address, and the port.
_BIND = re.compile(r"^\s*bind\s+\S*?:(\d+)\b", re.MULTILINE)
ARGUMENTS: dict[str, Any] = {
    "directory": {"type": "path", "required": True},
    "files": {"type": "list", "elements": "dict", "default": []},
    "edge": {"type": "str"},
    "piece": {"type": "str"},
    "apps": {"type": "list", "elements": "dict", "default": []},
    "settings": {"type": "dict", "default": {}},
    "shared_settings": {"type": "str", "choices": list(SHARED_SETTINGS), "default": "refuse"},
    "removed": {"type": "list", "elements": "str", "default": []},
    "switched": {"type": "path"},
    "stale": {"type": "list", "elements": "path", "default": []},
    "admin_socket": {"type": "path"},
    "state_file": {"type": "path", "default": "/var/lib/haproxy/server-state"},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "haproxy"},
    "validate": {"type": "str", "default": "haproxy -c -f %s"},
    "contents": {"type": "str", "no_log": True},
    "record": RECORD_ARGUMENT,
}


def hidden(text: str) -> str:
    """A text for the screen: in place of each hash of a password is what tells it from another one."""
    return _HASHES.sub(lambda found: f"(hash {hashlib.sha256(found[0].encode()).hexdigest()[:8]})", text)


def listed(options: Mapping[str, Any], found: Present, edge: Made) -> list[dict[str, Any]]:
    """The edge's own files as slipway.fleet.tree lists them, with their contents."""
    directory = options["directory"]
    for_haproxy = {"owner": options["owner"], "group": options["group"], "mode": "0640"}
    for_all = {**for_haproxy, "mode": "0644"}
    items: list[dict[str, Any]] = [
        {"dest": f"{directory}/apps", "state": "directory", **for_haproxy, "mode": "0750"},
        *(
            {"dest": f"{directory}/apps/{app}.cfg", "state": "absent"}
            for app in sorted(set(found.pieces) - set(edge.pieces))
        ),
    ]
    for path, content in edge.files.items():
        attributes = {"maintenance.map": for_all, "edge.json": {**for_all, "mode": "0600"}}.get(path, for_haproxy)
        validate = {"validate": options["validate"]} if path == "haproxy.cfg" else {}
        items.append({"dest": f"{directory}/{path}", "content": content, **attributes, **validate})
    if options["removed"] and options["switched"]:
        before = read(Path(options["switched"]))
        left = {app: value for app, value in before.items() if app not in options["removed"]}
        if left != before:
            items.insert(0, {"dest": options["switched"], "content": render(left, HEADER), **for_all})
    # After the configuration, which names it until then.
    items += [{"dest": f"{directory}/pages/planned-{app}.html", "state": "absent"} for app in options["removed"]]
    if not edge.kept:
        items += [{"dest": path, "state": "absent"} for path in options["stale"]]
    return items


def taken(edge: str) -> str:
    """Who else has a port of this host on which the edge is to listen, and what to do; empty where nobody has."""
    for port in sorted({int(number) for number in _BIND.findall(edge)}):
        who = holder_of(port)
        if who and not who.startswith("haproxy "):
            return (
                "Nothing of the edge was changed: "
                f"port {port} of this host, on which the edge is to listen, belongs to {who}. "
                "Stop it for good (systemctl disable --now, where it is a service), or have it listen elsewhere."
            )
    return ""


def too_old(options: Mapping[str, Any]) -> str:
    """Why the HAProxy of this host cannot be the edge, and what to do; empty where it can be, or is to come."""
    try:
        ran = command.run([shlex.split(options["validate"])[0], "-v"], 30)
    except command.CommandError:
        return ""
    version = outdated(ran.stdout)
    return version and (
        "Nothing of the edge was changed: "
        f"the HAProxy of this host is {version}, and the edge needs "
        f"{'.'.join(map(str, OLDEST))} or a newer one, which every supported distribution has. Install that of the "
        "distribution (apt-cache policy haproxy says from where this one came), and run this again."
    )


def hold_back(options: Mapping[str, Any], pieces: Mapping[str, str]) -> None:
    """Have hosts that a load balancer gets anew begin as down at its next reload."""
    hosts = balanced(pieces)
    if not hosts or not options.get("admin_socket"):
        return
    running = Edge(options["admin_socket"], "", options["state_file"])
    with suppress(EdgeError):  # one that does not run yet loses nothing
        running.save(lambda dump: held_back(dump, hosts))


def end_drains(
    pieces: Mapping[str, str], record: Optional[Mapping[str, Any]], former: Mapping[str, str], apps: Path = APPS
) -> list[str]:
    """Record that a drain is over where its host is behind this balancer no more; returns what could not be.

    A host that comes back begins like a new one, and by the ledger it would be drained since then, by somebody who
    meant the one that it was.

    Args:
        pieces: of the apps of this edge as it is now
        record: whose run it is
        former: the pieces as they were before
        apps: the directory of the apps' ledgers
    """
    now, warnings = balanced(pieces), []
    for backend in sorted({*now, *balanced(former)}):
        app = backend.removeprefix("app_")
        ledger = Ledger(apps / app)
        with suppress(OSError):
            for host in sorted(set(drains(ledger.told())) - set(now.get(backend, {}))):
                note = noted({**(record or {}), "root": apps / app}, UNDRAIN, host)
                note.end(DONE, cause="it is no host of this balancer any more")
                warnings += note.warnings
    return warnings


def act(options: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Bring the edge to what the task says and return its result. Raises SlipwayError and OSError."""
    directory = Path(options["directory"])
    rendered = json.loads(base64.b64decode(options["contents"] or "e30="))
    wanted = Wanted(
        pieces=rendered.get("pieces", {}),
        edge=rendered.get("edge"),
        values=options["settings"],
        shared=options["shared_settings"],
        removed=frozenset(options["removed"]),
    )
    warnings: list[str] = []
    with alone(directory):
        found = present(directory, read(directory / "maintenance.map"))
        edge = made(found, wanted)
        items = tree.parse(options["files"], rendered.get("files", {}))
        # A removal from a host without an edge has nothing to do.
        if edge.edge:
            if wanted.edge is not None and (wrong := too_old(options) or taken(edge.edge)):
                raise SlipwayError(wrong)
            own = listed(options, found, edge)
            texts = {str(number): item.pop("content") for number, item in enumerate(own) if "content" in item}
            items += tree.parse(own, texts)
        changes = tree.plan(items, check_mode)
        if not check_mode:
            now = {app: piece.text for app, piece in edge.pieces.items()}
            if any(change.item.dest.name == "haproxy.cfg" for change in changes):
                hold_back(options, now)
            tree.apply(changes)
            former = {app: piece.text for app, piece in found.pieces.items()}
            warnings = end_drains(now, options.get("record"), former)
    return {
        "warnings": warnings,
        "changed": bool(changes),
        "changed_paths": [str(change.item.dest) for change in changes],
        "kept": edge.kept,
        "peers": (directory / "peers").is_dir(),
        "diff": [
            {key: hidden(side) if isinstance(side, str) else side for key, side in part.items()}
            for change in changes
            for part in change.diff
        ],
    }


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    result: dict[str, Any] = {}
    try:
        result = act(module.params, module.check_mode)
    except SlipwayError as error:
        module.fail_json(msg=hidden(str(error)))
    except OSError as error:
        module.fail_json(msg=f"Nothing of the edge was changed: {error.filename} cannot be read ({error.strerror}).")
    if not module._diff:
        result.pop("diff")
    answer(module, result)


if __name__ == "__main__":
    main()
