# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The schema of an app that has Alembic: asked for and brought forward inside its own image, judged here.

What runs there is the text of `alembic_inside.py`. It applies nothing that was not judged, so a revision that comes
between look and change is judged as well.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.migrations import answer
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused

# Each is a start of the app's image. The first one asks, and applies what needs no judgement; a second one is the rule
# where something is pending, more only where somebody else deploys other revisions meanwhile.
ASKED = 5
# In fastapi_app_migrations: the working directory of the app.
HERE = "alembic"

# Runs a command in a release and returns what it printed.
Ask = Callable[[Sequence[str]], Coroutine[Any, Any, str]]
# What is done between the look at what is pending and the change.
Before = Callable[[Mapping[str, Any]], Coroutine[Any, Any, None]]


class NotUnderstood(Refused):
    """What came back is not what the program prints."""


async def bring_forward(
    ask: Ask,
    where: str,
    allow_destructive: bool,
    again: Callable[[], None],
    before: Optional[Before] = None,
    tell: Callable[[list[str]], None] = lambda revisions: None,
    judged: Callable[[Mapping[str, Any]], None] = lambda found: None,
) -> str:
    """Apply what is pending, and return the revision in which the database is then; several are joined by commas.

    Raises Refused where a revision may break the release before, and whatever `ask`, `again` and `before` raise.

    Args:
        ask: runs a command in the release
        where: fastapi_app_migrations
        allow_destructive: whether nothing is judged
        again: called before each change but the first question
        before: called once with what is pending and was judged, before anything of it is applied; the first question
            changes nothing then, not even an empty database
        tell: gets the revisions that were judged and are applied now
        judged: gets what is pending and is not refused, each time before anything of it is applied
    """
    allowed: Optional[list[str]] = None if allow_destructive else []
    for _ in range(ASKED):
        looks = {"look": True} if before else {}
        found = understood(await ask(words(where, allowed=allowed, **looks)))
        if not found["pending"]:
            return str(found["to"] or "")
        if not (looks and (allow_destructive or not found["from"])) and (lost := taken_away(found)):
            raise Refused(
                f"DestructiveError: {told(lost)}. The release that serves may still use that while the fleet turns "
                "over, and could not be rolled back to. Deploy a release that no longer uses it first, then allow it "
                "with -e fastapi_app_allow_destructive=true"
            )
        judged(found)
        again()
        if before:
            await before(found)
            before = None
            again()
        revisions = [str(one["revision"]) for one in found["pending"]]
        tell(revisions)
        allowed = None if allow_destructive else revisions
    raise Refused("somebody else goes on migrating this database; deploy again when nobody does")


async def require_fit(ask: Ask, where: str, revision: str) -> None:
    """Raise Refused where the database lost something since `revision`, by the release that serves."""
    found = understood(await ask(words(where, since=revision)))
    if lost := taken_away(found):
        raise Refused(
            f"DestructiveError: the database is at {found['to']}, and since {revision} {told(lost)}. A release of "
            f"{revision} would miss that, so it cannot be rolled back to; migrations are never undone. Deploy a "
            "release that fits the schema, or leave this question out with -e fastapi_app_migrations="
        )


def words(where: str, **what: Any) -> list[str]:
    """The command in an app that does `what` alembic_inside.py tells."""
    directory = "" if where == HERE else where
    return ["python3", "-c", program(), json.dumps({"directory": directory, **what})]


@lru_cache(maxsize=1)
def program() -> str:
    return Path(__file__).with_name("alembic_inside.py").read_text(encoding="utf-8")


def understood(output: str) -> dict[str, Any]:
    found = answer(output)
    if not isinstance(found.get("pending"), list):
        last = (output.strip().splitlines() or ["nothing"])[-1][:200]
        raise NotUnderstood(
            f"the image's entry point does not run what it is given: a question about its migrations was answered with "
            f'{last}; have the entry point end with exec "$@"'
        )
    return found


def taken_away(found: Mapping[str, Any]) -> dict[str, list[str]]:
    """For each pending revision what the release before may not survive; without those that have nothing of that."""
    if not found["pending"]:
        return {}
    # Its parser takes longer to load than all else of a deploy with nothing to do.
    from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.schema_changes import (  # noqa: PLC0415 - as above
        Made,
        NoParser,
        destructive,
    )

    lost: dict[str, list[str]] = {}
    made = Made()
    for one in found["pending"]:
        try:
            statements = destructive(one["sql"], found["dialect"], made)
        except NoParser as error:
            raise Refused(str(error)) from error
        if one["unread"]:
            statements.append(f"what it does depends on the database, and cannot be read before ({one['unread']})")
        if statements:
            lost[one["revision"]] = statements
    return lost


def told(lost: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"revision {name}: {', '.join(statements)}" for name, statements in lost.items())
