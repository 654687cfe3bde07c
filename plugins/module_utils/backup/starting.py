"""The release of an app against a set: started aside, with the databases of the drill and the volumes of the set.

Each cache that runs on the host has a twin there, empty and with its settings. Nothing that is live is reached, and
nothing outside of the host.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Optional

from ..host import command
from ..postgres.databases import member
from ..postgres.server import STATEMENT, literal, quoted
from ..release.aside import Aside, Unfit
from . import files
from .model import GATE, BackupError, Manifest
from .postgres import Scratch, Server, aliases
from .saving import Host, serving

# The container of a cache, the first one of a host or one that has a name (roles/redis).
CACHE = re.compile(r"slipway-(redis(?:-[a-z0-9-]+)?)-\1-1")
# Who starts the releases of an app: of its name, its directory, and what is mounted in place of its volumes.
Starter = Callable[[str, Path, Path], Aside]


def starter(app: str, root: Path, place: Path) -> Aside:
    """In the network of the drill; what a set has in place of a directory is below `place`."""
    return Aside(app, root, Scratch.NETWORK, place, lambda source: Path(f"{place}{source}"))


def start_releases(
    host: Host, manifest: Manifest, place: Path, server: Server, start: Starter = starter
) -> list[dict[str, Any]]:
    """For each app of this host the release that passed its gate on what was restored, and in how many seconds.

    What cannot be proven here says why as `unproven`. Raises BackupError where a release does not pass.
    """
    found = []
    with neighbours(host, server):
        for root in files.apps(host.settings):
            began = time.monotonic()
            app, said = root.name, {"release": "", "unproven": ""}
            try:
                said["release"] = fitting(host, manifest, root)
                prove(host, app, said["release"], start(app, root, place))
            except Unfit as error:
                said["unproven"] = str(error)
            found.append({"app": app, **said, "seconds": round(time.monotonic() - began, 1)})
    return found


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
def neighbours(host: Host, server: Server, run: Callable[..., command.Ran] = command.run) -> Iterator[None]:
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
    for name in caches(run):
        if words := twin(run, name):
            run(words, STATEMENT)  # where it does not start, a release that needs it says so
    yield


def caches(run: Callable[..., command.Ran]) -> list[str]:
    """The containers of the caches of this host."""
    ran = run(["docker", "ps", "--all", "--filter", "name=^slipway-redis", "--format", "{{.Names}}"], STATEMENT)
    return sorted(filter(CACHE.fullmatch, ran.stdout.split())) if not ran.returncode else []


def twin(run: Callable[..., command.Ran], name: str) -> Optional[list[str]]:
    """The command that starts a cache like that of the host, with nothing in it; None where it is gone.

    It goes with the drill's network.
    """
    form = "{{.Image}}\n{{.Config.User}}\n{{.HostConfig.Memory}}\n{{json .NetworkSettings.Networks}}"
    mounts = '{{range .Mounts}}{{if eq .Type "bind"}}\n{{.Source}}:{{.Destination}}:ro{{end}}{{end}}'
    wanted = "\n{{range .Config.Cmd}}\t{{.}}{{end}}"
    ran = run(["docker", "inspect", "--format", f"{form}{wanted}{mounts}", name], STATEMENT)
    if ran.returncode:
        return None
    image, user, memory, networks, words, *binds = ran.stdout.rstrip("\n").split("\n")
    return [
        *("docker", "run", "--detach", "--name", f"{Scratch.NAME}-of-{name}", "--network", Scratch.NETWORK),
        *("--user", user),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--read-only", "--memory", memory),
        *("--tmpfs", "/data:mode=1777", "--tmpfs", "/tmp:mode=1777", "--log-driver", "local"),  # noqa: S108 - its own
        *(word for name in aliases(networks) for word in ("--network-alias", name)),
        *(word for bind in binds for word in ("--volume", bind)),
        *(image, *words.strip("\t").split("\t")),
    ]


def unstartable(host: Host, manifest: Manifest) -> str:
    """Why no release of this host is started against a set; empty where that can be tried."""
    if not host.settings.releases:
        return "backup_drill_releases is false"
    if host.settings.database != "compose" or not manifest.databases:
        return "no database server in a container is backed up on this host, beside which a release could be started"
    return "" if files.apps(host.settings) else "no app runs on this host"
