# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the paths of an app may be that has a part of its host names.

On a host that serves they are variables of the app (`fastapi_app_paths`), on a balancer keys of haproxy_apps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from itertools import permutations
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.slipway.fleet.plugins.module_utils.edge.routing import part_of

HEALTH_PATH = "/readyz"  # of an app that does not say; the template of its piece says the same
# Segments that need no escape, since the edge compares what they are without one; none of them leads elsewhere.
_PATH = r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+"


def paths(app: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each thing that keeps an app (an entry of haproxy_apps) from having a part of its names."""
    own = [str(path) for path in app.get("paths") or ()]
    strip = boolean(app.get("strip_path") or False, strict=False)
    where, stripping = (
        f"fastapi_app_{key} of {app['name']} ({key} in haproxy_apps)" for key in ("paths", "strip_path")
    )
    if strip and not own:
        yield f"{stripping} is true, and it has no path that could be left out; set fastapi_app_paths, or take it away."
    if strip and "servers" in app:
        yield f"{stripping} is for hosts that serve, which know the app by its path; take it away on the load balancer."
    wrong = [path for path in own if not re.fullmatch(_PATH, path)]
    if wrong:
        yield (
            f"{where}: {json.dumps(wrong)[1:-1]} cannot be a path; begin with a slash, end without one, and use "
            "letters, digits and ._~- between, as in [/api]. For everything under its names leave it empty."
        )
        return
    if twice := sorted({path for path in own if own.count(path) > 1}):
        yield f"{where}: {', '.join(twice)} stands there more than once; leave one."
    for inner, outer in sorted(permutations(set(own), 2)):
        if part_of(inner, [outer]):
            yield f"{where}: {inner} is below {outer}, which has it already; take {inner} out."
    if own and not strip:
        yield from _looks(app, own, "servers" in app)


def _looks(app: Mapping[str, Any], own: list[str], balancer: bool) -> Iterator[str]:
    """How an app is looked at through the edge must be its own, too: the rest of its names may be another app's."""
    for key, usual in (("health_path", HEALTH_PATH), ("version_path", "")):
        asked = str(app.get(key) or usual)
        if asked and part_of(asked.partition("?")[0], own) is None:
            name = key if balancer else f"fastapi_app_{key}"
            yield (
                f"{name} of {app['name']} is {asked}, which is at none of its paths ({', '.join(own)}): asked through "
                f"the edge it may be another app's. Set it to a path below, such as {own[0]}{asked}, or add "
                f"{asked.partition('?')[0]} to fastapi_app_paths where no other app of the name has it."
            )
