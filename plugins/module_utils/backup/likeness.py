"""What a server that stands in for another one has to be like, so that a release finds it as it finds that one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any, Callable, Optional

from ..host import command
from ..postgres.server import CONTAINER, STATEMENT, Run

# Seconds to have an image.
PULL = 1800.0
# Runs a command, and returns what it printed.
Done = Callable[[Sequence[str]], str]
# Runs a statement in the database postgres, and returns its rows.
Asked = Callable[[str], list[list[str]]]


@dataclass(frozen=True)
class Likeness:
    """A server of a host: how it runs, and where it is found.

    `image` is one that Docker has there, and `named` how that is called everywhere. `names` are those of a container in
    its networks, `addresses` those of its host, `published` its port there. `sockets` are directories, `access` and
    `idents` files of the host, by which a cluster lets others in. `lacks` says why what is outside of Docker would not
    find a container's twin.
    """

    provider: str
    major: int
    port: str = "5432"
    addresses: tuple[str, ...] = ()
    image: str = ""
    named: str = ""
    user: str = ""
    shared: str = "64m"
    names: tuple[str, ...] = ()
    lacks: str = ""
    published: str = ""
    sockets: tuple[str, ...] = ()
    access: str = ""
    idents: str = ""


def likeness_of(provider: str, major: int, asked: Asked, done: Done) -> Likeness:
    """Of the server of this host. Raises what `asked` and `done` raise."""
    known = addresses(done)
    if provider != "compose":
        settings = ("port", "unix_socket_directories", "hba_file", "ident_file")
        (row,) = asked(f"SELECT {', '.join(f'current_setting({name!r})' for name in settings)}")
        port, sockets, access, idents = row
        places = tuple(directory.strip() for directory in sockets.split(","))
        return Likeness(provider, major, port, known, sockets=places, access=access, idents=idents)
    found = json.loads(done(["docker", "inspect", CONTAINER]))[0]
    ports = published(found["HostConfig"]["PortBindings"])
    return Likeness(
        provider,
        major,
        addresses=known,
        image=found["Image"],
        named=found["Config"]["Image"],
        user=found["Config"]["User"],
        shared=str(found["HostConfig"]["ShmSize"]),
        names=tuple(aliases(found["NetworkSettings"]["Networks"])),
        lacks=unpublished(ports),
        published=min(ports, default=""),
    )


def likeness_from(known: Mapping[str, Any]) -> Optional[Likeness]:
    """One as it was written down; None where none was, as in a set of before that."""
    names = {field.name for field in fields(Likeness)}
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in known.items() if name in names
    }
    return Likeness(**given) if given else None


def addresses(done: Done) -> tuple[str, ...]:
    """The addresses of this host that lead to it from elsewhere, at which apps may know a server."""
    found = json.loads(done(["ip", "-json", "address", "show", "scope", "global"]) or "[]")
    return tuple(sorted({info["local"] for link in found for info in link.get("addr_info") or () if "local" in info}))


def aliases(networks: Optional[Mapping[str, Any]]) -> list[str]:
    """The names under which a container is known in its networks."""
    return sorted({name for network in (networks or {}).values() for name in network.get("Aliases") or ()})


def published(bindings: Optional[Mapping[str, Any]]) -> set[str]:
    """The ports of the host at which a container is reached from outside of Docker."""
    return {one["HostPort"] for some in (bindings or {}).values() for one in some or ()}


def unpublished(ports: set[str]) -> str:
    """Why what comes to a container from outside of Docker would not find its twin; empty where it would."""
    other = ports - {"5432"}
    if ports and not other:
        return ""
    where = f"on port {', '.join(sorted(other))} of this host, and in a drill" if ports else "nowhere, and"
    return f"the database's container is published {where} on 5432 alone (postgres_publish)"


def having(image: str, run: Run) -> str:
    """The id of an image, which is pulled where this host has it not; empty where it cannot be had."""
    look = ["docker", "image", "inspect", "--format", "{{.Id}}", image]
    with suppress(command.CommandError):  # a host without Docker
        ran = run(look, STATEMENT)
        if ran.returncode and not run(["docker", "pull", "--quiet", image], PULL).returncode:
            ran = run(look, STATEMENT)
        return "" if ran.returncode else ran.stdout.strip()
    return ""
