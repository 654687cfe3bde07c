"""The hosts of a Molecule scenario: made as its ``platforms`` say, booted, and removed with their disks."""

from __future__ import annotations

import ipaddress
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab import docker, prepared
from lab.hosts import DOCKER_DISK, await_boot, container_arguments
from lab.report import step
from lab.shell import CommandError, LabError, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

_NETWORK_SIZE = 24  # bits of a scenario's network; its hosts have addresses that are known before, as real ones have


@dataclass(frozen=True)
class Platform:
    """One host of a scenario."""

    name: str
    image: str
    ports: tuple[str, ...] = ()
    """Published ones, as ``docker run --publish`` takes them."""
    network: str = ""
    """The scenario's own network; Docker's default one when empty."""
    address: str = ""
    """Its IPv4 address in the scenario's own network."""
    disk: str = ""
    """The volume for its Docker, which is a copy of the prepared one; a new and empty one when empty."""
    processors: int = 0
    """How many it has; all when 0. It sees no others, where a share of time would leave it to count all of them."""

    @classmethod
    def parse(cls, entry: dict[str, Any]) -> Platform:
        """Read one entry of Molecule's ``platforms``.

        Raises:
            LabError: Something is missing.
        """
        try:
            networks = entry.get("networks") or [{"name": "", "ipv4_address": ""}]
            prepared_disk = f"{prepared.DISK}:{DOCKER_DISK}" in entry.get("volumes", ())
            return cls(
                name=entry["name"],
                image=entry.get("image") or prepared.TAG,
                ports=tuple(entry.get("published_ports", ())),
                network=networks[0]["name"],
                address=networks[0]["ipv4_address"],
                disk=f"{entry['name']}-docker" if prepared_disk else "",
                processors=int(entry.get("cpus", 0)),
            )
        except KeyError as error:
            raise LabError(f"A platform of the scenario's molecule.yml has no {error}: {json.dumps(entry)}") from error

    @property
    def subnet(self) -> ipaddress.IPv4Network:
        return ipaddress.IPv4Network(f"{self.address}/{_NETWORK_SIZE}", strict=False)

    def run_arguments(self) -> list[str]:
        """Return the arguments of ``docker run`` that make it."""
        arguments = ["--name", self.name, "--hostname", self.name, *container_arguments(self.disk)]
        if self.network:
            arguments += ["--network", self.network, "--ip", self.address]
        if self.processors:
            arguments += ["--cpuset-cpus", f"0-{self.processors - 1}"]
        for port in self.ports:
            arguments += ["--publish", port]
        return [*arguments, self.image]


def parse(platforms: str) -> list[Platform]:
    """Read Molecule's ``platforms`` from JSON."""
    return [Platform.parse(entry) for entry in json.loads(platforms)]


def create(platforms: Sequence[Platform], logs: Path) -> None:
    """Make the hosts and wait until each has booted; what an earlier run left of them is removed first.

    Args:
        platforms: The hosts.
        logs: The directory for the output of a preparation, where one is needed.

    Raises:
        LabError: An image is missing and cannot be made here, or a host does not come up.
    """
    if any(platform.image == prepared.TAG for platform in platforms):
        prepared.ensure(logs)
    if any(platform.disk for platform in platforms):
        prepared.ensure_disk()
    for image in sorted({platform.image for platform in platforms}):
        if docker.find_image(image) is None:
            raise LabError(f"The image {image} is missing. Make it with: python3 -m lab images")
    destroy(platforms)
    with step(platforms[0].name, f"starting {_count(platforms)}"):
        for name, subnet in sorted({(platform.network, platform.subnet) for platform in platforms if platform.network}):
            run("docker", "network", "create", "--subnet", str(subnet), name, timeout=60)
        _each(_start, platforms)


def destroy(platforms: Sequence[Platform]) -> None:
    """Remove the hosts with their disks and networks, whichever of them are there."""
    _each(_remove, platforms)
    for disk in sorted(platform.disk for platform in platforms if platform.disk):
        _ignore_missing("docker", "volume", "rm", disk)
    for network in sorted({platform.network for platform in platforms if platform.network}):
        _ignore_missing("docker", "network", "rm", network)


def _start(platform: Platform) -> None:
    if platform.disk:
        prepared.copy_disk(platform.disk)
    docker.start(platform.run_arguments())
    await_boot(platform.name)


def _remove(platform: Platform) -> None:
    _ignore_missing("docker", "rm", "--force", "--volumes", platform.name)


def _ignore_missing(*argv: str) -> None:
    try:
        run(*argv, timeout=120)
    except CommandError as error:
        if not any(words in error.output.lower() for words in ("no such", "not found")):
            raise


def _each(action: Callable[[Platform], None], platforms: Iterable[Platform]) -> None:
    with ThreadPoolExecutor() as pool:
        list(pool.map(action, platforms))


def _count(platforms: Sequence[Platform]) -> str:
    return "one host" if len(platforms) == 1 else f"{len(platforms)} hosts"
