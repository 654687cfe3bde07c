# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What is made of what was seen of an image: its server, the path that tells how it is. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from ansible_collections.slipway.fleet.plugins.module_utils.host.reading import object_of
from ansible_collections.slipway.fleet.plugins.module_utils.openapi.document import NoDocument, parsed
from ansible_collections.slipway.fleet.plugins.module_utils.openapi.uploads import uploads
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.trial import Answer, Seen, Shipped

OPENAPI = "/openapi.json"
# In this order: one that says that it can serve before one that says that it lives.
USUAL = (
    "/readyz", "/healthz", "/health", "/health/", "/ready", "/health/ready", "/healthcheck", "/livez", "/health/live",
    "/api/healthz", "/api/health", "/api/v1/health", "/api/v1/utils/health-check/", "/_health", "/-/healthy", "/ping",
    "/status", "/up",
)  # fmt: skip
LAST = ("/", "/docs", OPENAPI)
FAILED = 500  # and above: the app's own failure, while 404 says that there is no such path
_TELLING = re.compile(r"(ready|health|alive|livez|ping|status|heartbeat)", re.IGNORECASE)
_URL = re.compile(r"https?://(?:localhost|127\.0\.0\.1|0\.0\.0\.0|\[::1\])(?::[\w${}:-]+)?(/[^\s'\"|;)]*)")
_SERVERS = ("gunicorn", "hypercorn", "granian", "daphne", "uvicorn", "fastapi")


def health_check_path(shipped: Shipped) -> str:
    """The path that the image's own HEALTHCHECK asks for; empty where it does not say."""
    match = _URL.search(shipped.health_check)
    return match[1] if match else ""


def documented(openapi: str) -> list[str]:
    """Paths of an OpenAPI document whose names say that they tell how the app is: GET, and no parameter in them."""
    try:
        paths = object_of(openapi)["paths"]
        found = [path for path, methods in paths.items() if "get" in methods and "{" not in path]
    except (AttributeError, KeyError, TypeError, ValueError):
        return []
    return telling(found)


def takes_files(openapi: str) -> list[str]:
    """Operations that take files, by an OpenAPI document."""
    try:
        return uploads(parsed(openapi))
    except NoDocument:
        return []


def telling(paths: Iterable[str]) -> list[str]:
    """Those whose names say that they tell how the app is, the best one first."""
    return sorted((path for path in paths if _TELLING.search(path)), key=lambda path: ("ready" not in path, len(path)))


def candidates(shipped: Shipped, openapi: str = "") -> list[str]:
    """Paths to ask for, the best one first."""
    own = [path for path in (shipped.named_path, health_check_path(shipped)) if path]
    return list(dict.fromkeys([*own, *documented(openapi), *USUAL, *LAST]))


def health_path(shipped: Shipped, answers: Mapping[str, Answer], openapi: str = "") -> tuple[str, str]:
    """The path that a gate can ask for, and why it; both empty where none answers well."""
    own, told = health_check_path(shipped), documented(openapi)
    for path in candidates(shipped, openapi):
        answer = answers.get(path)
        if answer is None or not answer.good:
            continue
        if path == shipped.named_path:
            return path, f"you named it, and it answers {answer.status}"
        if path == own:
            return path, f"the HEALTHCHECK of the image asks for it, and it answers {answer.status}"
        if path in told:
            return path, f"its {OPENAPI} has it, and it answers {answer.status}"
        if path in LAST:
            why = f"no path of the usual names for health answers well; this one does, with {answer.status}"
            return path, "; but ".join(filter(None, [why, _unwell(shipped, answers, openapi)]))
        return path, f"a usual name, and it answers {answer.status}"
    return "", ""


def _unwell(shipped: Shipped, answers: Mapping[str, Answer], openapi: str) -> str:
    """That a path which tells how the app is failed here, where it had no database; empty where none did."""
    told = [path for path in candidates(shipped, openapi) if path not in LAST]
    for path in told:
        if (answer := answers.get(path)) and answer.status >= FAILED:
            return (
                f"{path} is there and answered {answer.status}: where that is for what it has not here, such as a "
                "database, name it instead, since this one answers whatever the app lacks"
            )
    return ""


def server(seen: Seen) -> str:
    """What serves, by the words of its processes, such as `uvicorn`; empty where no known one is among them."""
    names = [name for command in seen.commands for name in named(command)]
    return next((name for name in _SERVERS if name in names), "")


def named(command: Sequence[str]) -> Iterable[str]:
    """The servers that one command names: by its program, as a module, or in a title that a process gave itself."""
    for word in command[:4]:
        base = word.rpartition("/")[2].partition(":")[0].partition(" ")[0].strip("[]")
        if base in _SERVERS:
            yield base
