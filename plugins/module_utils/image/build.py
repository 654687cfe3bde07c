"""One build with the Docker that is here, on the controller or on a build host."""

from __future__ import annotations

import itertools
import os
import posixpath
import re
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Optional

from ..host.command import CommandError, run
from ..host.durable import make_public
from .layers import packed_in, place_of, repository_of, save
from .load import connected_as
from .local import CONTENT_LABEL, Image, ImageError, build_arguments, docker, find, image_named_in
from .ssh import NO_SSH, Ssh, in_memory

OUTGOING = Path("/var/lib/slipway/outgoing")
RELEASES = "*/releases/*/compose.yaml"
APPS = Path("/opt/slipway")
TAGS_KEPT = 5
# Characters of the end of a build's output that are shown where it fails, and as many of its errors.
_SHOWN = 4000
SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
# Options of a Dockerfile's commands that the older builder does not know (docs.docker.com/reference/dockerfile).
_OF_BUILDKIT = {
    "RUN": ("--mount", "--network", "--security"),
    "COPY": ("--link", "--chmod", "--parents", "--exclude"),
    "ADD": ("--link", "--chmod", "--checksum", "--keep-git-dir", "--exclude"),
}
# What Docker says where it cannot have an image that a Dockerfile begins with.
_NO_BASE = re.compile(
    r'Get "https?://[^"]+/v2/|pull access denied|manifest unknown|manifest for \S+ not found|'
    r"failed to resolve (?:source|ref)"
)
_ARGUMENT = re.compile(r"\$(?:\{(?P<braced>\w+)(?::?-(?P<default>[^}]*))?\}|(?P<plain>\w+))")
_HEREDOC = re.compile(r"[0-9]*<<(?P<dash>-?)(?P<name>[^<]+)")
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:[^"\\]|\\.)*"|'[^']*'|["'\\])+""")
NO_BUILDKIT = (
    "{} needs BuildKit, since the older builder {}: install docker-buildx (Debian 13 and later) or "
    "docker-buildx-plugin (Docker's repository) where the image is built, or build it on a host that has it: "
    "fastapi_image_build_on"
)


def build(
    context: Path,
    reference: str,
    content: str,
    dockerfile: str,
    arguments: dict[str, str],
    secrets: dict[str, str],
    ssh: Ssh = NO_SSH,
    target: str = "",
) -> Image:
    """Build from the archive of a context, up to the stage `target` where one is named.

    Raises ImageError with the end of the build's output, and before anything is built where the Dockerfile needs a
    builder that is not there.
    """
    buildkit = has_buildkit()
    if secrets and not buildkit:
        raise ImageError(NO_BUILDKIT.format("fastapi_image_build_secrets", "would leave the secrets in a layer"))
    if ssh.wanted and not buildkit:
        raise ImageError(NO_BUILDKIT.format(ssh.variable, "knows no RUN --mount=type=ssh"))
    text = dockerfile_in(context, dockerfile)
    if not buildkit and (word := of_buildkit(text, target)):
        raise ImageError(NO_BUILDKIT.format(f"`{word}` in {dockerfile}", "does not know it"))
    told = _told_with_bases(dockerfile, text, arguments)
    with told, _secret_files(secrets) as secret_options, ssh.options() as ssh_options, open(context, "rb") as stream:
        docker(
            # The older builder leaves the container of a step that fails, unless it is told not to.
            *(("buildx", "build", "--load", "--progress", "plain") if buildkit else ("build", "--force-rm")),
            *("--tag", reference, "--file", dockerfile, "--label", f"{CONTENT_LABEL}={content}"),
            *build_arguments(arguments),
            *([f"--target={target}"] if target else []),
            *secret_options,
            *ssh_options,
            "-",
            timeout=3600,
            stdin=stream,
            # An image that is one image, and no index of an image and papers about it.
            environment={"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"},
            output=_SHOWN,
        )
    built = find(reference)
    if built is None:
        raise ImageError(f"the build of {reference} succeeded, but the image is not there")
    return built


def dockerfile_in(context: Path, name: str) -> str:
    """The text of a Dockerfile in the archive of a context; empty where it is none, which the build itself says."""
    try:
        with tarfile.open(context) as archive:
            found = archive.extractfile(posixpath.normpath(name))
            return found.read().decode(errors="replace") if found else ""
    except (KeyError, tarfile.TarError):
        return ""


def of_buildkit(text: str, target: str = "") -> str:
    """What a Dockerfile has that BuildKit alone understands, as its line has it; empty where there is nothing.

    With the name or number of a stage as `target`, what comes after that stage is not read.
    """
    lines, stage, last = text.splitlines(), 0, False
    for words, below in _commands(lines):
        command = words[0].upper()
        if command == "FROM" and last:
            break
        if command == "FROM":
            name = words[-1].lower() if [word.upper() for word in words[-2:-1]] == ["AS"] else ""
            last = bool(target) and target.lower() in (name, str(stage))
            stage += 1
        if command not in ("RUN", "COPY", "ADD"):
            continue
        options = list(itertools.takewhile(lambda word: word.startswith("--"), words[1:]))
        found = [option for option in options if option.startswith(_OF_BUILDKIT[command])]
        found += [word for word in words[1 + len(options) :] if _begins_text(word, lines[below:])]
        if found:
            return f"{command} {found[0].partition(',')[0]}"
    return ""


def bases_of(text: str, arguments: dict[str, str]) -> dict[str, list[str]]:
    """The images that a Dockerfile takes from elsewhere, each with the arguments of the build that name it."""
    known: dict[str, str] = {}
    begun, stages = False, {"scratch"}
    found: dict[str, list[str]] = {}

    def value(match: re.Match[str]) -> str:
        name = match["braced"] or match["plain"]
        return known.get(name) or match["default"] or ""

    for words, _ in _commands(text.splitlines()):
        command, rest = words[0].upper(), [word for word in words[1:] if not word.startswith("--")]
        if command == "ARG" and not begun:
            for word in rest:
                name, _, default = word.partition("=")
                known[name] = arguments.get(name, default.strip("\"'"))
        elif command == "FROM" and rest:
            names = [match["braced"] or match["plain"] for match in _ARGUMENT.finditer(rest[0])]
            image = _ARGUMENT.sub(value, rest[0])
            if image and image.lower() not in stages and not image.isdecimal():
                found.setdefault(image, names)
            begun = True
            stages.update(name.lower() for name in rest[2:])
        elif command == "COPY":
            for image in (word.partition("=")[2] for word in words[1:] if word.startswith("--from=")):
                if image.lower() not in stages and not image.isdecimal():
                    found.setdefault(image, [])
    return found


@contextmanager
def _told_with_bases(dockerfile: str, text: str, arguments: dict[str, str]) -> Iterator[None]:
    """Where a build has no image to begin with, Docker names a registry, and seldom the line that wants it."""
    try:
        yield
    except ImageError as error:
        bases = bases_of(text, arguments)
        if not _NO_BASE.search(str(error)) or not bases:
            raise
        told = [f"{image} ({', '.join(names)})" if names else image for image, names in bases.items()]
        where = " or of fastapi_image_build_args" if any(bases.values()) else ""
        raise ImageError(
            f"an image that {dockerfile} begins with could not be had: {' or '.join(told)}. Mend the name there"
            f"{where}, or have the image where it is built. {error}"
        ) from None


def _commands(lines: list[str]) -> Iterator[tuple[list[str], int]]:
    """The commands of a Dockerfile in words as a shell has them, each with the number of the line below it."""
    below = 0
    while below < len(lines):
        command = lines[below]
        below += 1
        while not command.lstrip().startswith("#") and command.rstrip().endswith("\\") and below < len(lines):
            if not lines[below].lstrip().startswith("#"):
                command = f"{command.rstrip()[:-1]} {lines[below]}"
            below += 1
        if words := _WORD.findall(command):
            yield words, below


def _begins_text(word: str, below: list[str]) -> bool:
    """Whether a word of a command stands for the lines below it, up to one that has its name and nothing else."""
    found = _HEREDOC.fullmatch(word)
    if not found:
        return False
    name = found["name"].replace("'", "").replace('"', "")
    return name in ([line.lstrip("\t") for line in below] if found["dash"] else below)


def has_buildkit() -> bool:
    """Whether the client here can build with BuildKit: that is the buildx plugin."""
    try:
        return run(["docker", "buildx", "version"], 60.0).returncode == 0
    except CommandError:
        raise ImageError("there is no `docker` here; install it, on hosts by slipway.fleet.provision") from None


@contextmanager
def _secret_files(secrets: dict[str, str]) -> Iterator[list[str]]:
    """Options that give a build its secrets: files of this user alone, in memory where the system has that."""
    for name in secrets:
        if not SECRET_NAME.fullmatch(name):
            raise ImageError(f"fastapi_image_build_secrets: {name!r} is no name; use letters, digits, _, . and -")
    if not secrets:
        yield []
        return
    with in_memory() as directory:
        options = []
        for name, value in secrets.items():
            path = directory / name
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
                stream.write(value)
            options += ["--secret", f"id={name},src={path}"]
        yield options


def build_for_fleet(options: dict[str, Any]) -> dict[str, Any]:
    """On a build host: the image, unless it is there, and what the controller must know to fetch its layers."""
    reference = options["name"]
    there = find(reference)
    built = there is None
    if there is None:
        there = build(
            Path(options["archive"]), reference, options["content"], options["dockerfile"],
            options["build_args"], options["build_secrets"],
            Ssh(bool(options.get("build_ssh")), str(options.get("build_ssh_key") or ""), "this build host"),
            str(options.get("build_target") or ""),
        )  # fmt: skip
        bound_build_cache(options["build_cache_mib"])
        prune_tags(reference)
    return {"changed": built, "image": there.as_dict()}


def export(options: dict[str, Any]) -> dict[str, Any]:
    """On a build host: the wanted layers as files that the connection's user can read."""
    directory = OUTGOING / place_of(options["name"])
    make_public(directory.parent)
    directory.mkdir(mode=0o700, exist_ok=True)
    wanted = set(options["layers"])
    for diff_id, layer in packed_in(directory).items():
        if diff_id not in wanted:
            layer.path.unlink()
    there = find(options["name"])
    if there is None:
        raise ImageError(f"{options['name']} was removed right after it was built; build it again")
    saved = save(there.id, directory, wanted, there.size)
    os.chown(directory, connected_as(), -1)
    files = [layer.path for layer in packed_in(directory).values()]
    for path in files:
        os.chown(path, connected_as(), -1)
    return {
        "changed": False,
        "saved": saved.as_dict(),
        "outgoing": str(directory),
        "files": [path.name for path in files],
    }


def forget_export(options: dict[str, Any]) -> dict[str, Any]:
    """On a build host: the controller has them now."""
    shutil.rmtree(OUTGOING / place_of(options["name"]), ignore_errors=True)
    return {"changed": False}


def bound_build_cache(mib: Optional[int]) -> None:
    """Keep the newest of BuildKit's cache, up to so many MiB."""
    if mib is None or not has_buildkit():
        return
    size = f"{mib}MB"
    try:
        docker("buildx", "prune", "--force", "--keep-storage", size)
    except ImageError:  # the option's newer name
        docker("buildx", "prune", "--force", "--max-used-space", size)


def prune_tags(reference: str, keep: int = TAGS_KEPT) -> None:
    """Untag older images of the same app that were built here, but none that a release on this machine names."""
    named = {reference} | images_of_releases()
    shown = docker(
        "image", "ls", "--filter", f"label={CONTENT_LABEL}", "--format", "{{.Repository}}:{{.Tag}}",
        repository_of(reference),
    ).split()  # fmt: skip
    for old in [name for name in shown if name not in named and not name.endswith(":<none>")][keep - 1 :]:
        with suppress(ImageError):  # a container uses it
            docker("image", "rm", old)


def images_of_releases() -> set[str]:
    """The images that releases on this machine name, of whatever app."""
    return {name for path in APPS.glob(RELEASES) if (name := image_named_in(path))}
