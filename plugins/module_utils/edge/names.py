"""Whether a name leads to this edge, which is asked before an order: an authority counts the ones that fail."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Collection

# What the edge answers itself under the path of challenges, so that another balancer of the same fleet is known.
CHALLENGES = "/.well-known/acme-challenge/"
OWN = f"{CHALLENGES}slipway"
PATIENCE = 5.0  # seconds


def resolved(name: str) -> list[str]:
    """Its addresses by this host's resolver, each once. Raises OSError."""
    found = socket.getaddrinfo(name, 80, type=socket.SOCK_STREAM)
    return sorted({str(entry[4][0]) for entry in found})


def is_here(address: str) -> bool:
    """Whether an interface of this host has the address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def answer_of(address: str, name: str) -> str:
    """What port 80 of an address answers where this edge answers for itself; in brackets what went wrong."""
    connection = http.client.HTTPConnection(address, 80, timeout=PATIENCE)
    try:
        connection.request("GET", OWN, headers={"Host": name})
        answer = connection.getresponse()
        body = answer.read(256).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        return f"({getattr(error, 'strerror', None) or str(error) or type(error).__name__})"
    else:
        return body if answer.status == http.client.OK else f"(it answers {answer.status})"
    finally:
        connection.close()


def astray(
    name: str,
    declared: Collection[str],
    token: str,
    resolve: Callable[[str], list[str]] = resolved,
    local: Callable[[str], bool] = is_here,
    ask: Callable[[str, str], str] = answer_of,
) -> str:
    """Why an order for this name could not succeed, with what was found and what to do; empty where it could.

    Each address counts: the authority chooses one, and that of IPv6 first (letsencrypt.org/docs/ipv6-support). Right is
    one of this host, one that the variables declare, and one where an edge of this fleet answers: another balancer, or
    what is in front of this one.
    """
    try:
        addresses = resolve(name)
    except OSError as error:
        return (
            f"{name} cannot be resolved ({error.strerror or error}), so nothing was ordered for it; make an A or AAAA "
            "record that leads to this edge, then provision again"
        )
    for address in addresses:
        # /etc/hosts of a host often has its own name on loopback; that says nothing about what others find.
        if address.startswith("127.") or address in {"::1", *declared} or local(address):
            continue
        answer = ask(address, name)
        if answer != token:
            what = answer if answer.startswith("(") else "(something else answers there)"
            return (
                f"{name} leads to {address}, which is not this edge {what}, so nothing was ordered for it; found were "
                f"{', '.join(addresses)}. Correct the record, or, where that is an address of this edge that it cannot "
                "reach itself, name it in haproxy_acme_addresses"
            )
    return ""
