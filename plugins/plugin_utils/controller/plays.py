# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""When each play of this run began, for the report.

The callback `progress` notes it in the process of ansible-playbook; its workers are forked from that and read it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

# Name and beginning, in seconds since the epoch. A play that goes in batches begins once for each of them.
begun: list[tuple[str, float]] = []


def timed(marks: Sequence[tuple[str, float]], now: float) -> list[dict[str, Any]]:
    """Plays with `start` and `end`, the batches of one taken together; the last one is under way."""
    found: list[dict[str, Any]] = []
    for (name, start), (_, end) in pairwise([*marks, ("", now)]):
        if found and found[-1]["name"] == name:
            found[-1]["end"] = end
        else:
            found.append({"name": name, "start": start, "end": end})
    return found
