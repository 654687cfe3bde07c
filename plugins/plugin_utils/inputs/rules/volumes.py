# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What volumes and static files of an app must be: directories at paths that hide nothing which the app needs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

NAME = "[a-z0-9][a-z0-9_-]{0,30}"
PATH = "(/[A-Za-z0-9_][A-Za-z0-9._-]*)+"
FOR_EXAMPLE = "as in {uploads: /data/uploads}"
# Where nothing of an app may be, neither there nor below; and where it may be below alone.
TAKEN = (
    *("/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/proc", "/run", "/sbin", "/sys", "/tmp"),  # noqa: S108 - refused
    *("/var/run", "/var/tmp", "/var/lib/slipway", "/opt/slipway"),  # noqa: S108 - refused
    *("/usr/bin", "/usr/lib", "/usr/sbin"),
)
SHARED = ("/home", "/media", "/mnt", "/opt", "/root", "/srv", "/usr", "/usr/local", "/usr/src", "/var", "/var/lib")
# What a unit does not see of its host, or sees as all others do.
HIDDEN = ("/home", "/root", "/usr")


def volumes(given: Mapping[Any, Any], runtime: str, sockets: list[Any]) -> Iterator[str]:
    """A sentence for each volume that cannot be, by itself or beside another one.

    Args:
        given: path in the app by name, fastapi_app_volumes
        runtime: compose or systemd
        sockets: directories of the host that the app has at their own paths, fastapi_app_socket_directories
    """
    for name, path in given.items():
        if wrong := wrong_volume(str(name), path, runtime):
            yield f"fastapi_app_volumes: {json.dumps(name)} is at {json.dumps(path)}; {wrong}."
    paths = [(str(name), str(path)) for name, path in given.items()]
    for number, (name, path) in enumerate(paths):
        for beside, another in paths[:number]:
            if within(path, another) or within(another, path):
                yield (
                    f"fastapi_app_volumes: {beside} is at {another} and {name} at {path}, one of them in the other; "
                    "give each a directory that is not below another one's."
                )
        for directory in map(str, sockets):
            if within(path, directory) or within(directory, path):
                yield (
                    f"fastapi_app_volumes: {name} is at {path}, where the app has {directory} of "
                    "fastapi_app_socket_directories; give it another directory."
                )


def assets(given: Sequence[Any], runtime: str, taken: Sequence[Any]) -> Iterator[str]:
    """A sentence for each directory of static files that cannot be, by itself or beside another one.

    Args:
        given: paths in the app, fastapi_app_assets
        runtime: compose or systemd
        taken: paths that volumes and sockets have
    """
    for number, path in enumerate(given):
        if wrong := wrong_directory(path, runtime, "static", "as in [/srv/app/static]"):
            yield f"fastapi_app_assets has {json.dumps(path)}; {wrong}."
        elif runtime == "systemd" and not within(path, "/srv"):
            yield f"fastapi_app_assets has {path}; under systemd an app's files are below /srv, as in [/srv/static]."
        elif beside := next(
            (str(one) for one in [*given[:number], *taken] if within(path, str(one)) or within(str(one), path)), ""
        ):
            yield f"fastapi_app_assets has {path}, where {beside} is another directory of the host; name one of them."


def wrong_volume(name: str, path: Any, runtime: str) -> str:
    """What is wrong with one, and what to write; empty where nothing is."""
    if not re.fullmatch(NAME, name):
        return f"a name has at most 31 lower case letters, digits, dashes and underscores, no dash first, {FOR_EXAMPLE}"
    return wrong_directory(path, runtime, name, FOR_EXAMPLE)


def wrong_directory(path: Any, runtime: str, name: str, example: str) -> str:
    """What is wrong with a directory of the app that the host is to have, called `name` in what is advised."""
    if not isinstance(path, str) or not re.fullmatch(PATH, path):
        return f"write the absolute path of a directory without dots and slashes at its end, {example}"
    if taken := next((place for place in TAKEN if within(path, place)), ""):
        return f"{taken} belongs to the system or goes with the process; use another directory, {example}"
    if path in SHARED:
        return f"that would hide all that is there; give it a directory below, such as {path}/{name}"
    if runtime == "systemd" and (hidden := next((place for place in HIDDEN if within(path, place)), "")):
        return f"under systemd the app sees {hidden} of its host or nothing there; use /srv/{name} or /data/{name}"
    return ""


def within(path: str, directory: str) -> bool:
    """A path is a directory, or something in it."""
    return path == directory or path.startswith(f"{directory}/")
