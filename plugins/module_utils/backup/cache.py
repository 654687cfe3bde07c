"""The caches that a drill has for releases: each like one of the host, and with nothing in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Optional

from ..host import command
from ..postgres.server import STATEMENT
from ..release.stage import Stage
from ..release.systemctl import text_of
from .model import FAILED, GATE, BackupError
from .scratch import Scratch, aliases

_SETTING = re.compile(r"^(unixsocket|dir) (/\S+)$", re.MULTILINE)

Run = Callable[..., command.Ran]


@dataclass(frozen=True)
class Cache:
    """A Redis of this host: its name, how the role redis has configured it, and its directories under systemd."""

    name: str
    config: Path
    socket: Optional[Path]
    data: Path

    @property
    def twin(self) -> str:
        """The name of what stands in for it: a unit or a container."""
        return f"{Scratch.NAME}-of-{self.name}"

    @property
    def container(self) -> str:
        return f"slipway-{self.name}-{self.name}-1"


def caches(apps: Path) -> list[Cache]:
    """Those of this host, as the role redis has written them down. `apps` is /opt/slipway."""
    roots = {"redis": apps / "redis"}
    roots |= {f"redis-{root.name}": root for root in sorted((apps / "redis" / "instances").glob("*"))}
    configs = {name: root / "config" / "redis.conf" for name, root in roots.items()}
    return [_cache(name, config) for name, config in configs.items() if config.exists()]


def _cache(name: str, config: Path) -> Cache:
    said = {found[1]: Path(found[2]) for found in _SETTING.finditer(text_of(config))}
    socket = said.get("unixsocket")
    return Cache(name, config, socket.parent if socket else None, said.get("dir", Path("/var/lib", name)))


def sockets(place: Path, apps: Path) -> dict[str, Path]:
    """The directories in which caches of the host have their sockets, with what a drill has in place of each."""
    return {str(cache.socket): place / cache.twin / "socket" for cache in caches(apps) if cache.socket}


@contextmanager
def twins(stage: Stage, place: Path, apps: Path, run: Run = command.run) -> Iterator[None]:
    """Have one run for each cache of the host; `place` is a directory for what they write.

    Where one does not start, a release that does not pass its gate says nothing about the set. Those in containers go
    with the server of the drill.
    """
    there = caches(apps)
    lacks = []
    try:
        for cache in there:
            if cache.socket:
                for verb in ("stop", "reset-failed"):  # of a drill that was killed
                    run(["systemctl", verb, f"{cache.twin}.service"], STATEMENT)
                own = [str(place / cache.twin / name) for name in ("socket", "data")]
                run(["install", "--directory", "--owner=redis", "--mode=0755", *own], STATEMENT)
                starts = [native(cache, stage, place)]
            else:
                starts = list(contained(cache, stage, run))
            ended = [run(words, STATEMENT) for words in starts]
            lacks += [f"what stands in for {cache.name} was not there: {ran.said}" for ran in ended if ran.returncode]
        yield
    except BackupError as error:
        if error.fault == GATE and lacks:
            raise BackupError(FAILED, f"{'; '.join(lacks)}; {error}") from error
        raise
    finally:
        for cache in there:
            if cache.socket:
                run(["systemctl", "stop", f"{cache.twin}.service"], STATEMENT)


def native(cache: Cache, stage: Stage, place: Path) -> list[str]:
    """The command that starts one as a unit, which has directories of its own in place of those of the live one."""
    binds = [f"{place / cache.twin}/socket:{cache.socket}", f"{place / cache.twin}/data:{cache.data}"]
    properties = (
        *("Type=notify", "User=redis", "Group=redis", "RuntimeMaxSec=1d"),
        "PrivateNetwork=yes" if stage.lacks else f"NetworkNamespacePath={stage.namespace}",
        *("ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "NoNewPrivileges=yes", "CPUWeight=10"),
        *("UMask=0000", f"BindPaths={' '.join(binds)}"),
    )
    return [
        *("systemd-run", "--quiet", "--collect", f"--unit={cache.twin}"),
        *(f"--property={one}" for one in properties),
        *("/usr/bin/redis-server", str(cache.config), "--daemonize", "no", "--supervised", "systemd"),
        *("--appendonly", "no"),
    ]


def contained(cache: Cache, stage: Stage, run: Run) -> Iterator[list[str]]:
    """The commands that start one as a container; none where the host's is gone.

    Containers find it under the names of the host's, and units at the port on which that is published.
    """
    form = "{{.Image}}\n{{.Config.User}}\n{{.HostConfig.Memory}}\n{{json .NetworkSettings.Networks}}"
    published = '\n{{with index .HostConfig.PortBindings "6379/tcp"}}{{(index . 0).HostPort}}{{end}}'
    mounts = '{{range .Mounts}}{{if eq .Type "bind"}}\n{{.Source}}:{{.Destination}}:ro{{end}}{{end}}'
    wanted = "\n{{range .Config.Cmd}}\t{{.}}{{end}}"
    ran = run(["docker", "inspect", "--format", f"{form}{published}{wanted}{mounts}", cache.container], STATEMENT)
    if ran.returncode:
        return
    image, user, memory, networks, port, words, *binds = ran.stdout.rstrip("\n").split("\n")

    def started(name: str, *network: str) -> list[str]:
        return [
            *("docker", "run", "--detach", "--name", name, *network, "--user", user, "--cap-drop", "ALL"),
            *("--security-opt", "no-new-privileges:true", "--read-only", "--memory", memory, "--log-driver", "local"),
            *("--tmpfs", "/data:mode=1777", "--tmpfs", "/tmp:mode=1777"),  # noqa: S108 - its own
            *(word for bind in binds for word in ("--volume", bind)),
            *(image, *words.strip("\t").split("\t")),
        ]

    if stage.network:
        known = (word for name in aliases(networks) for word in ("--network-alias", name))
        yield started(cache.twin, "--network", stage.network, *known)
    if stage.network and port and not stage.lacks:
        yield [*started(f"{cache.twin}-at-{port}", "--network", f"container:{Scratch.NAME}"), "--port", port]
