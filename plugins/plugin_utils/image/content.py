# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The image of a release, for the coordinator of a fleet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import TypeVar

from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.link import FleetLink, Once, in_thread
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import (
    ContentError,
    Host,
    Identity,
    Refused,
    Result,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.image import sbom
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.context import ContextError
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import ImageRequest
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.source import ImageSource
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.sources import source_of

T = TypeVar("T")


class ImageContent:
    """A `Content` over an ImageSource, whose work is done in threads beside the coordinator's loop."""

    def __init__(self, source: ImageSource, check_mode: bool = False) -> None:
        self._source = source
        self._check_mode = check_mode
        self._question = Once(source.question)
        # The id that some host has it under, which the bill of materials is filed by, and that host.
        self._had: tuple[str, Host] | None = None

    async def identify(self) -> Identity:
        return await self._done(in_thread(self._source.identify))

    async def look(self, host: Host) -> Result:
        operation, options = await self._done(self._question.result())
        always = {"check_mode": True} if self._check_mode else {}
        seen = await self._done(host.call("image", {"operation": operation, **always, **options}))
        if image := seen.get("image"):
            self._had = (str(image["id"]), host)
        return seen

    async def prepare(self, seen: Mapping[str, Result], hosts: Mapping[str, Host]) -> bool:
        """`hosts` are those in `seen`, in the order of the run, and the build host where that is another one."""
        links = {name: self._link(host) for name, host in hosts.items()}
        return await self._done(in_thread(lambda: self._source.prepare(seen, links)))

    async def put(self, host: Host, seen: Result) -> tuple[Identity, bool]:
        link = self._link(host)
        had = await self._done(in_thread(lambda: self._source.put(link, seen)))
        if had.id:
            self._had = (had.id, host)
        return had.identity, had.changed

    async def bill(self) -> Path | None:
        if not self._source.request.sbom or self._check_mode or self._had is None:
            return None
        image, host = self._had
        link = self._link(host)
        try:
            return await in_thread(lambda: sbom.of(self._source, image, link))
        except sbom.ERRORS as error:
            raise ContentError(str(error)) from error

    def _link(self, host: Host) -> FleetLink:
        return FleetLink(host, "image", self._check_mode, asyncio.get_running_loop())

    async def _done(self, work: Awaitable[T]) -> T:
        try:
            return await work
        except (ImageError, ContextError) as error:
            raise ContentError(self._source.request.without_secrets(str(error))) from error
        except OSError as error:
            raise ContentError(f"the controller cannot read or write what it needs of the image: {error}") from error
        except Refused as error:
            raise Refused(self._source.request.without_secrets(str(error)), error.kind, error.details) from error


def image_content(request: ImageRequest, run: str, check_mode: bool) -> ImageContent:
    """The image that a request asks for, one for all hosts with an equal request.

    Args:
        request: what is asked
        run: names the run, in which a registry is asked once
        check_mode: nothing is built, moved or pulled, and it is told whether it would be
    """
    return ImageContent(source_of(request, run, check_mode), check_mode)
