# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The edge as users see it while a run changes the fleet."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ansible.utils.display import Display
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller import run
from ansible_collections.slipway.fleet.plugins.plugin_utils.probe import client, process


class EdgeProbe:
    """Requests through the edge while the fleet turns over. That they cannot be sent is told, and no reason to stop.

    `urls` and `path` are what is asked where the `options` name nothing.
    """

    def __init__(
        self, options: Mapping[str, Any], urls: Callable[[], list[str]], path: str, directory: Path, dry: bool
    ) -> None:
        self._options = options
        self._urls = urls
        self._path = path
        self._files = process.Files.of(directory, run.run_id())
        self._off = dry or not options["rate"]
        self.summary: dict[str, Any] = {}

    async def start(self) -> None:
        if self._off:
            return
        settings = {
            "urls": self._options["urls"] or self._urls(),
            "path": self._options["path"] or self._path,
            "rate": self._options["rate"],
            "timeout": 5.0,
        }
        try:
            process.start(settings, self._files, run.main())
        except (OSError, ValueError) as error:
            Display().warning(f"the probe cannot ask the edge, so the report will have no requests: {error}")

    async def stop(self) -> None:
        if not self._off:
            self.summary = await asyncio.to_thread(process.stop, self._files)

    def samples(self) -> list[Any]:
        return client.read_samples(self._files.samples)[0] if self._files.samples.exists() else []

    def forget(self) -> None:
        """The report has what the samples tell."""
        self._files.samples.unlink(missing_ok=True)
