#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The certificates by which balancers and the hosts behind them know each other."""

from __future__ import annotations

DOCUMENTATION = r"""
module: peers
short_description: Have balancers and the hosts behind them know each other by certificates
description:
  - Each edge makes a private key, which never leaves it, and a certificate that it signs itself. With V(own) that is
    made where it is missing, and the next one after a year. With V(known) this edge is given the certificates of the
    others, and tells by which of its servers are asked by TLS; with V(look) it tells how that is, and tries.
  - A balancer asks a host by TLS only once it has done so itself. The next certificate is used only once every edge
    that has to do with this one knows it.
options:
  state: {description: What is done., type: str, choices: [own, known, look], default: look}
  directory: {description: HAProxy's directory., type: path, default: /etc/haproxy}
  name: {description: Of this host in the inventory., type: str, required: true}
  apps:
    description: The apps of this edge, as C(haproxy_apps) has them; with C(servers) it is a balancer of them.
    type: list
    elements: dict
    default: []
  setting: {description: "C(haproxy_tls_to_hosts) of a balancer.", type: str, default: auto}
  port: {description: Where hosts listen for balancers., type: int, default: 4443}
  others:
    description: What the edges on the other side said with V(own) or V(look), by name; nothing of one that is away.
    type: dict
    default: {}
  socket:
    description: HAProxy's admin socket, by which it is asked with V(look) what it does with each server.
    type: path
    default: ""
  owner: {description: Owner of the files., type: str, default: root}
  group: {description: Group that may read them., type: str, default: haproxy}
extends_documentation_fragment: [slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode: {description: Tells what would change., support: full}
  diff_mode: {description: Shows certificates before and after., support: full}
"""

EXAMPLES = r"""
- name: Have a certificate of its own
  slipway.fleet.peers:
    state: own
    name: web1
  register: haproxy_peer_result
"""

RETURN = r"""
told:
  description: What others need to know of this edge.
  returned: success
  type: dict
door:
  description: Whether this edge listens for balancers.
  returned: with O(state=known)
  type: bool
tls:
  description: The servers that are asked by TLS, by app.
  returned: with O(state=known)
  type: dict
  sample: {shortlinks: [web1, web2]}
servers:
  description: >-
    How each server of each app is asked, until when the certificates are good for that, and in C(problem) what is
    wrong with that and why HAProxy sends it nothing.
  returned: with O(state=look)
  type: list
  elements: dict
stale:
  description: Files of certificates that nothing reads any more once the edge is configured anew.
  returned: with O(state=known)
  type: list
  elements: str
pages:
  description: The apps whose maintenance page this balancer shows in place of asking hosts, since when and by whom.
  returned: with O(state=look)
  type: list
  elements: dict
problems:
  description:
    - A sentence for each server that is not asked as is wanted, with V(look) for each certificate that ends soon and
      each file with a key that is missing or that others may read, too.
  returned: with O(state=look) and O(state=known)
  type: list
  elements: str
"""

import ipaddress
import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.edge import floating, maintenance, peer_trial
from ..module_utils.edge.behind import Away, away
from ..module_utils.edge.haproxy import Edge, EdgeError
from ..module_utils.edge.peers import (
    DAY,
    TOLD_DAYS,
    Address,
    Network,
    Peers,
    Server,
    asks_by_tls,
    at_the_door,
    certificates_of,
    ends,
    split,
    troubles,
    wrong_servers,
)
from ..module_utils.host import command
from ..module_utils.host import files as tree
from ..module_utils.host.answer import answer
from ..module_utils.host.errors import SlipwayError
from ..module_utils.host.ledger import APPS, Ledger

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["own", "known", "look"], "default": "look"},
    "directory": {"type": "path", "default": "/etc/haproxy"},
    "name": {"type": "str", "required": True},
    "apps": {"type": "list", "elements": "dict", "default": []},
    "setting": {"type": "str", "default": "auto"},
    "port": {"type": "int", "default": 4443},
    "others": {"type": "dict", "default": {}},
    "socket": {"type": "path", "default": ""},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "haproxy"},
}
Options = Mapping[str, Any]


def networks() -> list[Network]:
    """In which this host has addresses. Raises SlipwayError."""
    there = floating.interfaces(command.run(["ip", "-json", "address"], floating.TIMEOUT).stdout or "[]")
    return [address.network for of in there.values() for address in of]


def addresses(where: str) -> list[Address]:
    """Of a host, as this one finds it."""
    with suppress(OSError):
        return [ipaddress.ip_address(found[4][0]) for found in socket.getaddrinfo(split(where)[0], None)]
    return []


def balanced(options: Options) -> dict[str, dict[str, str]]:
    """The servers of each app of which this is a balancer."""
    return {app["name"]: app["servers"] for app in options["apps"] if app.get("servers")}


def wanted(options: Options) -> dict[str, list[str]]:
    """The servers of each app that this balancer is to ask by TLS. Raises SlipwayError."""
    apps, setting = balanced(options), str(options["setting"]).lower()
    wrong = wrong_servers(setting, apps, options["others"])
    if wrong:
        raise SlipwayError(" ".join(wrong))
    if not apps:
        return {}
    here = networks()
    return {
        app: [
            name
            for name, where in servers.items()
            if name in options["others"] and asks_by_tls(setting, addresses(where), here)
        ]
        for app, servers in apps.items()
    }


def servers(peers: Peers, options: Options) -> list[Server]:
    """How each is asked. Raises SlipwayError."""
    asked = wanted(options)
    every = [(app, name, where) for app, of in balanced(options).items() for name, where in of.items()]

    def server(one: tuple[str, str, str]) -> Server:
        app, name, where = one
        if name not in asked[app]:
            return Server(app, name, where, tls=False)
        there = at_the_door(where, options["port"])
        return peers.server(app, name, there, options["others"].get(name), peer_trial.ask)

    # Each may take seconds where it does not answer.
    with ThreadPoolExecutor(max_workers=32) as pool:
        return list(pool.map(server, every))


def items(peers: Peers, files: Mapping[Path, str], options: Options) -> list[dict[str, Any]]:
    """What is to be below the directory, as slipway.fleet.tree lists it."""
    of_haproxy = {"owner": options["owner"], "group": options["group"]}
    directories = sorted({path for file in files for path in file.parents if peers.home in path.parents})
    return [
        *({"dest": str(path), "state": "directory", **of_haproxy, "mode": "0750"} for path in directories),
        *({"dest": str(path), "content": text, **of_haproxy, "mode": "0640"} for path, text in files.items()),
    ]


def known(peers: Peers, options: Options, check: bool) -> dict[str, Any]:
    """Give this edge the certificates of the others. Raises SlipwayError and OSError."""
    others = options["others"]
    serving = [app["name"] for app in options["apps"] if not app.get("servers")]
    next_due = peers.use_next(others, time.time())
    changed = next_due
    if not check:
        if next_due:
            peers.turn_over()
        changed = any([peers.readable(), peers.read_anew(), changed])
    behind = servers(peers, options)
    of_balancers = peers.balancers(serving, others)
    files = {**peers.hosts(behind), **of_balancers}
    bundle = peers.all_balancers(of_balancers, serving)
    if bundle:
        files[peers.bundle] = "".join(bundle)
    listed = items(peers, files, options)
    texts = {str(number): item.pop("content") for number, item in enumerate(listed) if "content" in item}
    changes = tree.plan(tree.parse(listed, texts), check)
    if not check:
        tree.apply(changes)
    found = troubles(behind, peers.name)
    return {
        "changed": changed or bool(changes),
        "door": bool(bundle),
        "tls": {app: [one.name for one in behind if one.tls and one.app == app] for app in balanced(options)},
        "stale": sorted(map(str, peers.given(app["name"] for app in options["apps"]) - set(files))),
        "problems": found,
        "told": peers.look(),
        "diff": [part for change in changes for part in change.diff],
    }


def unsent(peers: Peers, options: Options) -> tuple[dict[tuple[str, str], Away], list[str]]:
    """The servers that this balancer sends nothing, by app and name, and why some could not be looked at."""
    found: dict[tuple[str, str], Away] = {}
    wrong: list[str] = []
    for app, of_app in balanced(options).items():
        # One that is not provisioned, or was removed, has no piece of the edge.
        if not options["socket"] or not peers.piece(app).exists():
            continue
        more = "" if app == options["apps"][0]["name"] else f" -e haproxy_server_app={app}"
        try:
            there = Edge(options["socket"], f"app_{app}", "", expected=[*of_app]).servers()
        except EdgeError as error:
            wrong.append(str(error))
            continue
        behind = {name: server for name, server in there.items() if name in of_app}
        found |= {(app, name): one for name, one in away(behind, Ledger(APPS / app).told(), more).items()}
    return found, sorted(set(wrong))


def row(one: Server, own: Sequence[str], gone: Optional[Away]) -> dict[str, Any]:
    """A server for people and programs."""
    until = min(map(ends, [one.certificates[0], own[0]])) if one.tls and one.certificates and own else None
    return {
        "app": one.app,
        "host": one.name,
        "at": one.where,
        "by": "TLS" if one.tls else "HTTP",
        "until": None if until is None else time.strftime("%Y-%m-%d", time.gmtime(until)),
        "ends": until,
        # One that cannot be asked is down by that, and HAProxy says less of it.
        "problem": "; ".join(filter(None, [one.trouble, _why(one, gone)])),
    }


def _why(one: Server, gone: Optional[Away]) -> str:
    return "" if gone is None or (one.trouble and gone.down) else gone.why


def look(peers: Peers, options: Options) -> dict[str, Any]:
    """How a balancer asks its servers, and what is wrong with the keys of any edge. Raises SlipwayError and OSError."""
    behind = servers(peers, options)
    gone, unseen = unsent(peers, options)
    own = certificates_of("".join(peers.certificates()[:1]))
    rows = [row(one, own, gone.get((one.app, one.name))) for one in behind]
    soon = [
        f"the certificates by which {peers.name} and {one['host']} know each other end on {one['until']}; provision "
        "both in one run"
        for server, one in zip(behind, rows)
        if one["ends"] is not None and one["ends"] < time.time() + TOLD_DAYS * DAY and not server.trouble
    ]
    return {
        "changed": False,
        "servers": rows,
        "pages": [
            {"app": app, **page}
            for app in balanced(options)
            if (page := maintenance.shown(app, Ledger(APPS / app).told()))
        ],
        "problems": [
            *(f"{peers.name}: {flaw}" for flaw in [*peers.flaws(), *unseen]),
            *troubles(behind, peers.name),
            *(
                f"{peers.name} sends {one.name} nothing of {one.app}: {why}"
                for one in behind
                if (of_it := gone.get((one.app, one.name))) and of_it.amiss and (why := _why(one, of_it))
            ),
            *soon,
        ],
        "told": peers.look(),
    }


def act(options: Options, check: bool) -> dict[str, Any]:
    """Bring this edge to what the task says, and return its result. Raises SlipwayError and OSError."""
    peers = Peers(Path(options["directory"]), options["name"], options["owner"], options["group"])
    if options["state"] == "look":
        return look(peers, options)
    if options["state"] == "known":
        return known(peers, options, check)
    asked = wanted(options)
    changed = peers.make_due(time.time(), check)
    return {"changed": changed, "told": {**peers.look(), "wants": asked}}


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    result: dict[str, Any] = {}
    try:
        result = act(module.params, module.check_mode)
    except SlipwayError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or module.params['directory']}: {error.strerror or error}.")
    # Where nothing is there yet a run without --check makes it first.
    if module.params["state"] == "known" and not module.check_mode:
        for problem in result["problems"]:
            module.warn(problem)
    if not module._diff:
        result.pop("diff", None)
    answer(module, result)


if __name__ == "__main__":
    main()
