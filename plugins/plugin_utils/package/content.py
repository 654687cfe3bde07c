# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The package of a release, for the coordinator of a fleet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import TypeVar

from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import PackageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.link import FleetLink, Once, in_thread
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import ContentError, Host, Identity, Result
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.put import PackageWay
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.request import PackageRequest
from ansible_collections.slipway.fleet.plugins.plugin_utils.sbom.document import SbomError

T = TypeVar("T")


class PackageContent:
    """A `Content` over a PackageWay, whose work is done in threads beside the coordinator's loop."""

    def __init__(self, way: PackageWay, check_mode: bool = False) -> None:
        self._way = way
        self._check_mode = check_mode
        self._question = Once(way.question)
        # What the first host told, whose Python is the one of the bill of materials.
        self._seen: Result | None = None

    async def identify(self) -> Identity:
        return await self._done(in_thread(self._way.identify))

    async def look(self, host: Host) -> Result:
        operation, options = await self._done(self._question.result())
        seen = await self._done(host.call("package", {"operation": operation, **options}))
        self._seen = self._seen or seen
        return seen

    async def prepare(self, seen: Mapping[str, Result], hosts: Mapping[str, Host]) -> bool:
        return await self._done(in_thread(lambda: self._way.prepare(seen)))

    async def put(self, host: Host, seen: Result) -> tuple[Identity, bool]:
        link = self._link(host)
        had = await self._done(in_thread(lambda: self._way.put(link, seen)))
        return self._way.identity, had.changed

    async def bill(self) -> Path | None:
        seen = self._seen
        if not self._way.request.sbom or self._check_mode or seen is None:
            return None
        try:
            return await in_thread(lambda: self._way.bill(seen))
        except (PackageError, SbomError, OSError) as error:
            raise ContentError(str(error)) from error

    def _link(self, host: Host) -> FleetLink:
        return FleetLink(host, "package", self._check_mode, asyncio.get_running_loop())

    async def _done(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except PackageError as error:
            raise ContentError(str(error)) from error
        except OSError as error:
            raise ContentError(f"the controller cannot read or write what it needs of the package: {error}") from error


def package_content(request: PackageRequest, check_mode: bool) -> PackageContent:
    """The package that a request asks for, one for all hosts with an equal request.

    Args:
        request: what is asked
        check_mode: nothing is fetched, sent or made, and it is told whether it would be
    """
    return PackageContent(PackageWay(request, check_mode), check_mode)
