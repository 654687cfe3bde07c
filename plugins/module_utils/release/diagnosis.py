"""Names the cause of a refused release from what was seen of its slot."""

from __future__ import annotations

import json
import re
from typing import Any

from .model import Probe, SlotStatus

_EXCEPTION = re.compile(r"\b((?:\w+\.)*\w*(?:Error|Exception)): ([^\n\"\\]+)")
_OUT_OF_MEMORY = re.compile(r"perhaps out of memory", re.IGNORECASE)
_KILLED = 137  # 128 + SIGKILL, how Docker reports it


def last_exception(log: str) -> str:
    """The last `SomeError: text` of a log, plain or inside JSON; empty when there is none."""
    found = _EXCEPTION.findall(log.replace("\\n", "\n"))
    return f"{found[-1][0]}: {found[-1][1].strip()}" if found else ""


def last_words(log: str) -> str:
    """What a process said last: the message of a JSON line, else the line; empty when it said nothing."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    if not lines:
        return ""
    try:
        entry = json.loads(lines[-1])
        return str(entry.get("message") or entry.get("msg") or lines[-1])
    except (AttributeError, ValueError):
        return lines[-1]


def explain(cause: str, status: SlotStatus, health: Probe, evidence: dict[str, Any]) -> str:
    """One sentence that says why the slot never got ready.

    Ordered from what explains most: a process killed for memory also shows a missing socket, an exception explains
    both an exit and a failing health check, and listening elsewhere explains a missing socket.
    """
    log = str(evidence.get("log", ""))
    if status.out_of_memory or status.exit_code == _KILLED or _OUT_OF_MEMORY.search(log):
        return f"out of memory: the kernel killed it at its memory limit ({cause})"
    if health.status == 0 and (exception := last_exception(log)):
        return f"{exception} ({cause})"
    listening = [address for address in evidence.get("listening", []) if address.startswith("tcp")]
    if health.error and listening:
        return f"it listens on {', '.join(listening)} and not on the slot's socket ({cause})"
    if not status.running and health.error and (words := last_words(log)):
        return f"{words[:200]} ({cause})"
    return cause
