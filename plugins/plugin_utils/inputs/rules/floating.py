# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the variables of slipway.fleet.haproxy must be where its balancers have a floating address."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.values import Values

_ANY = {4: "0.0.0.0", 6: "[::]"}  # noqa: S104 - what a variable must have, nothing listens here


def floating(value_of: Values) -> Iterator[str]:
    """A sentence for each value with which no address can float."""
    addresses = [str(one) for one in value_of("haproxy_floating_addresses")]
    balancers = [str(one) for one in value_of("haproxy_floating_balancers")]
    wrong = [one for one in addresses if not _is_floating(one)]
    odd = [one for one in balancers if _parsed(one) is None]
    if wrong:
        yield (
            "haproxy_floating_addresses takes addresses of machines with the prefix of their network, such as "
            f"203.0.113.10/24 or 2001:db8::10/64, not {', '.join(wrong)}."
        )
    if odd:
        yield (
            "haproxy_floating_balancers takes one IP address of each balancer, such as 203.0.113.11, by which the "
            f"others reach it, not {', '.join(odd)}."
        )
    if not 0 <= int(value_of("haproxy_floating_router_id")) <= 255:
        yield f"haproxy_floating_router_id is {value_of('haproxy_floating_router_id')}; use 1 to 255, or 0."
    if not (wrong or odd):
        known = [ipaddress.ip_address(one) for one in balancers]
        given = [ipaddress.ip_interface(one) for one in addresses]
        yield from _together(given, known)
        yield from _listens(given, [str(one) for one in value_of("haproxy_addresses")])
        yield from _spoken_to(known, [str(one) for one in value_of("haproxy_proxy_protocol")])


def _together(given: Sequence[Any], known: Sequence[Any]) -> Iterator[str]:
    """Of the floating addresses and those of the balancers."""
    if len(set(known)) < 2:
        yield (
            f"haproxy_floating_balancers has {_shown(known) or 'nothing'}; an address floats between two balancers at "
            "least. Name one address of each, this host's among them, or take haproxy_floating_addresses away."
        )
        return
    if len(set(known)) < len(known) or len({one.ip for one in given}) < len(given):
        yield "haproxy_floating_addresses and haproxy_floating_balancers: each address must be there once."
    if own := [one.ip for one in given if one.ip in known]:
        yield (
            f"haproxy_floating_addresses: {_shown(own)} stands in haproxy_floating_balancers, too; a floating address "
            "is one that no balancer has by itself."
        )
    versions = {one.version for one in known}
    if len(versions) > 1:
        yield "haproxy_floating_balancers has addresses of IPv4 and IPv6; name those of one of them for all balancers."
    elif not versions & {one.version for one in given}:
        yield (
            f"haproxy_floating_addresses ({_shown(given)}) has none of IPv{known[0].version}, of which those in "
            "haproxy_floating_balancers are, and VRRP needs one; name balancers by the other kind of address."
        )


def _listens(given: Sequence[Any], listens: Sequence[str]) -> Iterator[str]:
    if lacks := sorted({_ANY[one.version] for one in given} - set(listens)):
        yield (
            f"haproxy_addresses ({', '.join(listens)}) lacks {', '.join(lacks)}; an edge that may have a floating "
            "address must listen on all addresses of its kind."
        )


def _spoken_to(known: Sequence[Any], networks: Sequence[str]) -> Iterator[str]:
    """Of what keepalived asks of its own edge and of the others, which begins with HTTP."""
    asking = [*known, *map(ipaddress.ip_address, ("127.0.0.1", "::1"))]
    for network in filter(None, map(_network, networks)):
        if among := [one for one in asking if one in network]:
            yield (
                f"haproxy_proxy_protocol: {network} has {_shown(among)} in it, from which balancers with a floating "
                "address ask each other and themselves, without the PROXY protocol; name those alone that speak it."
            )


def _shown(addresses: Sequence[Any]) -> str:
    return ", ".join(map(str, addresses))


def _parsed(text: str) -> Optional[Any]:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _network(text: str) -> Optional[Any]:
    """None for what the rules of its own variable refuse."""
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _is_floating(text: str) -> bool:
    try:
        found = ipaddress.ip_interface(text)
    except ValueError:
        return False
    edges = {found.network.network_address} | ({found.network.broadcast_address} if found.version == 4 else set())
    alone = found.network.num_addresses <= 2
    odd = found.is_loopback or found.is_multicast or found.is_link_local or found.is_unspecified
    return "/" in text and not alone and found.ip not in edges and not odd
