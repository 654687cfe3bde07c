"""The cache that a drill has for releases: like that of the host, and with nothing in it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Optional

from ..host import command
from ..postgres.server import STATEMENT
from ..release.stage import Stage
from ..release.systemctl import text_of
from .scratch import CACHE, Scratch

# That of the distribution's package, as the role redis configures it.
CONFIG = Path("/opt/slipway/redis/config/redis.conf")
UNIT = f"{Scratch.NAME}-cache"
_SETTING = re.compile(r"^(unixsocket|dir) (/\S+)$", re.MULTILINE)

Run = Callable[..., command.Ran]


def sockets(place: Path, config: Path = CONFIG) -> dict[str, Path]:
    """The directory in which the cache of the host has its socket, with what a drill has in its place."""
    socket = _settings(config).get("unixsocket")
    return {str(Path(socket).parent): place / f"{UNIT}/socket"} if socket else {}


@contextmanager
def twin(stage: Stage, place: Path, run: Run = command.run, config: Path = CONFIG) -> Iterator[None]:
    """Have it run, where the host has one; `place` is a directory for what it writes.

    Where it does not start, a release that needs it says so. That of a container goes with the network of the drill.
    """
    settings = _settings(config)
    try:
        if "unixsocket" in settings:
            own = [str(place / UNIT / name) for name in ("socket", "data")]
            run(["install", "--directory", "--owner=redis", "--mode=0755", *own], STATEMENT)
            run(native(stage, settings, place, config), STATEMENT)
        elif words := contained(run):
            run(words, STATEMENT)
        yield
    finally:
        if "unixsocket" in settings:
            run(["systemctl", "stop", f"{UNIT}.service"], STATEMENT)


def _settings(config: Path) -> dict[str, str]:
    return {found[1]: found[2] for found in _SETTING.finditer(text_of(config))}


def native(stage: Stage, settings: Mapping[str, str], place: Path, config: Path) -> list[str]:
    """The command that starts it as a unit, which has directories of its own in place of those of the live one."""
    own = {"socket": str(Path(settings["unixsocket"]).parent), "data": settings.get("dir", "/var/lib/redis")}
    binds = [f"{place / UNIT / name}:{live}" for name, live in own.items()]
    properties = (
        *("Type=notify", "User=redis", "Group=redis", f"NetworkNamespacePath={stage.namespace}", "RuntimeMaxSec=1d"),
        *("ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "NoNewPrivileges=yes", "CPUWeight=10"),
        *("UMask=0000", f"BindPaths={' '.join(binds)}"),
    )
    return [
        *("systemd-run", "--quiet", "--collect", f"--unit={UNIT}"),
        *(f"--property={one}" for one in properties),
        *("/usr/bin/redis-server", str(config), "--daemonize", "no", "--supervised", "systemd", "--appendonly", "no"),
    ]


def contained(run: Run) -> Optional[list[str]]:
    """The command that starts it as a container; None where the host has none.

    It is in the network of the drill's server, in which units find both at the addresses of the host.
    """
    form = "{{.Image}}\n{{.Config.User}}\n{{.HostConfig.Memory}}"
    mounts = '{{range .Mounts}}{{if eq .Type "bind"}}\n{{.Source}}:{{.Destination}}:ro{{end}}{{end}}'
    wanted = "\n{{range .Config.Cmd}}\t{{.}}{{end}}"
    ran = run(["docker", "inspect", "--format", f"{form}{wanted}{mounts}", CACHE], STATEMENT)
    if ran.returncode:
        return None
    image, user, memory, words, *binds = ran.stdout.rstrip("\n").split("\n")
    return [
        *("docker", "run", "--detach", "--name", UNIT, "--network", f"container:{Scratch.NAME}", "--user", user),
        *("--cap-drop", "ALL", "--security-opt", "no-new-privileges:true", "--read-only", "--memory", memory),
        *("--tmpfs", "/data:mode=1777", "--tmpfs", "/tmp:mode=1777", "--log-driver", "local"),  # noqa: S108 - its own
        *(word for bind in binds for word in ("--volume", bind)),
        *(image, *words.strip("\t").split("\t")),
    ]
