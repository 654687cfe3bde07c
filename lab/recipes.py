"""The images of the lab: which official one each stands for, and how it is made where that cannot be pulled."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

CONTEXTS = Path(__file__).parent / "images"

# What roles install from the distribution. The host images hold the packages as files (not installed), so that
# an installation on a new host is a real one and yet takes no download.
_DOWNLOADED = {
    "bookworm": "acl docker.io haproxy iptables nftables postgresql-client python3-psycopg2 unattended-upgrades",
    "trixie": "acl docker-buildx docker-cli docker-compose docker.io haproxy iptables nftables postgresql-client"
    " python3-psycopg2 unattended-upgrades",
}


@dataclass(frozen=True)
class Recipe:
    """One image."""

    tag: str
    purpose: str
    context: str
    """The directory under lab/images with all that it is made from."""
    official: str | None = None
    """What is pulled and re-tagged instead where a registry answers; None when the lab always makes it."""
    base: str | None = None
    """The tag of the lab image that it is built on; None for an image that debootstrap makes."""
    arguments: tuple[tuple[str, str], ...] = ()
    """Build arguments, or for debootstrap the suite."""

    @property
    def directory(self) -> Path:
        return CONTEXTS / self.context


def _debian(suite: str) -> Recipe:
    return Recipe(
        tag=f"slipway.lab/debian:{suite}",
        purpose="base of the other images",
        context="debian",
        official=f"debian:{suite}-slim",
        arguments=(("SUITE", suite),),
    )


def _service(name: str, purpose: str, *, official: str) -> Recipe:
    return Recipe(
        tag=f"slipway.lab/{name}",
        purpose=purpose,
        context=name.partition(":")[0],
        official=official,
        base="slipway.lab/debian:trixie",
    )


def _host(suite: str) -> Recipe:
    return Recipe(
        tag=f"slipway.lab/host:{suite}",
        purpose="a host with systemd and ssh",
        context="host",
        base=f"slipway.lab/debian:{suite}",
        arguments=(("DOWNLOADED", _DOWNLOADED[suite]),),
    )


# Each after its base.
RECIPES = (
    _debian("trixie"),
    _service("python:3.13", "base of the app's image", official="python:3.13-slim"),
    _service("postgres:17", "the database", official="postgres:17"),
    _service("redis:8", "the cache", official="redis:8"),
    _host("trixie"),
    _debian("bookworm"),
    _host("bookworm"),
    Recipe(
        tag="slipway.lab/postgres:15",
        purpose="an earlier major version of the database",
        context="postgres_15",
        official="postgres:15",
        base="slipway.lab/debian:bookworm",
    ),
)


def inputs_digest(recipe: Recipe, *others: str) -> str:
    """Return a digest of everything that the image is made from.

    Args:
        recipe: Its files count with their relative path, content and executable bit, and so do its arguments.
            What Python compiled of them does not.
        others: Further inputs, such as the identity of the base image or the certificates put in.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in recipe.directory.rglob("*") if path.is_file() and path.suffix != ".pyc"):
        name = path.relative_to(recipe.directory).as_posix()
        _add(digest, name, str(bool(path.stat().st_mode & 0o100)))
        _add(digest, hashlib.sha256(path.read_bytes()).hexdigest())
    for name, value in recipe.arguments:
        _add(digest, name, value)
    _add(digest, *others)
    return digest.hexdigest()


def _add(digest: hashlib._Hash, *parts: str) -> None:
    """Add strings so that no two different lists of them give the same bytes."""
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "big") + data)
