"""Whichever runtime a release was staged for.

A release on a host carries its runtime with it: its directory holds compose.yaml or unit.service. Taking a host from
one runtime to the other is therefore a release like any other, and so is a rollback over the change.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Optional

from ..host.command import Ran
from ..host.shown import staged
from .assets import Assets
from .beside import DECLARED, Instance
from .compose import Compose
from .doors import port_of, slot_ports
from .keeps import keeps_of
from .model import SLOTS, SlotStatus
from .runtime import STAGED_BY, Adapter, RuntimeFailed
from .slots import SlotDirectories
from .systemd import Systemd
from .users import Owner
from .volumes import Volumes

TOOLS = {"compose": "docker", "systemd": "systemctl"}
SOCKETS = Path("/run/slipway")


def staged_for(releases: Path, release: str) -> Optional[str]:
    """The runtime that a release was staged for, None where it is not staged."""
    return next((kind for kind, name in STAGED_BY.items() if (releases / release / name).is_file()), None)


class Runtimes:
    """Both adapters as one. One whose tool the host lacks, or that no staged release needs, is not asked.

    What an app printed leaves here without its secrets and without what a terminal obeys.
    """

    def __init__(
        self,
        app: str,
        releases: Path,
        adapters: Optional[dict[str, Adapter]] = None,
        directories: Optional[SlotDirectories] = None,
        ports: Optional[Mapping[str, int]] = None,
        volumes: Optional[Volumes] = None,
    ) -> None:
        """`ports` are those of the slots on this host; without them the ones that the app's name makes."""
        self.releases = releases
        self.directories = directories or SlotDirectories(SOCKETS / app)
        self.ports = ports or slot_ports(app)
        self.volumes = volumes or Volumes(app)
        self.adapters: dict[str, Adapter] = adapters or {
            "compose": Compose(app, releases, self.directories.sockets, self.ports),
            "systemd": Systemd(app, releases, self.directories.sockets, ports=self.ports),
        }
        self.beside = BesideOfAll(self)
        # What was last seen or started in each slot; None before anybody looked.
        self._in_slot: Optional[dict[str, Optional[str]]] = None

    def kind(self, release: str) -> str:
        """The runtime that a release was staged for. Raises RuntimeFailed when there is no such release."""
        if kind := staged_for(self.releases, release):
            return kind
        raise RuntimeFailed(f"release {release} is not staged on this host (no files in {self.releases / release})")

    def start(self, slot: str, release: str) -> None:
        """Start `release` in `slot`, by its own runtime, with nothing left of what was in the slot before."""
        adapter = self.adapters[self.kind(release)]
        self.directories.renew(slot, self.prepare(release))
        self._in_slot = {**(self._in_slot or {}), slot: release}
        adapter.start(slot, release)

    def prepare(self, release: str) -> Optional[Owner]:
        """Have what a release needs beside its files: secrets that its user can read, its volumes and static files.

        Returns its user and group, None where it does not say. Raises RuntimeFailed.
        """
        adapter = self.adapters[self.kind(release)]
        owner, keeps = adapter.owner(release), keeps_of(self.releases, release)

        def fill(path: str, to: Path) -> None:
            adapter.contents(release, path, to)

        if owner:
            _own(self.releases / release / "secrets", owner)
            self.volumes.have(keeps.volumes, owner, fill)
        Assets(self.releases).have(release, keeps.assets, fill)
        return owner

    def admit(self, release: str) -> None:
        """Raise RuntimeFailed where a release cannot write to a volume of its own, before anything is done for it."""
        volumes = keeps_of(self.releases, release).volumes
        if volumes and (owner := self.adapters[self.kind(release)].owner(release)):
            self.volumes.require_owner(volumes, owner)

    def share(self, release: str) -> None:
        """Have the static files of this release and of the others served by each other. Raises RuntimeFailed."""
        Assets(self.releases).share(release, keeps_of(self.releases, release).assets)

    def port(self, slot: str) -> int:
        """Where what is in a slot listens: a TCP port, 0 for the slot's socket, and where that cannot be seen.

        In a container it is the one that the release names; a unit shares the host's network, and has the slot's own.
        """
        if slot not in (self._in_slot or {}):
            with suppress(RuntimeFailed):
                self.status()
        release = (self._in_slot or {}).get(slot)
        port = port_of(self.releases, release) if release else 0
        return self.ports[slot] if port and staged_for(self.releases, str(release)) == "systemd" else port

    def stop(self, slot: str, grace: float) -> None:
        for adapter in self._used().values():
            adapter.stop(slot, grace)

    def status(self) -> dict[str, SlotStatus]:
        """Both slots. Of two runtimes that know a slot the one that runs it counts, then the one with a release."""
        found = {slot: SlotStatus() for slot in SLOTS}
        for adapter in self._used().values():
            for slot, status in adapter.status().items():
                if _weight(status) > _weight(found[slot]):
                    found[slot] = status
        self._in_slot = {slot: status.release for slot, status in found.items()}
        return found

    def logs(self, slot: str, lines: int) -> str:
        """What the slot printed, by whichever runtime has something of it."""
        said = (adapter.logs(slot, lines) for adapter in self._used().values())
        return staged(self.releases).text("\n".join(text for text in said if text))

    def listening(self, slot: str) -> list[str]:
        return sorted({address for adapter in self._used().values() for address in adapter.listening(slot)})

    def past_edge(self, slot: str) -> list[str]:
        return sorted({address for adapter in self._used().values() for address in adapter.past_edge(slot)})

    def discard(self, releases: list[str]) -> None:
        for adapter in self._used().values():
            adapter.discard(releases)

    def retire(self, slot: str) -> None:
        for adapter in self._used().values():
            adapter.retire(slot)

    def there(self, releases: list[str]) -> list[str]:
        return [release for adapter in self._used().values() for release in adapter.there(releases)]

    def run(self, release: str, words: list[str], timeout: float, name: str, together: bool = False) -> Ran:
        """Run a one-off command in `release`, by its own runtime."""
        self.directories.have_oneoff()
        self.prepare(release)
        ran = self.adapters[self.kind(release)].run(release, words, timeout, name, together)
        screen = staged(self.releases)
        return replace(ran, stdout=screen.text(ran.stdout), stderr=screen.text(ran.stderr))

    def _used(self) -> dict[str, Adapter]:
        return {
            kind: adapter
            for kind, adapter in self.adapters.items()
            if any(self.releases.glob(f"*/{STAGED_BY[kind]}")) and shutil.which(TOOLS[kind])
        }


def _own(secrets: Path, owner: Owner) -> None:
    """Have a release's secrets belong to its user; they do already but for the first time. Raises RuntimeFailed."""
    try:
        for path in (*secrets.iterdir(), secrets) if secrets.is_dir() else ():
            status = path.lstat()
            if (status.st_uid, status.st_gid) != owner:
                os.chown(path, *owner, follow_symlinks=False)
    except OSError as error:
        raise RuntimeFailed(f"the secrets in {secrets} cannot be given to uid {owner[0]}: {error.strerror}") from error


def _weight(status: SlotStatus) -> int:
    return 2 * status.running + (status.release is not None)


class BesideOfAll:
    """The processes of both adapters as those of one; where no staged release declares any nobody is asked."""

    def __init__(self, runtimes: Runtimes) -> None:
        self.runtimes = runtimes

    def instances(self) -> list[Instance]:
        if not any(self.runtimes.releases.glob(f"*/{DECLARED}")):
            return []
        return [one for adapter in self.runtimes._used().values() for one in adapter.beside.instances()]

    def start(self, slot: str, release: str, group: int, replicas: Mapping[str, int]) -> None:
        self.runtimes.adapters[self.runtimes.kind(release)].beside.start(slot, release, group, replicas)

    def end(self, instances: Sequence[Instance]) -> None:
        for kind, some in self._by_adapter(instances).items():
            self.runtimes.adapters[kind].beside.end(some)

    def kill(self, instances: Sequence[Instance]) -> None:
        for kind, some in self._by_adapter(instances).items():
            self.runtimes.adapters[kind].beside.kill(some)

    def forget(self, instances: Sequence[Instance]) -> None:
        for kind, some in self._by_adapter(instances).items():
            self.runtimes.adapters[kind].beside.forget(some)

    def logs(self, instance: Instance, lines: int) -> str:
        (kind,) = self._by_adapter([instance])
        return staged(self.runtimes.releases).text(self.runtimes.adapters[kind].beside.logs(instance, lines))

    def _by_adapter(self, instances: Sequence[Instance]) -> dict[str, list[Instance]]:
        found: dict[str, list[Instance]] = {}
        for one in instances:
            found.setdefault("systemd" if one.id.endswith(".service") else "compose", []).append(one)
        return found
