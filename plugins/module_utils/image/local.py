"""Images on a host, through the Docker command line."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, Optional

from ..host.command import WHOLE, CommandError, Ran, run
from ..host.errors import SlipwayError
from ..host.shown import tail

CONTENT_LABEL = "slipway.content"
# Docker's words for what runs on a machine, by what `uname -m` says there; the first is its own.
ARCHITECTURES = {
    "x86_64": ("amd64", "386"),
    "aarch64": ("arm64", "arm"),
    "armv7l": ("arm",),
    "ppc64le": ("ppc64le",),
    "riscv64": ("riscv64",),
    "s390x": ("s390x",),
}


# What the older builder says of itself before anything else.
_OLDER_BUILDER = re.compile(r"DEPRECATED: The legacy builder [^\n]*\n(?:[ \t]+[^\n]*\n)*\s*")


class ImageError(SlipwayError):
    """The image could not be put in place; the text says why and what to do."""


class ImageRefused(ImageError):
    """It was refused before any host was changed; whether that is true of the whole run, the run says."""


@dataclass(frozen=True)
class Image:
    """An image that a Docker daemon has. `content` is the key of what it was built from, if we built it."""

    id: str
    tags: list[str]
    digests: list[str]
    content: Optional[str]
    architecture: str
    size: int
    layers: list[str]
    # What it was made as, which is the same under every store; the id is not.
    made: dict[str, Any]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def docker(
    *arguments: str,
    timeout: float = 600,
    stdin: Optional[IO[bytes]] = None,
    accept: str = "",
    environment: Optional[dict[str, str]] = None,
    output: int = 0,
) -> str:
    """What a docker command prints. Raises ImageError with Docker's own words, unless these contain `accept`.

    With `output` these are the ends of what it printed and of its errors, so many characters of each.
    """
    try:
        ran = run(["docker", *arguments], timeout, {**os.environ, **(environment or {})}, limit=WHOLE, source=stdin)
    except CommandError:
        raise ImageError("there is no `docker` here; install it, on hosts by slipway.fleet.provision") from None
    if ran.timed_out and not output:
        raise ImageError(f"`docker {arguments[0]}` did not end within {timeout:.0f} s")
    if ran.returncode and not (accept and accept in ran.stderr):
        raise ImageError(f"`docker {arguments[0]}` failed: {_why(ran, output)}")
    return ran.stdout


def _why(ran: Ran, output: int) -> str:
    """Why a command failed: the older builder prints what its steps say, and as an error no more than their code."""
    if not output:
        return ran.said
    said = (tail(text.strip(), output) for text in (ran.stdout, _OLDER_BUILDER.sub("", ran.stderr)))
    return "\n".join(text for text in said if text) or ran.said


def parse(inspected: str) -> Image:
    item = json.loads(inspected)[0]
    return Image(
        id=item["Id"],
        tags=item.get("RepoTags") or [],
        digests=item.get("RepoDigests") or [],
        content=((item.get("Config") or {}).get("Labels") or {}).get(CONTENT_LABEL),
        architecture=item["Architecture"],
        size=item["Size"],
        layers=(item.get("RootFS") or {}).get("Layers") or [],
        made=made_as(item.get("Created"), item.get("Config")),
    )


def made_as(created: Optional[str], config: Optional[dict[str, Any]]) -> dict[str, Any]:
    """What tells two images with the same layers apart, from an image's configuration or Docker's view of it."""
    told = {name: (config or {}).get(name) or None for name in ("Env", "Cmd", "Entrypoint", "Labels", "User")}
    return {"Created": (created or "").partition(".")[0].rstrip("Z"), **told}


def build_arguments(values: dict[str, str]) -> list[str]:
    """Command line arguments that give a build its variables."""
    return [part for name, value in sorted(values.items()) for part in ("--build-arg", f"{name}={value}")]


def find(reference: str) -> Optional[Image]:
    """The image with this name or id, None where the daemon has none."""
    try:
        return parse(docker("image", "inspect", reference))
    except ImageError as error:
        if "No such image" in str(error):
            return None
        raise


def look(reference: str, check_mode: bool) -> dict[str, Any]:
    """The image as the host has it, as a module's result. A dry run before Docker is installed sees none."""
    try:
        found = find(reference)
    except ImageError as error:
        if check_mode:
            return {"changed": False, "image": None, "without_docker": str(error)}
        raise
    return {"changed": False, "image": found.as_dict() if found else None}


def image_named_in(compose_file: Path) -> Optional[str]:
    """The image that a release's Compose file names, None where there is no file."""
    return image_in(compose_file.read_text(encoding="utf-8")) if compose_file.is_file() else None


def image_in(text: str) -> Optional[str]:
    """The image that the text of a Compose file names first."""
    for line in text.splitlines():
        key, _, value = line.strip().partition(": ")
        if key == "image":
            return value.strip("\"'")
    return None
