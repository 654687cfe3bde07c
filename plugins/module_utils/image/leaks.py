"""Secrets that an image has in it: whoever has the image has them, and no deploy takes them out again.

It is looked where they come by mistake: variables, labels and commands of the image, the steps of its history (where
build arguments stand), and the small files of its layers.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from .local import docker

# Characters; shorter values stand everywhere.
SHORTEST = 8
# Fewer different characters than these, digits alone, or one word in small letters: no value that was drawn.
FEWEST_CHARACTERS, FEWEST_DIGITS, LONGEST_WORD = 5, 12, 15
_WORD = re.compile(r"[a-z]+|[A-Z][a-z]+")
# Everybody may have these.
_PUBLIC = "-----BEGIN CERTIFICATE-----"
_URL, _PASSWORD = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://"), re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/@\s]*:[^/@\s]+@")
# Bytes of a file that is looked at, and how many of all layers are; from the last layer on, which has a project's own.
LARGEST, MOST_FILES = 1 << 16, 5000
# What package managers bring.
_OF_PACKAGES = frozenset({"site-packages", "dist-packages", "node_modules", "__pycache__", "objects"})
_OF_THE_SYSTEM = frozenset(
    {"bin", "boot", "dev", "lib", "lib32", "lib64", "libx32", "proc", "sbin", "sys"}
    | {f"usr/{name}" for name in ("bin", "games", "include", "lib", "lib64", "libexec", "sbin", "share")}
    | {"usr/local/lib", "usr/local/include", "var/cache", "var/lib/dpkg", "var/lib/apt"}
)


def leaks(image: str, secrets: Mapping[str, str]) -> list[str]:
    """Which of these secrets the image has, and where: `PAYMENT_KEY (ENV STRIPE_KEY, file /srv/.env)`; never a value.

    Raises ImageError where the host has no such image.
    """
    wanted = {name: value for name, value in secrets.items() if drawn(value)}
    if not wanted:
        return []
    told = json.loads(docker("image", "inspect", image, timeout=60))[0]
    steps = docker("history", "--no-trunc", "--format", "{{json .CreatedBy}}", image, timeout=60).splitlines()
    found: dict[str, list[str]] = {}
    for place, text in (*stated(told.get("Config") or {}), *history(steps), *small_files(layers(told))):
        for name in [name for name, value in wanted.items() if value.encode() in text]:
            if place not in found.setdefault(name, []):
                found[name].append(place)
    return [
        f"{name} ({', '.join(places[:3])}{', ...' if places[3:] else ''})" for name, places in sorted(found.items())
    ]


def drawn(value: str) -> bool:
    """Whether a value is one that nobody has by chance."""
    value = value.strip()
    if len(value) < SHORTEST or len(set(value)) < FEWEST_CHARACTERS or value.startswith(_PUBLIC):
        return False
    if value.isdecimal() and len(value) < FEWEST_DIGITS:
        return False
    if _WORD.fullmatch(value) and len(value) <= LONGEST_WORD:
        return False
    return not _URL.match(value) or bool(_PASSWORD.match(value))


def stated(config: Mapping[str, Any]) -> Iterator[tuple[str, bytes]]:
    """What an image says of itself, with where it stands."""
    for variable in config.get("Env") or ():
        name, _, value = str(variable).partition("=")
        yield f"ENV {name}", value.encode()
    for name, value in (config.get("Labels") or {}).items():
        yield f"LABEL {name}", str(value).encode()
    for name in ("Entrypoint", "Cmd"):
        yield name.upper(), "\0".join(config.get(name) or ()).encode()


def history(steps: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """How each layer was made; `steps` are those of `docker history`, the last one first."""
    for number, step in enumerate(reversed(steps), 1):
        yield f"step {number} of its history", str(json.loads(step)).encode()


def layers(told: Mapping[str, Any]) -> list[Path]:
    """The directories in which this host has the layers of an image, the last one first; none where it has no such."""
    data = (told.get("GraphDriver") or {}).get("Data") or {}
    return [Path(path) for name in ("UpperDir", "LowerDir") for path in str(data.get(name) or "").split(":") if path]


def small_files(directories: Iterable[Path]) -> Iterator[tuple[str, bytes]]:
    """Small files of a project and of who built it, with their paths in the image. What cannot be read is left out."""
    left = MOST_FILES
    for root in directories:
        for directory, names, files in os.walk(root):
            inner = os.path.relpath(directory, root)
            at = "" if inner == "." else f"{inner}/"
            names[:] = sorted(name for name in names if name not in _OF_PACKAGES and at + name not in _OF_THE_SYSTEM)
            for name in sorted(files):
                if left <= 0:
                    return
                with suppress(OSError):
                    path = os.path.join(directory, name)
                    status = os.lstat(path)
                    # A layer has devices, too: where it takes a file of an earlier one away.
                    if status.st_mode & 0o170000 != 0o100000 or not 0 < status.st_size <= LARGEST:
                        continue
                    left -= 1
                    with open(path, "rb") as stream:
                        yield f"file /{at}{name}", stream.read(LARGEST)
