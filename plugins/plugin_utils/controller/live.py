# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""How events of a run get from the worker that has them to the live line of a terminal, which the main process has.

A worker's output goes through Display to the main process. Where that shows a live line, an event travels the same way,
as text that is recognized and not printed.
"""

from __future__ import annotations

import json
from dataclasses import asdict

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Event

MARK = "\x00slipway-event "
# Set by the callback `progress` before workers are forked from its process.
shown: list[bool] = []


def packed(event: Event) -> str:
    """The event as text for Display; only where `shown` has something."""
    return MARK + json.dumps(asdict(event), default=str)


def unpacked(text: object) -> Event | None:
    """The event in a text; None where it is one for people."""
    if not isinstance(text, str) or not text.startswith(MARK):
        return None
    return Event(**json.loads(text.removeprefix(MARK)))
