"""The caches that a drill has for releases: each like one of the host, and with nothing in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Optional

from ..host import command
from ..postgres.server import STATEMENT
from ..release.stage import Stage
from ..release.systemctl import text_of
from . import files
from .likeness import aliases, having, published
from .model import FAILED, GATE, BackupError
from .scratch import Scratch

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
    ran = run(["docker", "inspect", cache.container], STATEMENT)
    if ran.returncode:
        return
    (found,) = json.loads(ran.stdout)
    binds = [f"{one['Source']}:{one['Destination']}:ro" for one in found["Mounts"] if one["Type"] == "bind"]
    like = {**described(cache, found), "named": found["Image"]}
    if stage.network:
        known = (word for name in aliases(found["NetworkSettings"]["Networks"]) for word in ("--network-alias", name))
        yield container(cache.twin, ("--network", stage.network, *known), like, binds)
    if stage.network and like["port"] and not stage.lacks:
        name, network = f"{cache.twin}-at-{like['port']}", ("--network", f"container:{Scratch.NAME}")
        yield [*container(name, network, like, binds), "--port", like["port"]]


def described(cache: Cache, found: Mapping[str, Any]) -> dict[str, Any]:
    """What one in a container is like, as Docker tells of it."""
    return {
        "name": cache.name,
        "root": str(cache.config.parent.parent),
        "named": found["Config"]["Image"],
        "user": found["Config"]["User"],
        "memory": str(found["HostConfig"]["Memory"]),
        "port": min(published(found["HostConfig"]["PortBindings"]), default=""),
        "words": list(found["Config"]["Cmd"]),
        "binds": {
            one["Source"]: one["Destination"]
            for one in found["Mounts"]
            if one["Type"] == "bind" and files.below(one["Source"], str(cache.config.parent.parent))
        },
    }


def container(name: str, network: Sequence[str], like: Mapping[str, Any], binds: Sequence[str]) -> list[str]:
    """The command that starts one like that, with nothing in it."""
    return [
        *("docker", "run", "--detach", "--name", name, *network, "--user", like["user"], "--cap-drop", "ALL"),
        *("--security-opt", "no-new-privileges:true", "--read-only"),
        *("--memory", like["memory"], "--log-driver", "local"),
        *("--tmpfs", "/data:mode=1777", "--tmpfs", "/tmp:mode=1777"),  # noqa: S108 - its own
        *(word for bind in binds for word in ("--volume", bind)),
        *(like["named"], *like["words"]),
    ]


def likenesses(apps: Path, run: Run = command.run) -> list[dict[str, Any]]:
    """What the caches of this host are like, for a drill on another one; of one in no container its name."""
    found = []
    for cache in caches(apps):
        ran = None if cache.socket else run(["docker", "inspect", cache.container], STATEMENT)
        known = {} if ran is None or ran.returncode else described(cache, json.loads(ran.stdout)[0])
        found.append({"name": cache.name, **known})
    return found


def settings_of(apps: Path) -> list[str]:
    """The directories with what the caches of this host are set to, and whom they let in."""
    roots = [cache.config.parent.parent for cache in caches(apps)]
    return [str(path) for root in roots for path in (root / "config", root / "secrets") if path.is_dir()]


def stand_ins(stage: Stage, known: Sequence[Mapping[str, Any]], place: Path, host: str, run: Run = command.run) -> str:
    """Start one for each cache of another host, at the port where it is published; why one is not there, if so.

    Their settings are below `place`. They go with the server of the drill.
    """
    lacks = []
    for like in known:
        why = "it runs in no container there"
        if like.get("port"):
            binds = [f"{place}{source}:{target}:ro" for source, target in like["binds"].items()]
            name, network = f"{Scratch.NAME}-of-{like['name']}", ("--network", f"container:{Scratch.NAME}")
            why = "no container can be started beside that server here"
            if stage.server and having(like["named"], run):
                ran = run([*container(name, network, like, binds), "--port", like["port"]], STATEMENT)
                why = ran.said if ran.returncode else ""
            elif stage.server:
                why = f"this host has not the image {like['named']}"
        elif like.get("named"):
            continue  # nobody reaches it from another host
        if why:
            lacks.append(f"nothing stands in for {like['name']} of {host}: {why}")
    return "; ".join(lacks)
