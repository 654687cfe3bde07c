"""What a host can be asked, as the table in plugins/plugin_utils/fleet/parts.py says, and which function does it.

A function takes the arguments and `tell`, which passes an event on at once, and returns a JSON object. Its module is
imported when it is asked for the first time: an idle host is asked two of them.
"""

from __future__ import annotations

import importlib
from typing import Any, Callable

from ..host.errors import SlipwayError

Result = dict[str, Any]
Tell = Callable[[Result], None]
Verb = Callable[[dict[str, Any], Tell], Result]

# The modules with a table VERBS, by the verbs that are not in the one of the release.
TABLES = {"image": "..image.operations", "package": "..package.operations", "backup": "..backup.asking"}
RELEASE = "..release.operations"
# What the agent does with the arguments of a verb that it served, when the controller is gone without a word.
WHEN_LEFT = {"hold": "fade", "renew": "fade"}


class Unknown(SlipwayError):
    """The controller asked for something that this agent does not know; the two are always of one version."""


def find(verb: str) -> Verb:
    """The function of a verb. Raises Unknown."""
    table: dict[str, Verb] = importlib.import_module(TABLES.get(verb, RELEASE), __package__).VERBS
    if verb not in table:
        raise Unknown(f"the agent does not know {verb!r}")
    return table[verb]
