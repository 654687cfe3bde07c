# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Tries an image, or what a directory builds, until it serves in the sandbox of a release or nothing is left to do."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError, docker, find
from ansible_collections.slipway.fleet.plugins.module_utils.release.diagnosis import last_exception, last_words
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.build import FromContext
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import ImageRequest
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.findings import OPENAPI, health_path
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.lines import Found, Row, lines, problem
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.stages import target_of
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.trial import (
    Answer,
    Seen,
    Shipped,
    Trial,
    first_trial,
    next_trial,
)

# Each is a start of the container; a project with twenty variables that it asks for one by one is looked at, too.
MOST_TRIALS = 25
# What no name of an image begins with (distribution/reference, its grammar); none ends with a slash.
_OF_A_PATH = ("/", ".", "~")
GIVEN = ("dockerfile", "target", "build_args", "ca_file")
NOTHING_GIVEN = ImageRequest("")
Told = Callable[[str], None]


class Place(Protocol):
    """Where a trial is run."""

    def look(self, trial: Trial, about: Shipped, deadline: float) -> Seen:
        """What was seen until it answered, ended, or so many seconds were over."""
        ...


def search(place: Place, about: Shipped, usual: Trial, socket: str, deadline: float, told: Told) -> tuple[Trial, Seen]:
    """The last trial, with what was seen: the one that serves, or the one after which there was nothing to change.

    Args:
        place: where trials are run
        about: what the image says of itself
        usual: user and memory of a release where nothing is written
        socket: of its slot
        deadline: seconds for each trial
        told: is called with a line for each trial
    """
    trial, before = first_trial(about, usual), ""
    for _ in range(MOST_TRIALS):
        words = _differs(trial, usual)
        told(f"started with {words}" + (" of another form" if words == before else ""))
        before = words
        seen = place.look(trial, about, deadline)
        following = next_trial(trial, seen, about, socket)
        if following is None:
            return trial, seen
        trial = following
    raise ImageError(f"it was started {MOST_TRIALS} times, and asked for more each time: {_differs(trial, usual)}")


def _differs(trial: Trial, usual: Trial) -> str:
    """What one trial is about, for who waits."""
    words = [f"port {trial.port}" if trial.port else "the socket of a slot"]
    words += [f"user {trial.user[0]}"] if trial.user != usual.user else []
    words += ["questions as by HTTPS"] if trial.proto != usual.proto else []
    words += ["one worker"] if trial.workers else []
    words += [f"{trial.memory_mib} MiB"] if trial.memory_mib != usual.memory_mib else []
    words += ["a system that it may write to"] if not trial.read_only else []
    words += [f"values for {', '.join(sorted(trial.variables))}"] if trial.variables else []
    return ", ".join(words)


def report(
    name: str,
    origin: tuple[str, str],
    about: Shipped,
    usual: Trial,
    trial: Trial,
    seen: Seen,
    socket: str,
    built: Sequence[Row] = (),
) -> tuple[str, str]:
    """The lines of an inventory, and why a release with them would not serve; that is empty where it would."""
    health, why = health_path(about, seen.answers, seen.answers.get(OPENAPI, Answer(0)).text)
    found = Found(name, origin, about, usual, trial, seen, health, why, built)
    if not (wrong := problem(found, socket)):
        return lines(found), ""
    exception = last_exception(seen.log)
    words = exception or last_words(seen.log)
    which = "the last exception in its log" if exception else "the last line of its log"
    return lines(found), f"{wrong}; {which}: {words[:500]}" if words else wrong


def refuse_no_directory(what: str) -> None:
    """Raise ImageError where this is written as a path, and no directory is there: no image has such a name."""
    path = Path(os.path.expanduser(what))  # Path.expanduser raises where there is no such user
    if path.is_dir() or not (what.startswith(_OF_A_PATH) or what.endswith("/")):
        return
    wrong = "is no directory" if path.exists() else "does not exist"
    raise ImageError(f"{path.absolute()} {wrong}; name the directory of a project, or an image")


def target_in(what: str, request: ImageRequest) -> tuple[str, str]:
    """The stage of a directory's Dockerfile that serves, and why; empty for the last one, and where one is named."""
    path = Path(what).expanduser() / request.dockerfile
    return ("", "") if request.target or not path.is_file() else target_of(path.read_text(errors="replace"))


def given_to_build(what: str, request: ImageRequest) -> list[Row]:
    """What was given by hand for the build of a directory: without it the lines would build something else."""
    if not Path(what).expanduser().is_dir():
        return []
    given = {name: getattr(request, name) for name in GIVEN if getattr(request, name) != getattr(NOTHING_GIVEN, name)}
    return [
        (f"fastapi_image_{name}", str(value) if isinstance(value, Path) else value, "you gave it, and it was built so")
        for name, value in given.items()
    ]


@contextmanager
def had(what: str, request: ImageRequest) -> Iterator[tuple[str, tuple[str, str]]]:
    """An image to look at, and the line of an inventory that names it; what was not there before is gone afterwards.

    Args:
        what: a directory with a Dockerfile, or the name of an image
        request: how images of this inventory are built
    """
    directory = Path(what).expanduser()
    origin = ("fastapi_image_context", str(directory.resolve())) if directory.is_dir() else ("fastapi_image_name", what)
    image, temporary = _built(directory, request) if directory.is_dir() else _taken(what)
    try:
        yield image, origin
    finally:
        if temporary:
            with suppress(ImageError):  # another inspection of the same uses it, and removes it
                docker("image", "rm", temporary)


def _built(directory: Path, request: ImageRequest) -> tuple[str, str]:
    """The image of a directory, and the name that goes afterwards."""
    if not (directory / request.dockerfile).is_file():
        raise ImageError(f"{directory} has no {request.dockerfile}; name it with fastapi_image_dockerfile")
    building = replace(request, name="slipway-inspect/image", source="build", context=directory, bundle=None)
    _, wanted = FromContext(building).take_here()
    return wanted.reference, wanted.reference


def _taken(name: str) -> tuple[str, str]:
    """An image by its name, and the same name where it was not there before."""
    if found := find(name):
        return found.id, ""
    docker("pull", "--quiet", name, timeout=1800)
    return name, name


def app_name(what: str) -> str:
    """A name for the app, from that of its directory or image."""
    base = Path(what).expanduser().resolve().name if Path(what).expanduser().is_dir() else what.rpartition("/")[2]
    plain = re.sub(r"[^a-z0-9]+", "-", base.partition(":")[0].partition("@")[0].lower()).strip("-")
    return plain if re.match(r"[a-z]", plain) else f"app-{plain}".strip("-")
