# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the variables of slipway.fleet.haproxy must be beyond their types."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.release.doors import FOR_EXAMPLE, ports_of, wrong_ports
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.rules import acme, floating, paths, protection
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.rules import names as host_names
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.rules.fastapi_app import (
    PATH,
    PATH_USE,
    STATUSES,
    STATUSES_USE,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.values import Values

App = Mapping[str, Any]

_RAREST = 1_000_000  # good answers for a line of the access log
_NETWORKS = (
    "haproxy_private_networks",
    "haproxy_maintenance_passes",
    "haproxy_trusted_proxies",
    "haproxy_proxy_protocol",
)
_SERVER_TIMEOUT = 75  # of an app that does not say; the template says the same


def edge(value_of: Values) -> Iterator[str]:
    """A sentence for each value that no edge can be run with."""
    apps: Sequence[App] = value_of("haproxy_apps")
    names = [str(app["name"]) for app in apps]
    authorities = str(value_of("haproxy_client_ca_file") or "")
    tls = bool(str(value_of("haproxy_tls_certificate")) or str(value_of("haproxy_acme_email")))
    yield from _names(names)
    yield from _kinds(apps, names)
    yield from _slots([app["slots"] or {} for app in apps if "slots" in app])
    yield from _ports([app for app in apps if "slots" in app])
    yield from _servers([app["servers"] or {} for app in apps if "servers" in app])
    yield from _host_names(apps)
    for app in apps:
        yield from paths.paths(app)
        yield from protection.redirects(app, apps)
        yield from protection.limits(app)
        yield from protection.who_may(app)
        yield from protection.compressed(app)
        yield from protection.own_page(app)
        yield from protection.certificates_of_clients(app, authorities, tls, bool(value_of("haproxy_trusted_proxies")))
    if not 1 <= int(value_of("haproxy_log_sample")) <= _RAREST:
        yield (
            f"haproxy_log_sample is {value_of('haproxy_log_sample')}; use the number of good answers of which one is "
            f"logged, from 1 (each) to {_RAREST}."
        )
    hsts = str(value_of("haproxy_tls_hsts")).lower()
    if not re.fullmatch("auto|true|false|[0-9]{1,9}", hsts):
        yield f"haproxy_tls_hsts is {hsts}; use auto, true, false, or the seconds for which browsers stay with HTTPS."
    yield from _patience(int(value_of("haproxy_client_timeout")), apps)
    yield from _paths(value_of("haproxy_private_paths"))
    yield from _health(apps)
    yield from _networks(str(network) for name in _NETWORKS for network in value_of(name))
    yield from _maintenance([str(name) for name in value_of("haproxy_maintenance")], names)
    yield from _certificate(str(value_of("haproxy_tls_certificate")))
    if authorities and (wrong := protection.wrong_authorities(authorities)):
        yield f"haproxy_client_ca_file: {authorities} {wrong}."
    if str(value_of("haproxy_acme_email")):
        yield from acme.orders(value_of, apps)
    if value_of("haproxy_floating_addresses"):
        yield from floating.floating(value_of)


def _all_like(pattern: str, texts: Iterable[Any]) -> bool:
    return all(re.fullmatch(pattern, str(text)) for text in texts)


def _are_once(texts: Sequence[str]) -> bool:
    return len(set(texts)) == len(texts)


def _names(names: Sequence[str]) -> Iterator[str]:
    if not (_all_like("[a-z][a-z0-9-]{0,30}", names) and _are_once(names)):
        yield (
            "haproxy_apps: every name must be there once, of at most 31 lower case letters, digits and dashes, a "
            f"letter first; found {', '.join(names)}."
        )


def _kinds(apps: Sequence[App], names: Sequence[str]) -> Iterator[str]:
    if not all(("slots" in app) != ("servers" in app) for app in apps):
        yield (
            "haproxy_apps: each app has either slots (on a host that serves) or servers (on a load balancer); look at "
            f"{', '.join(names)}."
        )


def _slots(slots: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if any(sorted(of_app) != ["blue", "green"] for of_app in slots):
        yield (
            "haproxy_apps: slots must name the sockets of blue and green, as in slots: {blue: "
            "/run/slipway/NAME/blue/app.sock, green: /run/slipway/NAME/green/app.sock}."
        )
    sockets = [str(socket) for of_app in slots for socket in of_app.values()]
    if not _are_once([os.path.dirname(socket) for socket in sockets]):
        yield (
            "haproxy_apps: every slot needs a socket in a directory of its own, such as "
            "/run/slipway/NAME/blue/app.sock (it was /run/slipway/NAME/blue.sock, where an app could write beside it); "
            f"found {', '.join(sockets)}."
        )


def _ports(apps: Sequence[App]) -> Iterator[str]:
    of_port: dict[int, str] = {}
    for app in apps:
        name, given = str(app["name"]), app.get("ports") or {}
        if wrong := wrong_ports(given):
            yield f"haproxy_apps: ports of {name} are {json.dumps(given)}; {wrong}, {FOR_EXAMPLE}."
            continue
        for port in ports_of(name, given).values():
            other = of_port.setdefault(port, name)
            if other != name:
                yield (
                    f"haproxy_apps: {other} and {name} have the same port {port} of the host for a slot; give one of "
                    f"them `ports` of its own, {FOR_EXAMPLE}, and the same to its fastapi_app_slot_ports."
                )


def _servers(servers: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    names = [name for of_app in servers for name in of_app]
    addresses = [str(address) for of_app in servers for address in of_app.values()]
    right = _all_like("[A-Za-z0-9][A-Za-z0-9._-]*", names) and _all_like("[A-Za-z0-9.:_-]+:[0-9]+", addresses)
    if not (right and all(servers)):
        yield (
            "haproxy_apps: servers must name at least one host with address and port, as in servers: {web1: "
            f'"10.0.0.11:80", web2: "10.0.0.12:80"}}; found {", ".join(addresses) or "none"}.'
        )


def _host_names(apps: Sequence[App]) -> Iterator[str]:
    for_any = [str(app["name"]) for app in apps if not app.get("host_names") and not app.get("paths")]
    names = [str(name) for app in apps for name in app.get("host_names") or ()]
    parts = [
        f"{str(name).lower()}{path}"
        for app in apps
        for name in app.get("host_names") or [""] * bool(app.get("paths"))
        for path in app.get("paths") or [""]
    ]
    for app in apps:
        where = f"fastapi_app_host_names of {app['name']} (host_names in haproxy_apps)"
        yield from host_names.wrong(where, app.get("host_names") or ())
    if len(for_any) > 1 or not _are_once(parts):
        yield (
            "haproxy_apps: a host name can belong to one app only, or a part of it by `paths`, and only one app can do "
            f"without host_names. Without are {', '.join(for_any) or 'none'}; the names are "
            f"{', '.join(names) or 'none'}."
        )


def _patience(client_timeout: int, apps: Sequence[App]) -> Iterator[str]:
    longest = max((int(app.get("server_timeout", _SERVER_TIMEOUT)) for app in apps), default=0)
    if client_timeout < longest:
        yield (
            f"haproxy_client_timeout ({client_timeout}) must be at least the longest server_timeout of haproxy_apps "
            f"({longest}); otherwise the edge gives clients up that wait for an answer."
        )


def _paths(paths: Iterable[Any]) -> Iterator[str]:
    if not _all_like("/[A-Za-z0-9/._~-]*[A-Za-z0-9._~-]", paths):
        yield ("haproxy_private_paths: a path begins with a slash, does not end with one, and has no spaces or quotes.")


def _health(apps: Sequence[App]) -> Iterator[str]:
    for app in apps:
        path, statuses = str(app.get("health_path", paths.HEALTH_PATH)), app.get("health_statuses", ["200-299"])
        if not re.fullmatch(PATH, path):
            yield f"haproxy_apps: health_path of {app['name']} is {path}; use {PATH_USE}."
        if not statuses or not _all_like(STATUSES, statuses):
            yield (
                f"haproxy_apps: health_statuses of {app['name']} is {', '.join(map(str, statuses)) or 'empty'}; use "
                f"{STATUSES_USE}."
            )


def _networks(networks: Iterable[str]) -> Iterator[str]:
    like = "([0-9.]+|[0-9a-fA-F:]*:[0-9a-fA-F:.]*)(/[0-9]{1,3})?"
    if wrong := [network for network in networks if not re.fullmatch(like, network)]:
        yield (
            f"{', '.join(_NETWORKS[:-1])} and {_NETWORKS[-1]} take addresses and networks such as 10.0.0.0/8, not "
            f"{', '.join(wrong)}."
        )


def _maintenance(shown: Iterable[str], names: Sequence[str]) -> Iterator[str]:
    if unknown := [name for name in shown if name not in names]:
        yield f"haproxy_maintenance: {', '.join(unknown)} is not in haproxy_apps ({', '.join(names)})."


def _certificate(text: str) -> Iterator[str]:
    there = "-----BEGIN CERTIFICATE-----" in text and re.search("-----BEGIN [A-Z ]*PRIVATE KEY-----", text)
    if text and not there:
        yield (
            "haproxy_tls_certificate must hold the certificate, the intermediate ones and the unencrypted private key, "
            "all as PEM, one after the other; set its vault_* variable with `ansible-vault edit` in vault.yml of this "
            "inventory."
        )
