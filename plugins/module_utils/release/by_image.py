"""Where the app of an image listens of which the inventory says nothing: on the one TCP port that its EXPOSE names.

Only a host that has the image knows what it EXPOSEs. So a release comes as one that listens on the slot's socket, and
its files become those of one with a port before they are written. From then on they say so by themselves, to slots,
edge, status and every way back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Optional

from ..host import command
from ..host.files import Item
from ..image.local import image_in
from .doors import GATE
from .listening import the_one
from .runtime import STAGED_BY, RuntimeFailed

# The line of a Compose file that keeps its app on the socket, whatever its image EXPOSEs.
UNMOVED = "x-slipway-port: none"
# Variables that say where to listen, as the role has them for a socket; an inventory's own are never written like that.
_ON_SOCKET = re.compile(
    r'      "(?:GUNICORN_BIND|UVICORN_UDS|GRANIAN_UDS)": "(?:unix:)?/run/slipway/[^"]*/\$\{SLIPWAY_SLOT\}/app\.sock"'
)
_PERMISSIONS = '      "GRANIAN_UDS_PERMISSIONS": "0666"'
_NAME = re.compile(r'      "([^"]+)": ')
_ALL = "0.0.0.0"  # noqa: S104 - of a container, of which one port is published, on the host's loopback


def by_image(items: Sequence[Item], exposed: Callable[[str], Iterable[str]]) -> tuple[list[Item], int]:
    """A release's files as they are where its app listens on the port that its image names, and that port.

    They are left as they are, and the port is 0, where the inventory says where it listens, and where the image names
    no port, or several.

    Args:
        items: what `stage` is given
        exposed: the ports that an image EXPOSEs, in Docker's words: `80/tcp`
    """
    compose, gate = _named(items, STAGED_BY["compose"]), _named(items, GATE)
    if compose is None or gate is None:
        return list(items), 0
    text, says, image = compose.content.decode(), json.loads(gate.content), image_of(items)
    if says.get("port") or not image or UNMOVED in text.splitlines() or not (port := the_one(exposed(image))):
        return list(items), 0
    says = json.dumps({**says, "port": port}, indent=1, sort_keys=True) + "\n"
    new = {compose.dest: with_port(text, port).encode(), gate.dest: says.encode()}
    return [replace(item, content=new.get(item.dest, item.content)) for item in items], port


def image_of(items: Sequence[Item]) -> Optional[str]:
    """The image of a release that is staged, None for one without."""
    compose = _named(items, STAGED_BY["compose"])
    return image_in(compose.content.decode()) if compose else None


def _named(items: Sequence[Item], name: str) -> Optional[Item]:
    """A release's own file of that name."""
    return next((item for item in items if item.dest.name == name and item.dest.parts[-3:-2] == ("releases",)), None)


def with_port(text: str, port: int) -> str:
    """The Compose file of a release on the socket as the role would have rendered it with `fastapi_app_port`.

    What the inventory itself says of a variable stays. What runs beside the web process is told the same.
    """
    lines = text.splitlines()
    # The web process comes first, and its environment ends where its volumes begin.
    begin = next(at for at, line in enumerate(lines) if line.startswith("    environment:")) + 1
    end = lines.index("    volumes:", begin)
    told = [line for line in lines[begin:end] if line != _PERMISSIONS and not _ON_SOCKET.fullmatch(line)]
    known = {match[1] for line in told if (match := _NAME.match(line))}
    where = {"GUNICORN_BIND": f"{_ALL}:{port}"}
    for server in ("", "UVICORN_", "GRANIAN_"):
        where |= {f"{server}HOST": _ALL, f"{server}PORT": str(port)}
    told += [f'      "{name}": "{value}"' for name, value in where.items() if name not in known]
    published = [
        "    # By EXPOSE of the image, for the edge of this host alone. Each slot has a port of its own.",
        "    ports:",
        f'      - {{mode: host, host_ip: 127.0.0.1, published: "${{SLIPWAY_PORT}}", target: {port}, protocol: tcp}}',
    ]
    gap = lines.index("", end)
    return "\n".join([*lines[:begin], *told, *lines[end:gap], *published, *lines[gap:], ""])


def exposed_by(image: str) -> list[str]:
    """The ports that an image of this host EXPOSEs, in Docker's words; none where it has no such image.

    Raises RuntimeFailed.
    """
    try:
        ran = command.run(["docker", "image", "inspect", "--format", "{{json .Config.ExposedPorts}}", image], 60)
    except command.CommandError:
        return []
    if ran.returncode:
        if "No such image" in ran.stderr:
            return []
        raise RuntimeFailed(ran.said)
    return list(json.loads(ran.stdout) or ())
