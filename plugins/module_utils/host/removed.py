"""What is known of an app that was taken off a host: when, and by whom.

On a host that ran it nothing of it is left, its ledger included, so that is kept beside the directories of the apps
until the app is there again. On others (balancers, hosts of its data) its ledger has it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional

from .durable import read_json, write_durably
from .errors import SlipwayError
from .ledger import BEGUN, FAILED, Ledger, moment

# In the directory that has those of the apps.
PLACE = ".removed"
OPERATION = "remove"


def note(root: Path, by: Optional[Mapping[str, Any]]) -> None:
    """Keep that the app of this directory is taken off now, by the run that `by` tells. Raises OSError."""
    path = _path(root)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    said = {name: str((by or {}).get(name) or "") for name in ("who", "from")}
    write_durably(path, json.dumps({"at": moment(), **said}) + "\n", mode=0o600)


def forget(root: Path) -> None:
    """The app is there again. What stands in the way of that is told as long as nothing of the app is there."""
    with suppress(OSError):
        _path(root).unlink(missing_ok=True)


def told(root: Path) -> str:
    """That the app was removed, when and by whom; empty where nobody knows of it, or it came again."""
    found: Mapping[str, Any] = {}
    with suppress(SlipwayError, OSError):
        found = read_json(_path(root)) or _by_ledger(root)
    if not found:
        return ""
    who, whence = str(found.get("who") or ""), str(found.get("from") or "")
    by = f" by {who}{f' from {whence}' if whence else ''}" if who else ""
    return f"it was removed at {found.get('at')}{by}"


def _by_ledger(root: Path) -> Mapping[str, Any]:
    """The record of a removal, where that is the newest one of what is done to an app or its edge."""
    done = [one for one in Ledger(root).told() if "operation" in one and one.get("result") not in (BEGUN, FAILED)]
    if not done or done[-1].get("operation") != OPERATION:
        return {}
    return {**done[-1], "at": done[-1].get("end") or done[-1].get("start")}


def _path(root: Path) -> Path:
    return root.parent / PLACE / f"{root.name}.json"
