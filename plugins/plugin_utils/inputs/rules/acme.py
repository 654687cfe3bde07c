# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the variables of slipway.fleet.haproxy must be where its edge orders certificates by ACME."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.edge.certificates import DIRECTORIES, SELF_SIGNED
from ansible_collections.slipway.fleet.plugins.module_utils.edge.lego import ORDER_BY_DNS
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.files import text_of
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.values import Values

App = Mapping[str, Any]

_ADDRESS = {
    "haproxy_acme_addresses": r"[0-9.]+|[0-9a-f:]*:[0-9a-f:.]*",
    "haproxy_acme_peers": r"[A-Za-z0-9.-]+(:[0-9]+)?|\[[0-9a-f:.]+\](:[0-9]+)?",
}
_ADDRESS_USE = {
    "haproxy_acme_addresses": "IP addresses such as 203.0.113.10",
    "haproxy_acme_peers": "the addresses of other balancers such as 10.0.0.2 or 10.0.0.2:80",
}
# Seconds; one by DNS is not begun with less time left than it may take.
_LEAST_WAIT, _LEAST_WAIT_BY_DNS = 10, int(ORDER_BY_DNS) + 30


def orders(value_of: Values, apps: Sequence[App]) -> Iterator[str]:
    """A sentence for each value with which no certificate can be ordered."""
    email = str(value_of("haproxy_acme_email"))
    if not re.fullmatch(r"[^@\s]+@[^@\s]+\.[^@\s.]+", email):
        yield f"haproxy_acme_email is {json.dumps(email)}; use an address that is read, such as ops@example.org."
    if value_of("haproxy_tls_certificate"):
        yield (
            "haproxy_acme_email and haproxy_tls_certificate exclude each other; take away haproxy_tls_certificate to "
            "have certificates ordered, or haproxy_acme_email to keep the one of the vault."
        )
    yield from _authorities(value_of)
    yield from _bindings(value_of)
    yield from _dns(value_of)
    for name in ("haproxy_acme_addresses", "haproxy_acme_peers"):
        if wrong := [str(one) for one in value_of(name) if not re.fullmatch(_ADDRESS[name], str(one))]:
            yield f"{name} takes {_ADDRESS_USE[name]}, not {', '.join(wrong)}."
    by_dns = value_of("haproxy_acme_dns_hook") or value_of("haproxy_acme_dns_provider")
    least = _LEAST_WAIT_BY_DNS if by_dns else _LEAST_WAIT
    if int(value_of("haproxy_acme_wait")) < least:
        yield f"haproxy_acme_wait is {value_of('haproxy_acme_wait')}; use at least {least}, as an order takes."
    for app in apps:
        names = [str(name) for name in app.get("host_names") or ()]
        if not names:
            yield (
                f"haproxy_acme_email: {app['name']} has no host names, and a certificate is for names; set "
                "fastapi_app_host_names (host_names of haproxy_apps on a load balancer)."
            )
        if bare := _bare(app) if str(value_of("haproxy_acme_directory")) != SELF_SIGNED else []:
            yield (
                f"haproxy_acme_email: {', '.join(bare)} of {app['name']} is an address, and the client that Debian has "
                "orders certificates for names alone; use a name that leads there, haproxy_tls_certificate with one of "
                "your own authority for the address (docs/https.md), or in a lab haproxy_acme_directory: self-signed."
            )
        stars = [name for name in names if name.startswith("*")]
        if stars and not _takes_stars(value_of):
            yield (
                f"haproxy_acme_email: {', '.join(stars)} of {app['name']} stands for many names, for which no order "
                "is possible by HTTP; set haproxy_acme_dns_hook or haproxy_acme_dns_provider (docs/https.md), write "
                "the names out, or use haproxy_tls_certificate."
            )


def _bare(app: App) -> list[str]:
    """What stands among the names of an app and is none: no name ends with a number (RFC 3696, 2)."""
    names = [str(name) for key in ("host_names", "redirect_names") for name in app.get(key) or ()]
    return [name for name in names if name.rpartition(".")[2].isdigit()]


def _authorities(value_of: Values) -> Iterator[str]:
    for name, more in (
        ("haproxy_acme_directory", SELF_SIGNED),
        ("haproxy_acme_fallback_directory", ""),
        ("haproxy_acme_staging_directory", ""),
    ):
        value = str(value_of(name))
        if value not in {*DIRECTORIES, more} and not re.fullmatch(r"https://[^\s/]+/\S*", value):
            yield (
                f"{name} is {json.dumps(value)}; use {' or '.join(DIRECTORIES)}, or the address of a directory that "
                "begins with https://."
            )
    first, tried = str(value_of("haproxy_acme_directory")), str(value_of("haproxy_acme_staging_directory"))
    if tried and tried in {first, str(value_of("haproxy_acme_fallback_directory"))}:
        yield f"haproxy_acme_staging_directory is {tried}, as the authority itself; use another one, or leave it empty."
    if tried and first == SELF_SIGNED:
        yield "haproxy_acme_staging_directory is for an authority, and there is none with self-signed; leave it empty."
    path = str(value_of("haproxy_acme_ca_file") or "")
    if path and not has_certificate(path):
        yield f"haproxy_acme_ca_file: {path} is no file of this machine with a certificate (PEM); correct the path."


def _takes_stars(value_of: Values) -> bool:
    by_dns = value_of("haproxy_acme_dns_hook") or value_of("haproxy_acme_dns_provider")
    return bool(by_dns) or str(value_of("haproxy_acme_directory")) == SELF_SIGNED


def _bindings(value_of: Values) -> Iterator[str]:
    """Of accounts with authorities that take only whom they know. No key is shown."""
    for name, of in (
        ("haproxy_acme_eab", "haproxy_acme_directory"),
        ("haproxy_acme_fallback_eab", "haproxy_acme_fallback_directory"),
    ):
        given = value_of(name) or {}
        if not given:
            continue
        if set(given) != {"kid", "hmac"} or not all(isinstance(value, str) and value for value in given.values()):
            yield (
                f"{name} has {', '.join(sorted(map(str, given)))}; it takes two texts, kid and hmac, as the authority "
                "gave them, from vault.yml of this inventory."
            )
        elif not re.fullmatch(r"([A-Za-z0-9_-]{4}){4,}([A-Za-z0-9_-]{2,3})?={0,2}", given["hmac"]):
            yield f"{name}: hmac is no key as authorities give it (letters, digits, - and _); copy all of it."
        if str(value_of(of)) in {"", SELF_SIGNED}:
            yield f"{name} is for the authority of {of}, which is not set to one; take one away or set the other."


def _dns(value_of: Values) -> Iterator[str]:
    """Of challenges by DNS."""
    hook, provider = str(value_of("haproxy_acme_dns_hook") or ""), str(value_of("haproxy_acme_dns_provider"))
    environment = value_of("haproxy_acme_dns_environment") or {}
    if hook and provider:
        yield "haproxy_acme_dns_hook and haproxy_acme_dns_provider exclude each other; take one away."
    if provider in {"exec", "manual"} or not re.fullmatch("[a-z0-9-]*", provider):
        yield (
            f"haproxy_acme_dns_provider is {json.dumps(provider)}; use a name that `lego dnshelp` lists, such as "
            "hetzner, or haproxy_acme_dns_hook for a program of your own."
        )
    if hook and not (text_of(hook) or "").startswith("#!/"):
        yield (
            f"haproxy_acme_dns_hook: {hook} is no script of this machine that begins with #! and what runs it, such "
            "as #!/bin/sh; correct the path."
        )
    if wrong := sorted(str(name) for name in environment if not re.fullmatch("[A-Z][A-Z0-9_]*", str(name))):
        yield f"haproxy_acme_dns_environment: {', '.join(wrong)} is no name of a variable; use such as HETZNER_API_KEY."
    if odd := sorted(str(name) for name, value in environment.items() if not _is_line(value)):
        yield f"haproxy_acme_dns_environment: {', '.join(odd)} must be text of one line; put it in quotes."
    if environment and not (hook or provider):
        yield (
            "haproxy_acme_dns_environment is for a hook or a provider, and there is none; set haproxy_acme_dns_hook or "
            "haproxy_acme_dns_provider, or take it away."
        )
    resolvers = [str(one) for one in value_of("haproxy_acme_dns_resolvers")]
    if wrong := [one for one in resolvers if not re.fullmatch(r"([A-Za-z0-9.-]+|\[[0-9a-f:.]+\]):[0-9]+", one)]:
        yield f"haproxy_acme_dns_resolvers takes name servers such as 9.9.9.9:53, not {', '.join(wrong)}."


def _is_line(value: Any) -> bool:
    return isinstance(value, str) and "\n" not in value and "\0" not in value


def has_certificate(path: str) -> bool:
    """Whether it is a file of this machine with a certificate."""
    return "-----BEGIN CERTIFICATE-----" in (text_of(path) or "")
