# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The lines of an inventory with which an image that was looked at is deployed, each with its reason. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ansible_collections.slipway.fleet.plugins.module_utils.release.diagnosis import ended_workers
from ansible_collections.slipway.fleet.plugins.module_utils.release.missed import secret
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.rules.volumes import wrong_volume
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.findings import OPENAPI, server, takes_files
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.trial import (
    Answer,
    Seen,
    Shipped,
    Trial,
    loopback_port,
    read_only,
    stands_in,
)

# Twice what it has at rest is room for requests; a process more of what a release has needs as much again.
_ROOM = 2
# Slashes in the path of a file that lies in the root, or in a directory of it such as /app, where code is.
_DEPTH = 2
_CODE = frozenset({"__pycache__", "site-packages", "dist-packages", "bin", "lib", "lib64"})
_VOLUMES = 5  # as many as one line may name
TMP_MIB = 64  # of a release where nothing is written
_SLOW_START = 20.0  # seconds, a third of the gate's
# A line of an inventory: name, value, and why it is there.
Row = tuple[str, object, str]


@dataclass(frozen=True)
class Found:
    """All that is known of an image at the end; `usual` is what a release has where nothing is written."""

    name: str  # of the app
    origin: tuple[str, str]  # variable and value that name image or directory
    shipped: Shipped
    usual: Trial
    trial: Trial
    seen: Seen
    health: str  # empty where no path answers
    why: str
    built: Sequence[Row] = ()  # what its build was given


def lines(found: Found) -> str:
    """The lines as YAML. Those that the user has to fill in say so."""
    said = [f"# {text}" for text in _told(found)]
    for name, value, why in (*_always(found), *_where_it_differs(found)):
        said.append(line(name, value, why))
    return "\n".join([*said, *_variables(found)]) + "\n"


def _told(found: Found) -> list[str]:
    seen, trial = found.seen, found.trial
    kind = server(seen) or "no server that is known by name"
    rights = "read-only" if trial.read_only else "writable"
    who = f"user {trial.user[0]}"
    told = [
        f"{found.origin[1]}, started as a release is: {who}, {rights}, {trial.memory_mib} MiB, no network.",
        f"It runs {kind} in {len(seen.commands)} processes.",
    ]
    if found.health:
        told.append(f"It answered {seen.seconds:.1f} s after its start, and has {seen.memory_mib} MiB at rest.")
    if port := loopback_port(seen):
        told.append(
            f"It listens on port {port} of loopback alone, where nobody reaches it: have it listen on 0.0.0.0, with "
            "its own setting or with fastapi_app_command."
        )
    if trial.read_only and (paths := [path for path in read_only(seen.log) if path]):
        told.append(f"It says that it could not write {', '.join(paths)}: fastapi_app_read_only: false lets it.")
    return told


def _always(found: Found) -> list[Row]:
    name, trial = found.name, found.trial
    rows: list[Row] = [
        ("fastapi_app_name", name, "a name of your choice, for its directories and units"),
        ("fastapi_app_host_names", [f"{name}.example.org"], "yours: under which users reach it"),
        (*found.origin, "what was looked at"),
    ]
    rows += found.built
    if found.origin[0] == "fastapi_image_name":
        pulled = (
            ("pull", "hosts get it from its registry"),
            ("ship", "no registry has it: hosts get it from this Docker"),
        )
        rows.append(("fastapi_image_source", *pulled[not found.shipped.in_registry]))
    if trial.port:
        exposed = "EXPOSE of the image names it" if trial.port in found.shipped.ports else "it was seen listening there"
        rows.append(("fastapi_app_port", trial.port, exposed))
    elif len(found.shipped.ports) == 1:
        why = f"it listens on the socket of its slot, though EXPOSE of the image names {found.shipped.ports[0]}"
        rows.append(("fastapi_app_port_by_image", False, why))
    if found.health:
        rows.append(("fastapi_app_health_path", found.health, found.why))
    return rows


def _where_it_differs(found: Found) -> list[Row]:
    usual, trial, seen = found.usual, found.trial, found.seen
    rows: list[Row] = []
    if trial.user != usual.user:
        rows.append(
            ("fastapi_app_user", "root", f"user {usual.user[0]} may not use files that it needs; they are root's")
        )
    if not trial.read_only:
        where = ", ".join(seen.written[:5]) or "outside /tmp"
        why = f"it writes to {where}, which is lost with each release{_kept(seen.written)}"
        rows.append(("fastapi_app_read_only", False, why))
    if trial.workers:
        rows.append(
            ("fastapi_app_workers", trial.workers, "it starts Uvicorn from its own code, which takes one worker")
        )
    if memory := _memory(found):
        rows.append(("fastapi_app_memory_mib", memory, f"{seen.memory_mib} MiB at rest; a host needs it twice"))
    if takes := takes_files(seen.answers.get(OPENAPI, Answer(0)).text):
        named = f"{takes[0]} and {len(takes) - 1} more take" if takes[1:] else f"{takes[0]} takes"
        why = f"{named} files, which lie in /tmp while they come: all at a time; a volume as TMPDIR has more"
        rows.append(("fastapi_app_tmp_mib", TMP_MIB, why))
    if trial.proto != "http":
        rows.append(("fastapi_app_edge_scheme", trial.proto, "it sends everybody there who does not come by TLS"))
    if found.health and seen.seconds > _SLOW_START:
        rows.append(
            ("fastapi_app_gate_deadline", int(seen.seconds * 3), f"its start took {seen.seconds:.0f} s without load")
        )
    if seen.alembic:
        rows.append(
            (
                "fastapi_app_migrations",
                seen.alembic,
                f"there is an alembic.ini in {seen.alembic}; once a deploy, before the release",
            )
        )
    if seen.assets:
        why = "names of its files change with each build, and pages ask for those of theirs"
        rows.append(("fastapi_app_assets", list(seen.assets), why))
    return rows


def _kept(written: Sequence[str]) -> str:
    """How what was written would stay: by volumes, as far as it lies in directories that are not the app's own.

    A volume keeps what the first release had there, so none is for code; one has what is in directories below, too.
    """
    places = {str(PurePosixPath(path).parent) for path in written if path.count("/") > _DEPTH}
    places = {place for place in places if not (_of_code(place) or wrong_volume(_volume(place), place, "compose"))}
    tops = [
        place for place in sorted(places) if not any(str(above) in places for above in PurePosixPath(place).parents)
    ]
    volumes = {_volume(place): place for place in tops[:_VOLUMES]}
    if not volumes or len(volumes) < len(tops):
        return ""
    told = ", ".join(f"{name}: {place}" for name, place in volumes.items())
    return f"; where it is data and not code, fastapi_app_volumes: {{{told}}} keeps it"


def _volume(place: str) -> str:
    """A name for a volume at this path, of what the role lets a name have."""
    return re.sub(r"[^a-z0-9_]+", "-", PurePosixPath(place).name.lower()).strip("-_")[:31]


def _of_code(place: str) -> bool:
    return not _CODE.isdisjoint(place.removeprefix("/var/lib/").split("/"))


def _memory(found: Found) -> int:
    """MiB to write; 0 where what a release has is enough."""
    wanted = found.seen.memory_mib * _ROOM
    least = max(found.trial.memory_mib, -(-wanted // 64) * 64)
    return least if least > found.usual.memory_mib else 0


def _variables(found: Found) -> list[str]:
    """The variables that it missed: secrets by the vault, the others as they are."""
    missed = sorted(found.trial.variables)
    said = []
    if plain := [name for name in missed if not secret(name)]:
        said += ["# Yours to write: it does not start without them.", "fastapi_app_environment:"]
        said += [f"  {name}: {_value(_shown(found.trial.variables[name]))}" for name in plain]
    if secrets := [name for name in missed if secret(name)]:
        said += ["# Yours to put into the vault: it does not start without them.", "fastapi_app_secrets:"]
        said += [f'  {name}: "{{{{ vault_{name.lower()} }}}}"' for name in secrets]
    return said


def _shown(value: str) -> str:
    return "" if stands_in(value) else value


def line(name: str, value: object, why: str) -> str:
    """One of an inventory, with its reason."""
    return f"{name}: {_value(value)}  # {why}"


def _value(value: object) -> str:
    """As YAML, in one line; JSON is YAML, and a plain word needs no quotes."""
    if isinstance(value, str) and value and all(c.isalnum() or c in "/._-" for c in value) and not value.isdigit():
        return value if value.lower() not in ("true", "false", "yes", "no", "on", "off", "null") else json.dumps(value)
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False)


def problem(found: Found, socket: str) -> str:
    """Why no line makes a release of it that serves; empty where it answered."""
    seen = found.seen
    if found.health:
        return ""
    if not seen.running:
        memory = ", killed for its memory" if seen.out_of_memory else ""
        return f"it ended with exit code {seen.exit_code}{memory}"
    if port := loopback_port(seen):
        return f"it listens on port {port} of loopback alone"
    if seen.listening:
        return _no_good_answer(seen, socket)
    if ended := ended_workers(seen.log):
        return f"it runs and listens nowhere: {ended}. Or try when this machine is less busy"
    return "it runs, and listens nowhere"


def _no_good_answer(seen: Seen, socket: str) -> str:
    if any(answer.status == 400 for answer in seen.answers.values()):
        return "it refuses the name that it was asked under (400); name one of yours: -e slipway_inspect_host=NAME"
    asked = ", ".join(f"{path} {answer.status}" for path, answer in list(seen.answers.items())[:8])
    if seen.answers:
        return f"no path answers with 200 to 299 ({asked}); name one with fastapi_app_health_path"
    return f"it listens on {', '.join(seen.listening)}, and answers no request at {socket}"
