# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The edge as users see it while a run changes the fleet."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller import run
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Unwatchable
from ansible_collections.slipway.fleet.plugins.plugin_utils.probe import client, process
from ansible_collections.slipway.fleet.plugins.plugin_utils.probe.edges import Edge

TIMEOUT = 5.0  # seconds that an answer may take
NAMED = 3  # edges that a warning names
REMEDY = (
    "slipway_url of a host or slipway_probe_urls say where to ask, slipway_probe_ca_file whose certificates to "
    "believe, and slipway_probe_rate: 0 turns the probe off"
)


class EdgeProbe:
    """Requests through the edge while the fleet turns over.

    A variable that cannot be used ends the run before anything is changed. An edge that cannot be asked is a warning
    then, or ends it, too, where the probe must pass.

    Args:
        options: rate, urls, path, ca_file and must_pass, as slipway.fleet.rollout has them
        find: the edges, and a sentence for each that cannot be asked
        path: what is asked for where the options do not say it, as the app knows it
        directory: where the samples go
        dry: nothing is sent
        prefix: where at the edge the app's paths begin that the options do not say
    """

    def __init__(
        self,
        options: Mapping[str, Any],
        find: Callable[[], tuple[list[Edge], list[str]]],
        path: str,
        directory: Path,
        dry: bool,
        prefix: Callable[[], str] = str,
    ) -> None:
        self._options = options
        self._find = find
        self._path = path
        self._files = process.Files.of(directory, run.run_id())
        self._dry = dry
        self._prefix = prefix
        self._settings: dict[str, Any] = {}
        self._begun = False
        self.summary: dict[str, Any] = {}
        # Edges that gave an answer of the app before the roll, by their place among those asked.
        self.served: list[int] = []

    async def look(self, serving: Mapping[str, str]) -> Sequence[str]:
        """What cannot be asked, see `fleet.parts.Watch`."""
        must = self._options["must_pass"]
        if not self._options["rate"]:
            if must:
                raise Unwatchable("slipway_probe_must_pass is set and slipway_probe_rate is 0; take one of them away")
            return []
        edges, wrong = self._edges()
        if edges:
            self._settings = self._settings_for(edges, set(serving.values()))
            self.served = [at for at, edge in enumerate(edges) if serving and (edge.host in serving or edge.balances)]
            wrong = [*wrong, *([] if self._dry else await self._unanswered(edges))]
        if wrong and must:
            raise Unwatchable(f"slipway_probe_must_pass is set, and {' '.join(told(wrong))}")
        return told(wrong)

    def _edges(self) -> tuple[list[Edge], list[str]]:
        try:
            edges, wrong = self._find()
        except AnsibleError as error:
            return [], [f"the edges cannot be computed from their variables: {error}"]
        return edges, wrong if edges or wrong else ["there is no host whose edge could be asked"]

    def _settings_for(self, edges: Sequence[Edge], known: Collection[str]) -> dict[str, Any]:
        """Raises Unwatchable for values that an operator has to mend; `known` are the paths of what serves now."""
        prefix = self._prefix()
        path = self._options["path"] or prefix + self._path
        settings = {
            "urls": [edge.url for edge in edges],
            "names": {edge.url: edge.name for edge in edges if edge.name},
            "trusted": {edge.url: edge.trusted for edge in edges if edge.trusted},
            "ca_file": self._options["ca_file"] or "",
            "path": path,
            "earlier": [] if self._options["path"] else sorted({prefix + one for one in known if one} - {path}),
            "rate": self._options["rate"],
            "timeout": TIMEOUT,
        }
        try:
            client.Settings(samples="", **settings).targets()
        except (OSError, ValueError) as error:
            raise Unwatchable(
                f"the probe cannot be sent as its variables say (slipway_probe_*, slipway_url): {error}"
            ) from error
        return settings

    async def _unanswered(self, edges: Sequence[Edge]) -> list[str]:
        """A sentence for each edge at which something is served, but gives no answer.

        Perhaps this controller cannot reach it, though its users can: what it answers later decides nothing.
        """
        settings = client.Settings(samples="", **self._settings)
        samples = await client.Run(settings, settings.targets()).once()
        silent = [at for at in self.served if samples[at].get("error")]
        self.served = [at for at in self.served if at not in silent]
        return [
            f"{edges[at].url}{f' (as {edges[at].name})' if edges[at].name else ''} gives no answer of the app, "
            f"which its host says it serves: {samples[at]['error']}."
            for at in silent
        ]

    async def start(self) -> None:
        if self._settings and not self._dry:
            self._begun = True
            # This process settles the fleet also where ansible-playbook was killed, and that is to be seen, too.
            process.start(self._settings, self._files, (os.getpid(), client.started(os.getpid())))

    async def stop(self) -> None:
        if self._begun:
            self.summary = await asyncio.to_thread(process.stop, self._files, self.served)

    def samples(self) -> list[Any]:
        return client.read_samples(self._files.samples)[0] if self._files.samples.exists() else []

    def failure(self) -> str:
        """Why the run has failed by what was seen of the edge, empty where it has not: a sentence."""
        if not self._begun:
            return ""
        asked, failed = self.summary.get("requests", 0), self.summary.get("failed", 0)
        if self.served and client.silent(self.samples()):
            first = self.samples()[0]["error"]
            return f"the app answered none of {asked} requests through the edge, which served before (first: {first})"
        if self._options["must_pass"] and not asked:
            return "slipway_probe_must_pass is set, and no request of the probe was sent"
        if self._options["must_pass"] and failed:
            return f"{failed} of {asked} requests of the probe failed"
        return ""

    def doubt(self) -> str:
        """What is not known of a run that ended well, since this controller got no answer of the app: a sentence.

        Empty where it got one, or where that is a failure.
        """
        if not self._begun or self.failure() or not client.silent(self.samples()):
            return ""
        first = self.samples()[0]["error"]
        return (
            f"the app answered none of {self.summary.get('requests', 0)} requests of this controller through the edge "
            f"(first: {first}), so nobody has seen whether its users reach it. {REMEDY}"
        )

    def forget(self) -> None:
        """The report has what the samples tell."""
        self._files.samples.unlink(missing_ok=True)


def told(wrong: Sequence[str]) -> list[str]:
    """Sentences for people, of many the first ones, with what to do at the end."""
    if not wrong:
        return []
    more = f" The same goes for {len(wrong) - NAMED} more." if len(wrong) > NAMED else ""
    return [
        f"the probe cannot measure what it is to: {'; '.join(one.rstrip('.') for one in wrong[:NAMED])}.{more} {REMEDY}"
    ]
