"""A floating address: one of several balancers has it, by VRRP over unicast, and what keepalived is told for that.

All that a balancer needs to know is computed on it, from the addresses of its interfaces. It takes part with the
address by which the others know it, and has the floating addresses on the interfaces that are in their networks.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import math
import socket
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional, Union

from ..host import command
from ..host.errors import SlipwayError

Address = Union[ipaddress.IPv4Interface, ipaddress.IPv6Interface]

HEADER = "# Written by the role haproxy; what is changed here is lost.\n"
# The first of the balancers; each further one has one less. 255 is for who owns an address, and 0 says that one goes.
PRIORITY = 200
TIMEOUT = 10.0  # seconds; of ip and nft
# Seconds between two messages of the one that has the addresses, and how many are missed before another one takes them:
# a second in all. Several small ones, since a network loses one now and then, and a host that is busy sends one late.
ADVERTISE, MISSED = 0.2, 5
PORT = 80  # on which the edges of all balancers listen
# Seconds in which a machine of the same network has answered, and between two looks whether it has.
NEIGHBOUR, LOOK = 1.5, 0.1
# As the kernel calls a neighbour that has just answered, or of whom an operator has said that it is there.
ANSWERED = {"REACHABLE", "PERMANENT"}
# What keepalived calls one that has the addresses, and one that takes them when nobody else has them.
TAKING_PART = ("MASTER", "BACKUP")
_HOLD = "slipway_hand_over"


class FloatingError(SlipwayError):
    """The floating addresses cannot be had this way; the text says what to change."""


@dataclass(frozen=True)
class Part:
    """This balancer's part: with which address of which interface, with whom, and which addresses it may have where."""

    own: str
    interface: str
    peers: tuple[str, ...]
    priority: int
    router_id: int
    announced: str
    """The floating address of which it tells the others."""
    addresses: Mapping[str, str]
    """Interface by address with prefix, as they were declared."""


def interfaces(said: str) -> dict[str, list[Address]]:
    """The addresses of each interface, from `ip -json address`."""
    found: dict[str, list[Address]] = {}
    for entry in json.loads(said):
        for one in entry.get("addr_info") or ():
            if "local" in one and entry.get("ifname") != "lo":
                address = ipaddress.ip_interface(f"{one['local']}/{one['prefixlen']}")
                found.setdefault(str(entry["ifname"]), []).append(address)
    return found


def announced(addresses: Sequence[str], balancers: Sequence[str]) -> str:
    """The one floating address of which VRRP tells: the first of the family by which the balancers know each other.

    A message with another number of addresses is dropped by keepalived. So all else goes along untold, and balancers
    hear each other while one of them has a longer list already. Raises FloatingError.
    """
    family = ipaddress.ip_interface(balancers[0]).version
    for address in addresses:
        if ipaddress.ip_interface(address).version == family:
            return address
    raise FloatingError(
        f"haproxy_floating_addresses ({', '.join(addresses)}) has no address of IPv{family}, of which those in "
        "haproxy_floating_balancers are, and VRRP needs one"
    )


def derived_router_id(address: str) -> int:
    """1 to 255 for the announced address, the same on each balancer and most likely another one for another address."""
    return 1 + zlib.crc32(bare(address).encode()) % 255


def bare(address: str) -> str:
    """An address without its prefix, in its usual form."""
    return str(ipaddress.ip_interface(address).ip)


def part(
    addresses: Sequence[str], balancers: Sequence[str], router_id: int, there: Mapping[str, Sequence[Address]]
) -> Part:
    """What this host takes part with. Raises FloatingError.

    Args:
        addresses: the floating ones, with the prefix of their network
        balancers: the address of each balancer, this one among them, the preferred one first
        router_id: 0 for one made of the first address
        there: the addresses of this host's interfaces
    """
    of_host = {str(one.ip): name for name, of in there.items() for one in of}
    known = [bare(one) for one in balancers]
    own = [one for one in known if one in of_host]
    if len(own) != 1:
        raise FloatingError(
            f"haproxy_floating_balancers ({', '.join(known)}) must have one address of each balancer, and this host "
            f"has {'several' if own else 'none'} of them: its addresses are {', '.join(sorted(of_host))}"
        )
    floating = {bare(one) for one in addresses}
    found = {}
    for address in addresses:
        wanted = ipaddress.ip_interface(address)
        where = [
            name
            for name, of in there.items()
            for one in of
            if one.network == wanted.network and str(one.ip) not in floating
        ]
        if not where:
            networks = sorted({str(one.network) for of in there.values() for one in of if not one.ip.is_link_local})
            raise FloatingError(
                f"haproxy_floating_addresses: {address} is in no network of this host ({', '.join(networks)}), so no "
                "other machine would find it there; use a free address of a network in which all balancers are, with "
                "that network's prefix. Where a provider routes such an address, it is moved by the provider's own "
                "interface, not by VRRP"
            )
        found[address] = where[0]
    told = announced(addresses, known)
    return Part(
        own=own[0],
        interface=of_host[own[0]],
        peers=tuple(one for one in known if one != own[0]),
        priority=PRIORITY - known.index(own[0]),
        router_id=router_id or derived_router_id(told),
        announced=told,
        addresses=found,
    )


def configuration(mine: Part, preempt: bool, check: str, notify: str, stopped: str) -> str:
    """keepalived.conf of this balancer.

    Args:
        mine: its part
        preempt: take the address back from a balancer with a lower priority
        check: a command line that ends with 0 where this balancer can serve, or none of the others; it is told after
            its own words which address this balancer has, and where it asks the others
        notify: a program that is told INSTANCE, slipway and the state that this balancer is in from then on
        stopped: a file that says in the moment in which HAProxy ends that this balancer is down (edge/alive.py)
    """
    untold = [one for one in mine.addresses if one != mine.announced]
    further = sorted(set(mine.addresses.values()) - {mine.interface})
    blocks = [
        ("virtual_ipaddress", [_virtual(mine.announced, mine.addresses[mine.announced])]),
        ("virtual_ipaddress_excluded", [_virtual(one, mine.addresses[one]) for one in untold]),
        ("track_interface", further),
        ("track_script", ["edge"]),
        ("track_file", ["haproxy"]),
    ]
    written = "".join(
        f"    {name} {{\n{''.join(f'        {line}{chr(10)}' for line in lines)}    }}\n"
        for name, lines in blocks
        if lines
    )
    peers = "".join(f"        {peer}\n" for peer in mine.peers)
    asked = " ".join([check, mine.own, *(f"{peer}:{PORT}" for peer in mine.peers)])
    return (
        f"{HEADER}global_defs {{\n"
        "    enable_script_security\n"
        "    script_user root\n"
        "    vrrp_version 3\n"
        "    # Nobody but the balancers below is believed.\n"
        "    vrrp_check_unicast_src\n"
        "    # Before all that may keep a host busy: one that is silent for a second has lost the addresses.\n"
        "    vrrp_priority -20\n"
        "    # Told again, for a switch or a neighbour that has missed it.\n"
        "    vrrp_garp_master_refresh 60\n"
        "}\n\n"
        "vrrp_script edge {\n"
        f'    script "{asked}"\n'
        "    interval 1\n"
        "    # It ends by itself before that; a host that is slow is not one that is down.\n"
        "    timeout 20\n"
        "    fall 2\n"
        "    rise 2\n"
        "}\n\n"
        "track_file haproxy {\n"
        f'    file "{stopped}"\n'
        "    weight 1\n"
        "    init_file 0\n"
        "}\n\n"
        "vrrp_instance slipway {\n"
        "    state BACKUP\n"
        f"{'' if preempt else '    nopreempt' + chr(10)}"
        f"    interface {mine.interface}\n"
        f"    virtual_router_id {mine.router_id}\n"
        f"    priority {mine.priority}\n"
        f"    advert_int {ADVERTISE}\n"
        f"    down_timer_adverts {MISSED}\n"
        f"    unicast_src_ip {mine.own}\n"
        f"    unicast_peer {{\n{peers}    }}\n"
        f'    notify "{notify}"\n'
        f"{written}"
        "}\n"
    )


def _virtual(address: str, interface: str) -> str:
    # An IPv6 address that is not preferred is not what this host connects with, as long as it has it.
    unpreferred = " preferred_lft 0" if ipaddress.ip_interface(address).version == 6 else ""
    return f"{address} dev {interface}{unpreferred}"


def is_foreign(path: Path) -> bool:
    """Whether somebody else has configured keepalived. Raises OSError."""
    try:
        return not path.read_text(encoding="utf-8", errors="replace").startswith(HEADER)
    except FileNotFoundError:
        return False


def is_for(path: Path, addresses: Collection[str]) -> bool:
    """Whether keepalived is configured by this role, and for these addresses. Raises OSError."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return False
    return text.startswith(HEADER) and all(f" {one} dev " in text for one in addresses)


def held(addresses: Collection[str], there: Mapping[str, Sequence[Address]]) -> list[str]:
    """Those of the floating addresses that this host has now, without prefix."""
    of_host = {str(one.ip) for of in there.values() for one in of}
    return [bare(one) for one in addresses if bare(one) in of_host]


def taken(
    mine: Part, known: Collection[str], link_of: Callable[[str, str], str], is_edge: Callable[[str], bool]
) -> str:
    """Why somebody who is no balancer has a floating address already; empty where nobody has.

    Args:
        mine: the part of this balancer
        known: floating addresses that were looked at before, as this balancer takes part in them
        link_of: gives the link-layer address of who answers for an address, empty where nobody does
        is_edge: whether an edge answers at an address. In a network other than that by which balancers know each other
            nobody here knows their link-layer addresses, so an edge there is taken for one of them
    """
    new = {address: interface for address, interface in mine.addresses.items() if address not in known}
    balancers = {link_of(peer, mine.interface) for peer in mine.peers} if new else set()
    for address, interface in new.items():
        link = link_of(bare(address), interface)
        if link and link not in balancers and (interface == mine.interface or not is_edge(bare(address))):
            return (
                f"haproxy_floating_addresses: {bare(address)} is in use already, by a machine with the link address "
                f"{link} that is none of the balancers; use a free one"
            )
    return ""


def link_of(address: str, interface: str) -> str:
    """Who answers for an address in the network of an interface, by ARP or NDP; empty where nobody does.

    Who answered once may be gone for hours, so that is forgotten before. Raises CommandError where `ip` cannot be run.
    """
    command.run(["ip", "neigh", "flush", "to", address, "dev", interface], TIMEOUT)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        probe.sendto(b"", (address, 9))
    deadline = time.monotonic() + NEIGHBOUR
    while time.monotonic() < deadline:
        said = command.run(["ip", "-json", "neigh", "show", address, "dev", interface], TIMEOUT).stdout
        for entry in json.loads(said or "[]"):
            if "lladdr" in entry and ANSWERED & set(entry.get("state") or ()):
                return str(entry["lladdr"])
        time.sleep(LOOK)
    return ""


def is_edge(address: str, port: int = PORT) -> bool:
    """Whether an edge of this collection answers there, which it tells everybody who asks for it."""
    connection = http.client.HTTPConnection(address, port, timeout=NEIGHBOUR)
    try:
        connection.request("GET", "/", headers={"Host": "slipway-edge", "X-Slipway-Probe": "1"})
        return connection.getresponse().getheader("X-Slipway-Answer") is not None
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def of_this_host() -> dict[str, list[Address]]:
    """The addresses of this host's interfaces. Raises CommandError, and FloatingError where `ip` does not tell them."""
    ran = command.run(["ip", "-json", "address"], TIMEOUT)
    if ran.returncode:
        raise FloatingError(f"the addresses of this host are not known: {ran.said}")
    return interfaces(ran.stdout)


@contextmanager
def new_connections_wait(addresses: Collection[str], seconds: float) -> Iterator[Optional[str]]:
    """No new connection to the addresses begins here meanwhile; clients ask again after a second, and find the other.

    Gives why that cannot be done, None where it is: then what is under way at the moment of the hand-over is cut.
    The kernel itself lets connections in again after `seconds`, for a hand-over that is killed.
    """
    trouble = _nft(holding(addresses, seconds))
    try:
        yield trouble
    finally:
        _nft(f"add table inet {_HOLD}\ndelete table inet {_HOLD}\n")


def holding(addresses: Collection[str], seconds: float) -> str:
    """What nft is told for that, in place of what another hand-over has left."""
    lines = [f"add table inet {_HOLD}", f"delete table inet {_HOLD}", f"add table inet {_HOLD}"]
    lines.append(f"add chain inet {_HOLD} input {{ type filter hook input priority -200; policy accept; }}")
    for family, kind in (("ip", "ipv4_addr"), ("ip6", "ipv6_addr")):
        lines.append(f"add set inet {_HOLD} of_{family} {{ type {kind}; flags timeout; }}")
        lines.append(
            f"add rule inet {_HOLD} input {family} daddr @of_{family} tcp flags & (fin | syn | rst | ack) == syn drop"
        )
    for one in addresses:
        family = "ip6" if ":" in one else "ip"
        lines.append(f"add element inet {_HOLD} of_{family} {{ {one} timeout {math.ceil(seconds)}s }}")
    return "\n".join([*lines, ""])


def kept_out() -> list[str]:
    """The addresses to which no new connection begins on this host now, since they are handed over."""
    try:
        ran = command.run(["nft", "-j", "list", "table", "inet", _HOLD], TIMEOUT)
    except command.CommandError:
        return []
    return [] if ran.returncode else holding_now(ran.stdout)


def holding_now(said: str) -> list[str]:
    """The addresses of `nft -j list table`; what has timed out is not among them."""
    sets = [entry["set"] for entry in json.loads(said)["nftables"] if "set" in entry]
    return [str(one["elem"]["val"]) for found in sets for one in found.get("elem") or ()]


def _nft(text: str) -> Optional[str]:
    try:
        ran = command.run(["nft", text], TIMEOUT)
    except command.CommandError as error:
        return str(error)
    return ran.said if ran.returncode else None


def report(found: Mapping[str, Any]) -> list[str]:
    """What is wrong with one balancer, a sentence each, from what its module tells."""
    if not found["configured"]:
        return ["keepalived is not configured for these addresses here; run slipway.fleet.provision"]
    said = []
    if not found["active"]:
        said.append("keepalived does not run (systemctl status keepalived), so it stands by for nobody")
    elif not found["enabled"]:
        said.append("keepalived does not start with the host; run slipway.fleet.provision")
    if found["away"]:
        said.append("it was taken out (slipway.fleet.drain), and has no floating address until it is put back")
    elif not found["serves"]:
        said.append("its HAProxy does not answer for itself (systemctl status haproxy), so it gives the address up")
    elif found["active"] and found["state"] not in TAKING_PART:
        said.append(f"keepalived is in the state {found['state'] or 'that it begins with'} (journalctl -u keepalived)")
    if found["holds"] and len(found["holds"]) < len(found["addresses"]):
        lacks = [one for one in found["addresses"] if one not in found["holds"]]
        said.append(f"it has {', '.join(found['holds'])} and not {', '.join(lacks)}")
    if found["kept_out"]:
        said.append(
            f"new connections to {', '.join(found['kept_out'])} wait here, as a hand-over is under way or was killed; "
            "that ends by itself within a minute"
        )
    return said


def stands_by(found: Mapping[str, Any]) -> bool:
    """Whether a balancer takes the address when another one gives it up."""
    well = found["configured"] and found["active"] and found["serves"]
    return bool(well and not found["away"] and found["state"] in TAKING_PART)
