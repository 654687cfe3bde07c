# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the edge may be told of one app: redirects of names, limits, and who may ask.

On a host that serves they are variables of the app (`fastapi_app_redirect_names`), on a balancer keys of haproxy_apps.
"""

from __future__ import annotations

import ipaddress
import json
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.files import text_of
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.rules.names import fault
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.values import is_whole

App = Mapping[str, Any]

# What a rate has, and the most of it.
_RATE = {"requests": 1_000_000, "seconds": 3600}
# What it may have besides.
_AT_ONCE = {"at_once": 100_000}
_LONGEST_WAIT = 600
# SHA-256 and SHA-512 by crypt(3), of rounds that the edge has time for with each request; bcrypt and yescrypt are made
# to take a hundred times as long.
_HASH = re.compile(
    r"\$5\$(rounds=[1-9][0-9]{3}\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{43}|"
    r"\$6\$(rounds=[1-9][0-9]{3}\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{86}"
)
# What is compressed already, or must reach its reader as it comes.
_EVENTS = "text/event-stream"
_NOT_COMPRESSED = re.compile(
    r"image/(?!svg\+xml$|bmp$|x-icon$|vnd\.microsoft\.icon$).*|(video|audio)/.*|font/woff2?|"
    r"application/(zip|gzip|zstd|pdf|x-7z-compressed|x-xz|x-bzip2|octet-stream|grpc)"
)
# What browsers say of themselves; a word of it would shut their users out.
_BROWSERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/ Safari/537.36 Edg/",
    "Mozilla/5.0 (X11; Linux x86_64; rv:) Gecko/20100101 Firefox/",
    "Mozilla/5.0 (iPhone; CPU iPhone OS like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/ Mobile/",
    "Mozilla/5.0 (Linux; Android; Macintosh; Intel Mac OS X)",
)
# Bytes of a page beside its headers in a buffer of HAProxy's, which has 16 kB.
MOST_OF_A_PAGE = 12 << 10
_RATE_EXAMPLE = "{requests: 100, seconds: 10}"


def _where(app: App, key: str) -> str:
    return f"fastapi_app_{key} of {app['name']} ({key} in haproxy_apps)"


def redirects(app: App, apps: Sequence[App]) -> Iterator[str]:
    """A sentence for each thing that keeps names of an app from leading to its first one."""
    names = [str(name).lower() for name in app.get("redirect_names") or ()]
    own = [str(name).lower() for name in app.get("host_names") or ()]
    where = _where(app, "redirect_names")
    if not names:
        return
    if wrong := [name for name in names if not re.fullmatch("[a-z0-9.-]+", name)]:
        named = (f"{name} ({found})" if (found := fault(name)) else name for name in wrong)
        yield f"{where}: {', '.join(named)} cannot lead anywhere; write each name out, without scheme, port and star."
    if not own or own[0].startswith("*"):
        yield (
            f"{where} lead to the first of its host names, which is {own[0] if own else 'not there'}; set "
            "fastapi_app_host_names with a name told in full first."
        )
    if both := sorted(set(names) & set(own)):
        yield f"{where}: {', '.join(both)} is a host name of the app, too; take it out of one of the two."
    if twice := sorted({name for name in names if names.count(name) > 1}):
        yield f"{where}: {', '.join(twice)} stands there more than once; leave one."
    for other in apps:
        theirs = {str(name).lower() for key in ("host_names", "redirect_names") for name in other.get(key) or ()}
        if other is not app and (taken := sorted(set(names) & theirs)):
            yield f"{where}: {', '.join(taken)} is a name of {other['name']}; take it out of one of the two."


def limits(app: App) -> Iterator[str]:
    """A sentence for each limit of an app that none can be."""
    most = int(app.get("max_body_mib") or 0)
    if most < 0:
        yield f"{_where(app, 'max_body_mib')} is {most}; use the MiB that a body may have, or 0 for no limit."
    slots = int(app.get("max_connections") or 0)
    if slots < 0:
        yield f"{_where(app, 'max_connections')} is {slots}; use what a slot does at a time, or 0 for no limit."
    wait = app.get("max_wait", 1)
    if not (is_whole(wait) and 1 <= int(str(wait)) <= _LONGEST_WAIT):
        yield (
            f"{_where(app, 'max_wait')} is {json.dumps(wait)}; use the seconds that a request may wait for its "
            f"turn, from 1 to {_LONGEST_WAIT}."
        )
    if rate := app.get("rate_limit"):
        yield from _rate(_where(app, "rate_limit"), rate)


def _rate(where: str, rate: Mapping[str, Any]) -> Iterator[str]:
    if unknown := sorted(str(key) for key in rate if key not in {*_RATE, *_AT_ONCE, "key"}):
        yield f"{where} has {', '.join(unknown)}; known are {', '.join(_RATE)}, at_once and key, as in {_RATE_EXAMPLE}."
    for name, most in {**_RATE, **_AT_ONCE}.items():
        value = rate.get(name, 1 if name in _AT_ONCE else None)
        if not (is_whole(value) and 1 <= int(str(value)) <= most):
            yield f"{where}: {name} is {json.dumps(value)}; use a whole number from 1 to {most}, as in {_RATE_EXAMPLE}."
    if not re.fullmatch("[A-Za-z0-9-]+", str(rate.get("key", "address"))):
        yield f"{where}: key is {json.dumps(rate['key'])}; use address, or the name of a header such as X-Api-Key."


def who_may(app: App) -> Iterator[str]:
    """A sentence for each network that is none, and for each user whose password nobody could say. Shows no hash."""
    if wrong := [str(one) for one in app.get("allowed_networks") or () if not _is_network(str(one))]:
        yield f"{_where(app, 'allowed_networks')} takes networks such as 203.0.113.0/24, not {', '.join(wrong)}."
    yield from _agents(app)
    users = app.get("basic_auth") or {}
    where = _where(app, "basic_auth")
    for key in ("health_path", "version_path"):
        closed = [name for name in ("allowed_networks", "basic_auth") if app.get(name)]
        closed += ["client_certificate_paths"] * ("/" in (app.get("client_certificate_paths") or ()))
        if closed and str(app.get(key)).partition("?")[0] == "/":
            yield (
                f"{_where(app, closed[0])} would leave the page / open to everybody, since those who look whether the "
                f"app is well ask for it; set fastapi_app_{key} to a path that has nothing else."
            )
    if strange := sorted(str(user) for user in users if not re.fullmatch("[A-Za-z0-9._@-]{1,64}", str(user))):
        yield f"{where}: {json.dumps(strange)[1:-1]} cannot be the name of a user; use letters, digits and ._@-."
    if plain := sorted(str(user) for user, text in users.items() if not _HASH.fullmatch(str(text))):
        yield (
            f"{where}: the value of {', '.join(plain)} is no hash of a password that the edge takes; make one by "
            "`openssl passwd -6`, which begins with $6$, and put it into vault.yml of this inventory with "
            "`ansible-vault edit`."
        )


def _agents(app: App) -> Iterator[str]:
    where = _where(app, "blocked_agents")
    words = [str(word) for word in app.get("blocked_agents") or ()]
    if wrong := [word for word in words if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._/+:;()@-]{2,127}", word)]:
        yield (
            f"{where}: {json.dumps(wrong)[1:-1]} cannot be looked for; use a word of three letters or more as the "
            "program has it in User-Agent, such as GPTBot, without * and other signs of patterns."
        )
    if everybody := [word for word in words if any(word.lower() in said.lower() for said in _BROWSERS)]:
        yield f"{where}: {', '.join(everybody)} is in what browsers say, so users would be refused; take it away."


def compressed(app: App) -> Iterator[str]:
    """A sentence for each type of which no answer is to be compressed."""
    where = _where(app, "compression")
    types = [str(one).lower() for one in app.get("compression") or ()]
    if wrong := [one for one in types if not re.fullmatch(r"[a-z]+/[a-z0-9][a-z0-9.+-]*", one)]:
        yield f"{where} takes types of answers such as application/json, each in full, not {', '.join(wrong)}."
    # HAProxy takes a type for the beginning of one.
    known = [one for one in types if one not in wrong]
    if small := [one for one in known if _NOT_COMPRESSED.fullmatch(one) or _EVENTS.startswith(one)]:
        yield (f"{where}: {', '.join(small)} is compressed already, or must not wait to be ({_EVENTS}); take it away.")


def own_page(app: App) -> Iterator[str]:
    """A sentence where the maintenance page of an app cannot be shown."""
    path = str(app.get("maintenance_page") or "")
    if not path:
        return
    where = f"{_where(app, 'maintenance_page')}: {path}"
    text = text_of(path)
    if text is None:
        yield f"{where} is no file that this machine can read; correct the path."
    elif not text.strip():
        yield f"{where} is empty; put the page there."
    elif "\ufffd" in text:
        yield f"{where} is not in UTF-8, as which it is shown; save it so."
    elif (size := len(text.replace("%", "%%").encode())) > MOST_OF_A_PAGE:
        yield (
            f"{where} has {size} bytes (a percent sign counts twice), and HAProxy has room for {MOST_OF_A_PAGE}; make "
            "it smaller, with large images from another site or none."
        )


def certificates_of_clients(app: App, authorities: str, tls: bool, proxies: bool) -> Iterator[str]:
    """A sentence for each thing that keeps paths of an app from being asked for with a certificate.

    Args:
        app: an entry of haproxy_apps
        authorities: haproxy_client_ca_file
        tls: whether the edge speaks TLS
        proxies: whether it believes those before it, which without TLS say whose certificate was shown to them
    """
    paths = [str(path) for path in app.get("client_certificate_paths") or ()]
    where = _where(app, "client_certificate_paths")
    if not paths:
        return
    if wrong := [path for path in paths if not re.fullmatch(r"/|(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+", path)]:
        yield (
            f"{where}: {json.dumps(wrong)[1:-1]} cannot be a path; begin with a slash, end without one, and use "
            "letters, digits and ._~- between, as in [/internal]; [/] is everything."
        )
    if proxies and not tls:
        return
    if not authorities:
        yield f"{where} needs haproxy_client_ca_file, the authorities whose certificates are right."
    if not tls:
        yield (
            f"{where} needs TLS at this edge: set haproxy_acme_email or haproxy_tls_certificate. Behind a load "
            "balancer that has the certificate set haproxy_trusted_proxies to its addresses, and "
            "client_certificate_paths in its haproxy_apps, too."
        )


def wrong_authorities(path: str) -> str:
    """The end of a sentence on a file of this machine that cannot be the authorities of clients; empty if it can."""
    text = text_of(path)
    if text is None:
        return "is no file that this machine can read; correct the path"
    if "PRIVATE KEY-----" in text:
        return "has a private key in it, which would be on every host; leave only certificates"
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except ssl.SSLError:
        return "has no certificate (PEM), or one that cannot be read; put the authorities there, each whole"
    return ""


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True
