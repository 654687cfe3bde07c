"""Whose inventory a shared database server has its settings from: that of the app that was there first."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from ..host.durable import read_json
from ..host.shared import REFUSE, REPLACE, differing
from .access import UNNAMED, Access, AccessError, Login


@dataclass(frozen=True)
class Kept:
    """The app whose inventory the settings are from, and what they were, by their variables."""

    app: str
    values: Mapping[str, Any]

    @property
    def text(self) -> str:
        return json.dumps({"app": self.app, "settings": dict(self.values)}, indent=2, sort_keys=True) + "\n"


def read(path: Path) -> Optional[Kept]:
    """What was recorded, None where nothing was. Raises Damaged and OSError."""
    found = read_json(path)
    if found is None or not isinstance(found.get("settings"), dict):
        return None
    return Kept(str(found.get("app")), found["settings"])


def keeper(known: Optional[Kept], found: Access, app: str, logins: tuple[Login, ...]) -> str:
    """The app whose settings the server has now; UNNAMED for one that has no name there yet."""
    if known and known.app in found.parts:
        return known.app
    if not found.parts or set(found.parts.get(UNNAMED, ())) & set(logins):
        return app
    return next(iter(found.parts))


def takes(known: Optional[Kept], whose: str, mine: Kept, shared: str) -> bool:
    """Whether the server gets this app's settings. Raises AccessError where it has others of another app."""
    if whose == mine.app or shared == REPLACE:
        return True
    if shared == REFUSE and known and known.app == whose:
        _compare(known, mine)
    return False


def _compare(known: Kept, mine: Kept) -> None:
    told = [
        f"{name} (there {json.dumps(known.values[name])}, here {json.dumps(mine.values[name])})"
        for name in differing(known.values, mine.values)
    ]
    if told:
        raise AccessError(
            "nothing was changed in the database server: "
            f"the settings of this database server are those of {known.app}, from an inventory of "
            f"its own, and differ from the ones here: {'; '.join(told)}. Give both the same, or set "
            "postgres_shared_settings: keep to leave them as they are, or replace to change them for every app, which "
            "restarts the server"
        )
