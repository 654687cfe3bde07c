# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""How events of a run get from the worker that has them to the live line of a terminal, which the main process has.

A worker's output goes through Display to the main process. Where that shows a live line, an event travels the same way,
as text that is recognized and not printed.

Once the run is interrupted, Ansible reads nothing of its workers any more. What the roll has to say then goes through a
pipe of our own, from which the callback `progress` reads.
"""

from __future__ import annotations

import json
import os
import select
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from ansible.utils.display import Display
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Event

MARK = "\x00slipway-event "
# Set by the callback `progress` before workers are forked from its process.
shown: list[bool] = []
# Likewise the pipe for what is said after an interruption: the end that is read, and the one that is written.
pipe: list[int] = []
PATIENCE = 5.0  # seconds to wait once for whoever reads it
# Whether what this process says goes through the pipe.
diverted: list[bool] = []


def packed(event: Event) -> str:
    """The event as text for Display; only where `shown` has something."""
    return MARK + json.dumps(asdict(event), default=str)


def unpacked(text: object) -> Event | None:
    """The event in a text; None where it is one for people."""
    if not isinstance(text, str) or not text.startswith(MARK):
        return None
    return Event(**json.loads(text.removeprefix(MARK)))


def divert() -> None:
    """From now on, what this worker displays goes through the pipe."""

    def display(text: object, color: str | None = None, *_: Any, **options: Any) -> None:
        if not options.get("log_only") and unpacked(text) is None:
            with suppress(OSError):
                _write(json.dumps([str(text), color]).encode() + b"\n")

    diverted.append(True)
    Display().display = display


def _write(line: bytes) -> None:
    while line and pipe:
        if select.select([], pipe[1:], [], PATIENCE)[1]:
            line = line[os.write(pipe[1], line) :]
        else:  # nobody reads it any more, as after a second Ctrl-C: the hosts count more
            pipe.clear()


def said(read: bytes) -> Iterator[tuple[str, str | None]]:
    """The texts and their colours in what was read of the pipe."""
    for line in read.splitlines():
        text, color = json.loads(line)
        yield text, color
