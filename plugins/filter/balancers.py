# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Filters that look over the balancers of a floating address, for playbooks and the role haproxy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.module_utils.edge.floating import (
    announced,
    bare,
    derived_router_id,
)


def standing_by(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """The hosts that would take a floating address over, from a loop of `slipway.fleet.floating` over hosts."""
    return [str(result["item"]) for result in results if (result.get("told") or {}).get("stands_by")]


def floating_beside(hosts: Sequence[Mapping[str, Any]], own: str) -> list[str]:
    """The other hosts with the floating addresses of a host, be they of this run or left out of it by --limit."""
    of_host = {str(host["inventory_hostname"]): _floats(host) for host in hosts}
    return [name for name, addresses in of_host.items() if name != own and addresses and addresses == of_host.get(own)]


def _floats(host: Mapping[str, Any]) -> set[str]:
    return set(map(bare, host.get("haproxy_floating_addresses") or ()))


def peers_of(groups: Mapping[str, Sequence[str]], own: str) -> list[str]:
    """The edges on the other side of a host: of a balancer those that serve, of one that serves the balancers."""
    sides = groups.get("web") or (), groups.get("load_balancer") or ()
    found = [name for side, other in (sides, sides[::-1]) if own in side for name in other]
    return [name for name in dict.fromkeys(found) if name != own]


def peers_seen(
    hosts: Sequence[Mapping[str, Any]], asked: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Optional[dict[str, Any]]]:
    """What is known of the certificates of other edges, None of one that could not be asked.

    Args:
        hosts: the variables of those; what `slipway.fleet.peers` said in this run is among them
        asked: a loop of `slipway.fleet.peers` over those that the run leaves out
    """
    found = {
        str(host["inventory_hostname"]): (host.get("haproxy_peer_result") or {}).get("told") or None for host in hosts
    }
    for result in asked.get("results") or ():
        found[str(result["item"])] = result.get("told") or None
    return found


def floating_clashes(hosts: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each disagreement of hosts about their floating addresses.

    Of each host that is what `slipway.fleet.floating` was given, as its role has registered it: other variables of
    other hosts cannot be asked for, as they may be made of those of all hosts.
    """
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for host in hosts:
        if wanted := (host.get("haproxy_floating_check_result") or {}).get("wanted"):
            key = tuple(sorted(map(bare, wanted["addresses"])))
            groups.setdefault(key, []).append({**wanted, "name": host["inventory_hostname"]})
    found = [sentence for group in groups.values() for sentence in _of_group(group)]
    of_address: dict[str, tuple[str, ...]] = {}
    of_number: dict[int, tuple[str, ...]] = {}
    for addresses, group in groups.items():
        for address in addresses:
            other = of_address.setdefault(address, addresses)
            if other != addresses:
                found.append(
                    f"haproxy_floating_addresses: {_names(groups[other])} and {_names(group)} both have {address}, and "
                    "not all of the same addresses; give all of them the same list."
                )
        number = group[0]["router_id"] or derived_router_id(_announced(group[0]))
        other = of_number.setdefault(number, addresses)
        if other != addresses and not set(other) & set(addresses):
            found.append(
                f"haproxy_floating_router_id: {_names(groups[other])} (of {', '.join(other)}) and {_names(group)} (of "
                f"{', '.join(addresses)}) both have the number {number}, by which balancers of one network are told "
                "apart; set another one from 1 to 255 for one of them."
            )
    return found


def _of_group(group: Sequence[Mapping[str, Any]]) -> list[str]:
    """What balancers of the same addresses must say alike."""
    differ = [
        f"haproxy_floating_{name} differs between {_names(group)}, which have the same addresses; give them the same."
        for name in ("balancers", "router_id")
        if len({str(host[name]) for host in group}) > 1
    ]
    if not differ and len({bare(_announced(host)) for host in group}) > 1:
        differ.append(
            f"haproxy_floating_addresses is in another order on each of {_names(group)}; give them the same list, as "
            "balancers tell each other of its first address."
        )
    return differ


def _announced(wanted: Mapping[str, Any]) -> str:
    return announced(wanted["addresses"], wanted["balancers"])


def _names(group: Sequence[Mapping[str, Any]]) -> str:
    return " and ".join(str(host["name"]) for host in group)


class FilterModule:
    """What stands above, all of slipway.fleet."""

    def filters(self) -> dict[str, Any]:
        return {
            "standing_by": standing_by,
            "floating_beside": floating_beside,
            "peers_of": peers_of,
            "peers_seen": peers_seen,
            "floating_clashes": floating_clashes,
        }
