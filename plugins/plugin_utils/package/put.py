# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""A package on its way to hosts: wheels are fetched once for each kind of host, and each is sent what it lacks."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import PackageError, Packages, Target
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle.archive import BundleError, wheels_of
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.link import Link, Question
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Identity, Result
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.request import PackageRequest
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.source import PackageSource, Wheel, cached_wheels
from ansible_collections.slipway.fleet.plugins.plugin_utils.sbom import document as sbom


@dataclass(frozen=True)
class Had:
    """A package on a host, which has this Python; `sent` are bytes."""

    python: str
    changed: bool
    sent: int = 0


class PackageWay:
    """One package for all hosts with an equal request; code and lock are read once. Raises PackageError."""

    def __init__(self, request: PackageRequest, check_mode: bool = False) -> None:
        self.request = request
        self._check_mode = check_mode
        self._fetched: dict[Target, list[Wheel]] = {}
        self._fetching = threading.Lock()

    @cached_property
    def source(self) -> PackageSource:
        return self.request.content()

    @cached_property
    def key(self) -> str:
        """Of the source, and of a Python that the inventory names: another one takes an environment of its own."""
        key, python = self._content, self.request.python
        return key if python == PackageRequest.python else hashlib.sha256(f"{key}\0{python}".encode()).hexdigest()

    @cached_property
    def _content(self) -> str:
        return self.source.key()

    def identify(self) -> Identity:
        """Raises PackageError for what would stop the package later, when hosts are being changed already."""
        identity = self.identity  # before the lock is read, so that a change of it meanwhile is seen
        self.source.check(self.request.wheels, self.request.ca_file)
        return identity

    @property
    def identity(self) -> Identity:
        notes = (self.source.lock.note,) if self.source.lock.note else ()
        return Identity(str(Packages(self.request.root).path(self.key)), self.key, warnings=notes)

    def question(self) -> Question:
        """What every host is asked: whether it has it, the Python that it has, and the wheels that need not be sent."""
        return "find", {"content": self.key, **self.request.place}

    def look(self, host: Link) -> Result:
        operation, options = self.question()
        return host.call(operation, **options)

    def prepare(self, seen: Mapping[str, Result]) -> bool:
        """Have the wheels for every kind of host that lacks the package."""
        targets = {Target(**one["target"]) for one in seen.values() if not one["present"]}
        for target in targets:
            self.source.refuse(target, self.request.python)
        if not self._check_mode:
            for target in sorted(targets, key=str):
                self._wheels(target)
            if targets:
                self._project()
        return False

    def put(self, host: Link, seen: Result) -> Had:
        seen = seen or self.look(host)
        target = Target(**seen["target"])
        if not seen["present"]:
            self.source.refuse(target, self.request.python)
        if seen["present"] or self._check_mode:
            return Had(target.version, changed=not seen["present"])
        with tempfile.TemporaryDirectory(prefix="slipway-") as directory:
            archive = Path(directory) / "package.tar"
            wheels, project = self._wheels(target), self._project()
            lines = self.source.requirements(target)
            if self.source.write(archive, lines, wheels, set(seen["wheels"]), project) != self._content:
                raise self.source.changed()
            size = archive.stat().st_size
            host.call_with(archive, "install", content=self.key, **self.request.place)
        return Had(target.version, changed=True, sent=size)

    def bill(self, seen: Result) -> Path:
        """The file with the bill of materials, made once for each content and Python. Raises SbomError, too."""
        target = Target(**seen["target"])
        content = f"{self.key}-{target.short}"
        path = sbom.cached(content)
        if path.exists():
            return path
        wheels = [(item.path, item.sha256) for item in self._wheels(target)]
        return sbom.keep(content, sbom.of_wheels(self.request.app, self.key, wheels))

    def _wheels(self, target: Target) -> list[Wheel]:
        with self._fetching:
            if target not in self._fetched:
                self._fetched[target] = self._fetch(self.source.requirements(target), target)
            return self._fetched[target]

    def _project(self) -> Wheel | None:
        request = self.request
        with self._fetching:
            return self.source.wheel(request.wheels, request.ca_file, self._bundled())

    def _bundled(self) -> Path | None:
        try:
            return wheels_of(self.request.bundle) if self.request.bundle else None
        except BundleError as error:
            raise PackageError(str(error)) from error

    def _fetch(self, requirements: str, target: Target) -> list[Wheel]:
        request = self.request
        if bundled := self._bundled():
            return cached_wheels(requirements, target, bundled, None, offline=True)
        return cached_wheels(requirements, target, request.wheels, request.ca_file)


def result_of(way: PackageWay, had: Had | None = None) -> dict[str, Any]:
    """The result of a task."""
    identity = way.identity
    result = {"changed": bool(had and had.changed), "reference": identity.reference, "content": identity.content}
    if identity.warnings:
        result["warnings"] = list(identity.warnings)
    return result | ({"python": had.python, "sent": had.sent} if had else {})
