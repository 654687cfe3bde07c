#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""A balancer's part in a floating address."""

from __future__ import annotations

DOCUMENTATION = r"""
module: floating
short_description: Configure a balancer's part in a floating address, look at it, or hand the address over
description:
  - Writes the configuration of keepalived, for which it finds the interfaces by itself. Refused before anything is
    changed is an address that is in no network of the host or in use by a machine that is no balancer, and a
    keepalived that somebody else has configured.
  - A balancer that is V(away) has no floating address until it is V(back), also after a reboot. Where it has the
    address, it lets requests end that are under way, and new connections go to the balancer that takes over. It is
    left in where nobody stands by.
options:
  state:
    description:
      - What is done. V(present) and V(absent) are about the configuration, V(look) changes nothing.
    type: str
    choices: [present, absent, look, away, back]
    default: present
  addresses: {description: Floating addresses with the prefix of their network., type: list, elements: str, default: []}
  balancers:
    description: Address of each balancer, the preferred one first; this host has one of them.
    type: list
    elements: str
    default: []
  router_id: {description: Names balancers among others; 0 for one made of the first address., type: int, default: 0}
  preempt: {description: Whether a preferred balancer takes the address back., type: bool, default: false}
  config: {description: Configuration of keepalived., type: path, default: /etc/keepalived/keepalived.conf}
  check: {description: Command line that ends with 0 where this balancer can serve., type: str}
  notify: {description: Program that keepalived tells the state of this balancer., type: path}
  stopped_file:
    description: What says in the moment in which HAProxy ends that this balancer is down.
    type: path
    default: /run/slipway-haproxy
  state_file: {description: Where that program keeps it., type: path, default: /run/slipway-floating/state}
  away_file: {description: What is there while the balancer is away., type: path, default: /var/lib/haproxy/away}
  standing_by: {description: The other balancers that would take over., type: list, elements: str, default: []}
  wait: {description: Seconds that requests under way may take to end., type: float, default: 2.0}
  linger:
    description: Seconds before that in which answers close their connection, so that no client keeps one for later.
    type: float
    default: 0.0
  leaving_map: {description: Map by which the edge knows that., type: path, default: /var/lib/haproxy/leaving.map}
  admin_socket: {description: Where the running HAProxy takes commands., type: path, default: /run/haproxy/admin.sock}
  validate:
    description: A command in which C(%s) stands for the configuration to check.
    type: str
    default: keepalived --config-test --use-file %s
extends_documentation_fragment: [slipway.fleet.of_the_roles, slipway.fleet.record]
author: [Slipway contributors]
attributes:
  check_mode: {description: Tells what would change, and refuses what would be refused., support: full}
  diff_mode: {description: Shows the configuration before and after., support: full}
"""

EXAMPLES = r"""
- name: Take part in a floating address
  slipway.fleet.floating:
    addresses: [203.0.113.10/24]
    balancers: [203.0.113.11, 203.0.113.12]
    check: /usr/bin/test ! -e /var/lib/haproxy/away
    notify: /usr/local/lib/slipway/floating-state
"""

RETURN = r"""
told:
  description:
    - What this balancer says of itself, C(configured), C(active), C(enabled), C(away), C(serves), C(state),
      C(addresses), C(balancers), C(holds), C(kept_out), C(stands_by), C(problems).
  returned: success
  type: dict
wanted:
  description: The addresses, balancers and number that were given, by which hosts can be compared.
  returned: present or absent
  type: dict
announced: {description: The address of which balancers tell each other, others go along., returned: present, type: str}
foreign: {description: Whether somebody else has configured keepalived., returned: present or absent, type: bool}
in_flight: {description: Requests that had not ended when the address was handed over., returned: away, type: int}
"""

import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.edge import floating
from ..module_utils.edge.haproxy import Edge, EdgeError
from ..module_utils.host import command
from ..module_utils.host import files as tree
from ..module_utils.host.answer import answer
from ..module_utils.host.durable import write_durably
from ..module_utils.host.errors import SlipwayError
from ..module_utils.host.ledger import RECORD_ARGUMENT, recorded

UNIT = "keepalived.service"
POLL = 0.05
# Seconds: of systemd to start or stop something, and until the other balancer has taken over, who waits one at most.
SYSTEMD, TAKEN_OVER = 60.0, 60.0
# Seconds in which keepalived gives an address up once no request is under way; those that wait then find it elsewhere.
HANDED_OVER = 30.0
# Seconds from the first byte of a connection to its first request.
BEGUN = 0.5
ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["present", "absent", "look", "away", "back"], "default": "present"},
    "addresses": {"type": "list", "elements": "str", "default": []},
    "balancers": {"type": "list", "elements": "str", "default": []},
    "router_id": {"type": "int", "default": 0},
    "preempt": {"type": "bool", "default": False},
    "config": {"type": "path", "default": "/etc/keepalived/keepalived.conf"},
    "check": {"type": "str"},
    "notify": {"type": "path"},
    "stopped_file": {"type": "path", "default": "/run/slipway-haproxy"},
    "state_file": {"type": "path", "default": "/run/slipway-floating/state"},
    "away_file": {"type": "path", "default": "/var/lib/haproxy/away"},
    "standing_by": {"type": "list", "elements": "str", "default": []},
    "wait": {"type": "float", "default": 2.0},
    "linger": {"type": "float", "default": 0.0},
    "leaving_map": {"type": "path", "default": "/var/lib/haproxy/leaving.map"},
    "admin_socket": {"type": "path", "default": "/run/haproxy/admin.sock"},
    "validate": {"type": "str", "default": "keepalived --config-test --use-file %s"},
    "record": RECORD_ARGUMENT,
}
FILE = {"owner": "root", "group": "root", "mode": "0644"}
# What is said where nothing was done.
LEFT_IN = "it was left in"


def look(options: Mapping[str, Any]) -> dict[str, Any]:
    """What this balancer says of itself. Raises SlipwayError and OSError."""
    config = Path(options["config"])
    shown = command.run(["systemctl", "show", "--property=ActiveState,UnitFileState", UNIT], SYSTEMD).stdout.split()
    state = ""
    with suppress(FileNotFoundError):
        state = Path(options["state_file"]).read_text().strip()
    found: dict[str, Any] = {
        "configured": floating.is_for(config, options["addresses"]),
        "active": "ActiveState=active" in shown,
        "enabled": "UnitFileState=enabled" in shown,
        "away": Path(options["away_file"]).exists(),
        "serves": not options["check"] or not command.run(options["check"].split(), SYSTEMD).returncode,
        "state": state,
        "addresses": [floating.bare(one) for one in options["addresses"]],
        "balancers": options["balancers"],
        "holds": floating.held(options["addresses"], floating.of_this_host()),
        "kept_out": floating.kept_out(),
    }
    return {**found, "stands_by": floating.stands_by(found), "problems": floating.report(found)}


def configure(options: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Write or remove the configuration. Raises SlipwayError and OSError."""
    config = Path(options["config"])
    if floating.is_foreign(config):
        if options["state"] == "absent":
            return {"changed": False, "foreign": True}
        raise SlipwayError(
            "Nothing of the floating addresses was changed: "
            f"{config} was not written by this role. Move what it does elsewhere, remove the "
            "file and run this again; keepalived has one configuration"
        )
    more: dict[str, Any] = {"foreign": False}
    if options["state"] == "present":
        items, contents = [{**FILE, "dest": str(config), "validate": options["validate"]}], {"0": text(options, config)}
        more["announced"] = floating.bare(floating.announced(options["addresses"], options["balancers"]))
    else:
        items, contents = [{"dest": options[name], "state": "absent"} for name in ("config", "away_file")], {}
    changes = tree.plan(tree.parse(items, contents), check_mode)
    if not check_mode:
        tree.apply(changes)
    wanted = {name: options[name] for name in ("addresses", "balancers", "router_id")}
    diff = [part for change in changes for part in change.diff]
    return {"changed": bool(changes), "wanted": wanted, "diff": diff, **more}


def text(options: Mapping[str, Any], config: Path) -> str:
    """The configuration that this balancer is to have. Raises SlipwayError."""
    try:
        mine = floating.part(options["addresses"], options["balancers"], options["router_id"], floating.of_this_host())
    except floating.FloatingError as error:
        raise SlipwayError(f"Nothing of the floating addresses was changed: {error}.") from error
    known = [address for address in mine.addresses if floating.is_for(config, [address])]
    if wrong := floating.taken(mine, known, floating.link_of, floating.is_edge):
        raise SlipwayError(f"Nothing of the floating addresses was changed: {wrong}.")
    return floating.configuration(
        mine, options["preempt"], options["check"], options["notify"], options["stopped_file"]
    )


def go_away(options: Mapping[str, Any], found: Mapping[str, Any]) -> dict[str, Any]:
    """Have no floating address until further notice. Raises SlipwayError and OSError."""
    away = Path(options["away_file"])
    holds = list(found["holds"])
    if not holds:
        write_durably(away, b"")
        return {"in_flight": 0}
    if not options["standing_by"]:
        raise SlipwayError(
            f"no other balancer stands by to take {', '.join(holds)} over; {LEFT_IN}. slipway.fleet.status tells why"
        )
    edge = Edge(options["admin_socket"], "", "")
    with ExitStack() as meanwhile:
        meanwhile.enter_context(kept_by_nobody(edge, options["leaving_map"]))
        time.sleep(options["linger"])
        trouble = meanwhile.enter_context(floating.new_connections_wait(holds, options["wait"] + HANDED_OVER))
        left = ended(edge, options["wait"])
        write_durably(away, b"")
        restart()
        if not until(lambda: all(map(answers, holds)), TAKEN_OVER):
            away.unlink()
            restart()
            raise SlipwayError(
                f"{', '.join(options['standing_by'])} did not take {', '.join(holds)} over within {TAKEN_OVER:.0f} s; "
                "this balancer has taken part again since. Look at `journalctl -u keepalived` there"
            )
    warnings = [f"requests under way were not waited for: {trouble}"] if trouble else []
    return {"in_flight": left, "warnings": warnings}


@contextmanager
def kept_by_nobody(edge: Edge, leaving: str) -> Iterator[None]:
    """Answers close their connection meanwhile. In memory only, so a restart ends it, too."""
    with suppress(EdgeError):  # one that does not answer has no clients
        edge.ask(f"add map {leaving} leaving on")
    try:
        yield
    finally:
        with suppress(EdgeError):
            edge.ask(f"clear map {leaving}")


def ended(edge: Edge, wait: float) -> int:
    """Requests that are still under way when none is left, or after `wait` seconds.

    A connection that has just begun has asked nothing yet, so no backend knows it: it gets a moment to ask before that.
    """
    left = 0

    def none() -> bool:
        nonlocal left
        left = edge.in_flight()
        return not left

    with suppress(EdgeError):  # one that does not answer has none to wait for
        until(lambda: not edge.connections(), BEGUN)
        until(none, wait)
    return left


def come_back(options: Mapping[str, Any]) -> None:
    """Take part again, once keepalived has seen this HAProxy well. Raises SlipwayError and OSError."""
    Path(options["away_file"]).unlink()
    if not until(lambda: look(options)["stands_by"], TAKEN_OVER):
        problems = "; ".join(look(options)["problems"])
        raise SlipwayError(f"it does not stand by {TAKEN_OVER:.0f} s after it was put back: {problems}")


def answers(address: str) -> bool:
    """Whether somebody takes connections there."""
    try:
        socket.create_connection((address, floating.PORT), 1.0).close()
    except OSError:
        return False
    return True


def restart() -> None:
    """Give up what this balancer has, telling the others so, and look anew. Raises SlipwayError."""
    ran = command.run(["systemctl", "restart", UNIT], SYSTEMD)
    if ran.returncode:
        raise SlipwayError(f"{UNIT} did not start again: {ran.said}")


def until(true: Callable[[], bool], seconds: float) -> bool:
    """Whether something comes true in time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL)
    return True


def act(options: Mapping[str, Any], check_mode: bool) -> dict[str, Any]:
    """Bring the balancer to what the task says. Raises SlipwayError and OSError."""
    state = options["state"]
    if state in ("present", "absent"):
        return configure(options, check_mode)
    found = look(options)
    if state == "look":
        return {"changed": False, "told": found}
    # Where nothing is configured yet there is nothing to leave.
    changed = found["configured"] and found["away"] != (state == "away")
    more: dict[str, Any] = {}
    if changed and not check_mode:
        with recorded(options["record"], "drain" if state == "away" else "undrain", "this balancer") as note:
            if state == "away":
                more = go_away(options, found)
            else:
                come_back(options)
        more["warnings"] = [*more.get("warnings", ()), *note.warnings]
    return {"changed": changed, "told": look(options), **more}


def main() -> None:
    module = AnsibleModule(ARGUMENTS, supports_check_mode=True)
    result: dict[str, Any] = {}
    try:
        result = act(module.params, module.check_mode)
    except SlipwayError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be read or written ({error.strerror}).")
    if not module._diff:
        result.pop("diff", None)
    answer(module, result)


if __name__ == "__main__":
    main()
