"""Servers that a load balancer gets anew: nothing is sent to one before a check of it has passed.

HAProxy takes a new server for well until its first check has failed, and at a reload one that was down, too. A host
that is added has no release yet: its edge answers 503, and what is no GET is not asked again elsewhere. So before a
reload the states are written down with such servers as down; the first check that passes brings them up.

Source: HAProxy management guide, section 9.3, `show servers state` (srv_op_state 0 is stopped). `init-state` would say
the same from HAProxy 3.1 on, and no distribution has that yet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_BALANCED = re.compile(r"^    server (\S+) \S+:(\d+)( ssl(?= ))?(?: .*)?(?<! disabled)$", re.MULTILINE)
_DOWN, _UP = "0", "2"
Way = tuple[str, str]
"""The port of a server, and whether it is asked by TLS, 1 or 0."""


def balanced(pieces: Mapping[str, str]) -> dict[str, dict[str, Way]]:
    """The hosts behind a load balancer, name and way by backend, as the pieces of its apps have them."""
    found = {
        f"app_{app}": {name: (port, "1" if tls else "0") for name, port, tls in _BALANCED.findall(text)}
        for app, text in pieces.items()
    }
    return {backend: servers for backend, servers in found.items() if servers}


def held_back(dump: str, wanted: Mapping[str, Mapping[str, Way]]) -> str:
    """The states to load: those of `dump`, with the servers of `wanted` that it does not have as down.

    A backend of which nobody is up is left to HAProxy's own way, so that no state that is loaded later, at a reload by
    hand, keeps one from serving whose hosts have come up meanwhile.
    """
    lines = dump.splitlines()
    header = next((line for line in lines if line.startswith("# ")), "")
    names = header[2:].split()
    if "srv_op_state" not in names:
        return dump
    rows = [dict(zip(names, line.split())) for line in lines[lines.index(header) + 1 :] if line.strip()]
    kept = []
    for backend in dict.fromkeys(row["be_name"] for row in rows):
        its = [row for row in rows if row["be_name"] == backend]
        servers = wanted.get(backend, {})
        # What the file says of a port, and of TLS, goes over what the configuration does.
        its = [{**row, **_asked(servers[row["srv_name"]])} if row["srv_name"] in servers else row for row in its]
        up = next((row for row in its if row["srv_op_state"] == _UP and row["srv_admin_state"] == "0"), None)
        if servers and up is None:
            its = [{**row, "srv_op_state": _UP} for row in its]
        elif up:
            there = {row["srv_name"] for row in its}
            its += [
                _new(up, name, servers[name], number) for number, name in enumerate(servers, 1) if name not in there
            ]
        kept += its
    before = lines[: lines.index(header) + 1]
    return "\n".join([*before, *(" ".join(row[name] for name in names if name in row) for row in kept), ""])


def _asked(way: Way) -> dict[str, str]:
    return {"srv_port": way[0], "srv_use_ssl": way[1]}


def _new(like: Mapping[str, str], name: str, way: Way, number: int) -> dict[str, str]:
    """The row of a server that is down, in all else like one that is there."""
    own = {"srv_id": str(number), "srv_name": name, "srv_addr": "-", "srv_fqdn": "-", **_asked(way)}
    return {**like, **own, "srv_op_state": _DOWN, "srv_check_health": "0"}
