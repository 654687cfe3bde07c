"""The release of an app against a set: started aside, with the databases of the drill and the volumes of the set.

Each cache that runs on the host has a twin there, empty and with its settings. Nothing that is live is reached, and
nothing outside of the host.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Callable

from ..postgres.databases import member
from ..postgres.server import literal, quoted
from ..release.aside import Aside
from ..release.stage import Stage, Unfit
from . import cache, files
from .beyond import Beyond
from .beyond import fitting as fitting_beyond
from .model import GATE, BackupError, Manifest
from .postgres import Server
from .saving import Host, serving

# What a host says that has no app to start.
NO_APP = (
    "no app runs on this host, as where the database has a host of its own; rows and files were compared all the same, "
    "and the app's host proves the rest where it has backup_drill_of (docs/backup.md)"
)
# Who starts the releases of an app: of its name, its directory, what is there in place of servers, and of its volumes.
Starter = Callable[[str, Path, Stage, Path], Aside]


def starter(app: str, root: Path, stage: Stage, place: Path) -> Aside:
    """On the stage of the drill; what a set has in place of a directory is below `place`."""
    with_caches = replace(stage, sockets={**stage.sockets, **cache.sockets(place, root.parent)})
    return Aside(app, root, with_caches, place, lambda source: Path(f"{place}{source}"))


def start_releases(
    host: Host, manifest: Manifest, place: Path, server: Server, stage: Stage, start: Starter = starter
) -> list[dict[str, Any]]:
    """For each app of this host the release that passed its gate on what was restored, and in how many seconds.

    What cannot be proven here says why as `unproven`. Raises BackupError where a release does not pass.
    """
    with neighbours(host, server, stage, place):
        return [
            tried(root, lambda root: (fitting(host, manifest, root), ""), partial(_proved, host, stage, place, start))
            for root in files.apps(host.settings)
        ]


def start_beyond(host: Host, found: Beyond, place: Path, made: Any, start: Starter = starter) -> list[dict[str, Any]]:
    """The same against the databases of another host, which stand in `made`, with the volumes of a set of this one."""
    lacks = cache.stand_ins(made.stage, found.manifest.caches, found.place, found.manifest.host)

    def proved(root: Path, release: str, doubt: str) -> None:
        try:
            _proved(host, made.stage, place, start, root, release, "; ".join(filter(None, (lacks, doubt))))
        except BackupError as error:
            if error.fault == GATE and (away := made.turned_away()):
                raise Unfit(
                    f"it comes to the database by a login that {found.name} has not ({away}), as where its password "
                    "was changed since; make a set there (slipway.fleet.backup)"
                ) from error
            raise

    with cache.twins(made.stage, place, host.settings.apps):
        return [tried(root, partial(fitting_beyond, found.manifest), proved) for root in files.apps(host.settings)]


def tried(
    root: Path, fit: Callable[[Path], tuple[str, str]], proved: Callable[[Path, str, str], None]
) -> dict[str, Any]:
    """What a proof says of an app: its release that passed, or why none was tried (`unproven`). Raises BackupError."""
    began = time.monotonic()
    said = {"release": "", "unproven": ""}
    try:
        said["release"], doubt = fit(root)
        proved(root, said["release"], doubt)
    except Unfit as error:
        said["unproven"] = str(error)
    return {"app": root.name, **said, "seconds": round(time.monotonic() - began, 1)}


def _proved(host: Host, stage: Stage, place: Path, start: Starter, root: Path, release: str, doubt: str) -> None:
    """Raise BackupError where a release does not pass, and Unfit where that may be no fault of the set."""
    try:
        prove(host, root.name, release, start(root.name, root, stage, place))
    except BackupError as error:
        if doubt and error.fault == GATE:
            raise Unfit(f"{doubt}, and {error}") from error
        raise


def prove(host: Host, app: str, release: str, aside: Aside) -> None:
    """Raise BackupError where a release does not pass its gate, and Unfit where this host cannot start it aside."""
    if refusal := aside.refusal(release, host.settings.deadline):
        raise BackupError(
            GATE,
            f"release {release} of {app} does not pass its gate on it: {refusal}\nIt was started without the network; "
            "where it needs another service to get ready, say backup_drill_releases: false, and provision",
        )


def fitting(host: Host, manifest: Manifest, root: Path) -> str:
    """The release that a set is to serve: the one that serves now, and of an earlier schema the one that did then.

    Raises Unfit where there is none.
    """
    now, then = serving(root), manifest.apps.get(root.name, "")
    if not now:
        raise Unfit("it serves no release")
    live = host.live
    other = live is not None and any(
        database.heads and (heads := live.heads(database.name)) and heads != database.heads
        for database in manifest.databases
    )
    if other and not then:
        raise Unfit("the schema of the set is another one than that of what serves, and no release is known for it")
    return then if other else now


@contextmanager
def neighbours(host: Host, server: Server, stage: Stage, place: Path) -> Iterator[None]:
    """Have what releases talk to: today's logins and passwords of the databases' roles, and the cache's twin."""
    if host.live is not None:
        there = server.roles()
        members = {name: user for name, user in host.live.members().items() if name not in there and user in there}
        known = {
            name: kept for name, kept in host.live.logins().items() if name in {*there, *members} and name != "postgres"
        }
        made = [f"{statement};\n" for name, user in members.items() for statement in member(name, user)]
        set_to = [f"ALTER ROLE {quoted(name)} LOGIN PASSWORD {literal(kept)};\n" for name, kept in known.items()]
        server.run_globals("".join(made + set_to))
    with cache.twins(stage, place, host.settings.apps):
        yield


def unstartable(host: Host, manifest: Manifest, beyond: bool = False) -> str:
    """Why no release of this host is started against a set; empty where that can be tried.

    `beyond`: whether the databases are those of another host.
    """
    if not host.settings.releases:
        return "backup_drill_releases is false"
    if host.live is not None and not host.live.own:
        return "the database is elsewhere, and nothing here can stand in under its name and with its certificate"
    if not manifest.databases and not beyond:
        return (
            "no database server is backed up on this host, beside which a release could be started; where it is on "
            "another host, backup_drill_of names that"
        )
    return "" if files.apps(host.settings) else NO_APP
