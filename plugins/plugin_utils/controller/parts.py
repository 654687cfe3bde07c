# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""How long each part of a run took, from when each began."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any


# Name and beginning, in seconds since the epoch. A play that goes in batches begins once for each of them.
def timed(marks: Sequence[tuple[str, float]], now: float) -> list[dict[str, Any]]:
    """Parts with `start` and `end`, those of one name in a row taken together; the last one is under way."""
    found: list[dict[str, Any]] = []
    for (name, start), (_, end) in pairwise([*marks, ("", now)]):
        if found and found[-1]["name"] == name:
            found[-1]["end"] = end
        else:
            found.append({"name": name, "start": start, "end": end})
    return found
