# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What an upgrade of a database server will do, why it may not be done, and what it did. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.upgrade.model import GOING_BACK
from ansible_collections.slipway.fleet.plugins.plugin_utils.report.amounts import size, span

# Why databases are not taken along.
_LEFT = "a template, closed to all, or left by a restore that was cut"


def plan(told: Mapping[str, Any], set_before: bool) -> list[str]:
    """What will be done, a line each; `set_before`: a set of the host is made first."""
    way = f"PostgreSQL {told['from']} to {told['to'] or 'a version that its image tells once it is on the host'}"
    if told["cut"]:
        return [f"{way}: an earlier run was cut; what it began is finished or taken back first"]
    if told["problems"] and not told["from"]:
        return []
    if not told["needed"]:
        return [f"PostgreSQL {told['from']} serves, which is what the inventory names: nothing to do"]
    safety = "a set of the host is made first" if set_before else "no set of the host is made first"
    if told["verb"] == GOING_BACK:
        return [
            f"back from {way}, with its data as it was at {told['since']}",
            f"what was written since then is not in it; it stays in {told['kept']}",
            f"nobody is let into the database for some seconds; {safety}",
            *_others(told),
        ]
    disk = told["disk"]
    databases = ", ".join(f"{name} ({size(count)})" for name, count in told["databases"].items())
    checked = f"{told['version']} has all extensions and locales that they need"
    unknown = (
        "which extensions and locales the new version has is seen once it is on the host, before anything is stopped"
    )
    return [
        f"{way}{', ' + told['version'] if told['version'] else ''}: {databases}",
        f"sorted by {', '.join(told['sorted'])}; {checked if told['version'] else unknown}",
        f"the new data needs {size(disk['needed'])} on the disk of {disk['path']}, and {size(disk['free'])} are free",
        f"nobody is let into the database for {_how_long(told)}; {safety}",
        "what serves now is kept as it is, to go back to",
        *([f"the cluster {told['aside']}, which is there, is stopped and gets another name"] if told["aside"] else []),
        *([f"not in the new server: {', '.join(told['left'])}: {_LEFT}"] if told["left"] else []),
        *([f"not in the new server: the replication slots {', '.join(told['slots'])}"] if told["slots"] else []),
        *_others(told),
    ]


def _how_long(told: Mapping[str, Any]) -> str:
    took = told["took"]
    if took is None:
        return f"as long as {size(told['bytes'])} take from one server into another, which nobody has measured here"
    return f"about {span(took['seconds'])}, which the last {took['what']} took"


def _others(told: Mapping[str, Any]) -> list[str]:
    apps: Sequence[str] = told["apps"]
    return (
        [f"the server is that of {' and '.join(apps)}: show the page of each (slipway.fleet.maintenance)"]
        if len(apps) > 1
        else []
    )


def refused(told: Mapping[str, Any], confirmed: str, host: str) -> str:
    """Why it may not be done; empty where it may. `host` is the inventory's name of the database's host."""
    if told["problems"]:
        return f"Nothing was done: {'; '.join(told['problems'])}."
    if not told["needed"]:
        return ""
    names = ",".join(sorted(told["names"]))
    typed = ",".join(sorted(word.strip() for word in confirmed.split(",")))
    ways = [f"-e slipway_confirm={name}" for name in dict.fromkeys([names, host]) if name]
    if typed and typed in (names, host):
        return ""
    said = f"slipway_confirm is {confirmed}" if confirmed else "slipway_confirm is empty"
    lost = f"what was written since {told['since']} is lost to the apps then; " if told.get("since") else ""
    return f"Nothing was done: {said}; {lost}to have it done, type whose it is: {' or '.join(ways)}."


def done(told: Mapping[str, Any]) -> list[str]:
    """What was done, a line each, and what is left to do."""
    said = [told["settled"]] if told["settled"] else []
    if not told["done"]:
        return said or [f"PostgreSQL {told['to']} serves already"]
    what = f"PostgreSQL {told['to']} serves instead of {told['from']}"
    if "rows" in told:
        what += f": {', '.join(told['databases'])}, {told['tables']} tables with {told['rows']} rows, each compared"
    said += [what, f"nobody was let into the database for {span(told['down'])}"]
    kept, aside = told["kept"], told.get("aside")
    if aside:
        said.append(
            f"the cluster that was in its way is kept, stopped, as {aside['name']}; if you do not need what it has, "
            f"remove it on the host: {aside['remove']}"
        )
    said.append(
        f"PostgreSQL {kept['major']} is kept as it was: -e slipway_back=true goes back to it, and when you are sure "
        f"remove it on the host: {kept['remove']}"
    )
    return said
