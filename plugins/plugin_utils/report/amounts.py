# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Times and sizes in words. Pure."""

from __future__ import annotations

from typing import Optional


def span(seconds: Optional[float]) -> Optional[str]:
    """A time in words of at most two units; None stays None."""
    if seconds is None:
        return None
    left = int(seconds)
    if left < 60:
        return f"{left} s"
    for unit, length, smaller, count in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if left >= length:
            rest = left % length // count
            return f"{left // length} {unit}" + (f" {rest} {smaller}" if rest else "")
    return None


def size(count: Optional[int]) -> Optional[str]:
    """Bytes in words; None stays None."""
    if count is None:
        return None
    for unit, length in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if count >= length:
            return f"{count / length:.1f} {unit}"
    return f"{count} B"
