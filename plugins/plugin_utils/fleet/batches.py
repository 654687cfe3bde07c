# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""In which groups the hosts of a fleet take their turns. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def batches_of(hosts: Sequence[str], batches: Sequence[Any]) -> list[list[str]]:
    """The hosts in the groups in which `batches` takes them.

    As Ansible's `serial` reads it: a number or a percentage of all hosts (at least one), the last entry as often as
    needed. Raises ValueError for an entry that takes no host any further.
    """
    found: list[list[str]] = []
    first = 0
    widths = [width_of(entry, len(hosts)) for entry in batches] or [len(hosts)]
    while first < len(hosts):
        width = widths[min(len(found), len(widths) - 1)]
        found.append(list(hosts[first : first + width]))
        first += width
    return found


def width_of(entry: Any, hosts: int) -> int:
    """How many of so many hosts an entry of the batches takes; 0 means all. Raises ValueError."""
    text = str(entry).strip()
    try:
        width = max(int(float(text[:-1]) / 100 * hosts), 1) if text.endswith("%") else int(text) or hosts
        wrong = text.startswith("-") or isinstance(entry, bool)
    except (ValueError, OverflowError):
        width, wrong = 0, True
    if wrong:
        raise ValueError(
            f"slipway_batches has {entry!r}; use a number of hosts such as 2, or a percentage of them such as 25%"
        )
    return max(width, 1)


def batch_of(host: str, hosts: Sequence[str], batches: Sequence[Any]) -> int:
    """The number of the batch, from 1, in which a host is taken. Raises ValueError as `batches_of` does."""
    return next(number for number, batch in enumerate(batches_of(hosts, batches), 1) if host in batch)
