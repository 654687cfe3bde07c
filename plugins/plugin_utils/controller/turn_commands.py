# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Runs a command of the operator's on the controller, beside the coordinator's loop."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.host.command import CommandError, run
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.link import in_thread

# Lines of what it said that stand in a message, the last ones, which say why; and characters of them.
LINES, LONGEST = 3, 300


def missing(turn: Mapping[str, Any]) -> list[str]:
    """A sentence for each command of a host's turn that this controller does not have."""
    first = {when: str(words[0]) for when in ("before", "after") if (words := turn.get(when))}
    return [
        f"fastapi_app_{when}_turn begins with {word}, which is no program on the controller, where it runs; name one "
        "that is executable, such as {{ inventory_dir }}/leave.sh"
        for when, word in first.items()
        if not shutil.which(word)
    ]


async def run_command(words: Sequence[str], seconds: float, variables: Mapping[str, str]) -> str:
    """Why it failed, in its last words; empty where it ended with 0. See `Commands` of `fleet/parts.py`."""
    return await in_thread(lambda: failure_of(words, seconds, variables))


def failure_of(words: Sequence[str], seconds: float, variables: Mapping[str, str]) -> str:
    try:
        ran = run(words, seconds, {**os.environ, **variables}, merge=True)
    except CommandError:
        return f"`{words[0]}` cannot be run on the controller; look whether it is there and executable"
    if ran.timed_out:
        return f"`{words[0]}` did not end within {seconds:g} s (fastapi_app_turn_timeout)"
    if ran.returncode == 0:
        return ""
    said = " / ".join(line.strip() for line in ran.said.splitlines()[-LINES:] if line.strip())
    return f"`{words[0]}` ended with {ran.returncode}: {said[-LONGEST:]}"
