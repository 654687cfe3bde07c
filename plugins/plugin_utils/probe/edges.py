# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Where requests from the controller reach an app, by the variables that make its edges. Asks nobody."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Optional, Union
from urllib.parse import urlsplit

from ansible.module_utils.parsing.convert_bool import boolean

CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
EVERY_IPV4, EVERY_IPV6 = {"*", "0.0.0.0"}, {"::"}  # noqa: S104 - what an edge listens on is only read here


@dataclass(frozen=True)
class Edge:
    """An edge as the probe asks it.

    `host` is the inventory's name, empty for a URL that an operator named. `name` is asked for (Host and the name in
    the certificate), empty for that of the URL. `trusted` are the certificates of the inventory, PEM without keys. One
    that `balances` serves what any host does.
    """

    url: str
    host: str = ""
    name: str = ""
    trusted: str = field(default="", repr=False)
    balances: bool = False


class Unaskable(ValueError):
    """An edge cannot be asked from the controller; the text names it, says why, and which variable to set."""


def edges_of(
    hostvars: Mapping[str, Mapping[str, Any]],
    groups: Mapping[str, Sequence[str]],
    app: str,
    urls: Sequence[str] = (),
) -> tuple[list[Edge], list[str]]:
    """The edges of an app, and a sentence for each that cannot be asked.

    They are the balancers, else the web hosts; where an operator names `urls`, those and nothing else. Scheme, names,
    address and certificate are what role haproxy makes of the same variables; `slipway_url` of a host wins over the
    first and the third.
    """
    hosts = list(groups.get("load_balancer") or groups.get("web") or ())
    if urls:
        known = hostvars[hosts[0]] if hosts else {}
        try:
            return [named_by_operator(url, known, app) for url in urls], []
        except Unaskable as error:
            return [], [str(error)]
    found, wrong = [], []
    for host in hosts:
        try:
            found.append(replace(edge_of(host, hostvars[host], app), balances=bool(groups.get("load_balancer"))))
        except Unaskable as error:
            wrong.append(str(error))
    return found, wrong


def edge_of(host: str, known: Mapping[str, Any], app: str) -> Edge:
    """The edge of one host. Raises Unaskable."""
    certificate = str(known.get("haproxy_tls_certificate") or "")
    url = known.get("slipway_url")
    if not url:
        scheme = "https" if certificate or known.get("haproxy_acme_email") else "http"
        url = f"{scheme}://{in_url(address_of(host, known))}"
    certified = names_in(certificate, host) if certificate and url.startswith("https:") else []
    name = name_for(host_in(url), host_names(host, known, app), certified)
    return Edge(url, host, name, trusted_at(certificate or authorities(host, known)))


def named_by_operator(url: str, known: Mapping[str, Any], app: str) -> Edge:
    """A URL as it was named; by an address it is asked for the app's first name."""
    names = host_names("", known, app) if address(host_in(url)) or host_in(url) == "localhost" else []
    certificate = str(known.get("haproxy_tls_certificate") or "") if names else ""
    return Edge(url, "", names[0] if names else "", trusted_at(certificate or authorities("", known)), balances=True)


def trusted_at(pem: str) -> str:
    """The certificates of a text, without keys."""
    return "\n".join(CERTIFICATE.findall(pem))


def authorities(host: str, known: Mapping[str, Any]) -> str:
    """The private authority that issues for an edge by ACME; empty where there is none. Raises Unaskable."""
    path = str(known.get("haproxy_acme_ca_file") or "")
    try:
        return Path(path).read_text(encoding="utf-8") if path and known.get("haproxy_acme_email") else ""
    except (OSError, ValueError) as error:
        raise Unaskable(f"haproxy_acme_ca_file of {host or 'the edge'} cannot be read: {error}") from None


def host_names(host: str, known: Mapping[str, Any], app: str) -> list[str]:
    """The names under which an edge serves the app; none where it does for every name. Raises Unaskable.

    A host that serves needs no haproxy_apps: role haproxy makes it of the app's own variables.
    """
    if known.get("haproxy_apps") is None:
        return [plain(name) for name in known.get("fastapi_app_host_names") or ()]
    apps = [entry for entry in known.get("haproxy_apps") or () if isinstance(entry, Mapping)]
    mine = [entry for entry in apps if entry.get("name") == app]
    if apps and not mine and host:
        served = ", ".join(str(entry.get("name")) for entry in apps)
        raise Unaskable(f"the edge of {host} serves {served} and not {app} (haproxy_apps)")
    return [plain(name) for entry in mine for name in entry.get("host_names") or ()]


def stripped(known: Mapping[str, Any], app: str) -> str:
    """The path under which the edge of a host that serves has the app, where the app does not know it; else nothing."""
    of_app = {"paths": known.get("fastapi_app_paths"), "strip_path": known.get("fastapi_app_strip_path")}
    if known.get("haproxy_apps") is not None:
        apps = [entry for entry in known["haproxy_apps"] if isinstance(entry, Mapping)]
        of_app = next((dict(entry) for entry in apps if entry.get("name") == app), {})
    paths = of_app.get("paths") or ()
    return str(paths[0]) if paths and boolean(of_app.get("strip_path") or False, strict=False) else ""


def plain(name: Any) -> str:
    """A name that can be asked for, of one that may stand for all below another."""
    return str(name).lower().replace("*", "www", 1)


def address_of(host: str, known: Mapping[str, Any]) -> str:
    """Where a host's edge listens, as the controller reaches it. Raises Unaskable."""
    own = str(known.get("ansible_host") or host).strip("[]")
    listens = [str(one).strip("[]") for one in known.get("haproxy_addresses") or ()]
    literal = address(own)
    everywhere = EVERY_IPV4 | EVERY_IPV6 if literal is None else EVERY_IPV6 if literal.version == 6 else EVERY_IPV4
    if not listens or own in listens or everywhere & set(listens):
        return own
    for one in listens:
        if (known_as := address(one)) and not (known_as.is_loopback or known_as.is_unspecified):
            return one
    raise Unaskable(
        f"the edge of {host} listens on {', '.join(listens)} (haproxy_addresses) and not on {own}; "
        "set slipway_url of the host to where the controller reaches it"
    )


def name_for(asked: str, names: Sequence[str], certified: Sequence[str]) -> str:
    """The name to ask for at `asked`; empty for that itself.

    Args:
        asked: host of the URL, in lower case
        names: of the app at the edge; none where it serves every name
        certified: names and addresses in the edge's certificate; none where there is no TLS
    """
    if names:
        if asked in names:
            return ""
        return next((name for name in names if any(covers(pattern, name) for pattern in certified)), names[0])
    if not certified or any(covers(pattern, asked) for pattern in certified):
        return ""
    return certified[0].replace("*", "www", 1)


def covers(pattern: str, name: str) -> bool:
    """Whether a name of a certificate stands for this one (RFC 6125, 6.4.3: a star is one label, the first)."""
    if pattern.startswith("*."):
        return name.partition(".")[2] == pattern[2:]
    return pattern == name


def names_in(certificate: str, host: str) -> list[str]:
    """Names and addresses of the first certificate, names first. Raises Unaskable."""
    from cryptography import x509  # noqa: PLC0415 - a probe that asks by a certificate's names is rare, and this is slow to load

    blocks = CERTIFICATE.findall(certificate)
    try:
        first = x509.load_pem_x509_certificate(blocks[0].encode())
        names = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found = [name.lower() for name in names.get_values_for_type(x509.DNSName)]
        found += [str(one) for one in names.get_values_for_type(x509.IPAddress)]
    except (IndexError, ValueError):
        raise Unaskable(f"the certificate of {host} (haproxy_tls_certificate) cannot be read") from None
    except x509.ExtensionNotFound:
        found = []
    if not found:
        raise Unaskable(
            f"the certificate of {host} (haproxy_tls_certificate) names no host (subjectAltName), so no client takes it"
        )
    return found


def address(text: str) -> Optional[Union[ipaddress.IPv4Address, ipaddress.IPv6Address]]:
    """The IP address that a text is, None for a name."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def in_url(host: str) -> str:
    """A host as a URL has it (RFC 3986, 3.2.2: an IPv6 address in brackets)."""
    return f"[{host}]" if ":" in host else host


def host_in(url: str) -> str:
    """The host of a URL in lower case, without brackets; empty where it has none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
