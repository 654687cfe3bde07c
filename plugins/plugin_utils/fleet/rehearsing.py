# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The rehearsal of migrations: they run on a restored set first, and what was measured there is told, or refuses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Host, Refused, Result
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.run import Member, Run, Stopped, trouble_of
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.saving import asked_of

WITHOUT = "To deploy without a rehearsal: -e fastapi_app_rehearse=false"
# Locks of PostgreSQL by what nobody else can do meanwhile.
AGAINST = {"AccessExclusiveLock": "reads and writes"}
WRITES = "writes"


async def rehearse(run: Run, member: Member, words: Sequence[str]) -> Result:
    """Run the words of a migration on the newest set of the first host that backs the database up; tells what it saw.

    That host does, or where it has no app one of the app's hosts that restores its sets (`rehearsers`).

    Raises Refused where it cannot be rehearsed, fails there, takes longer than the limit, or leaves a schema on which
    the release that serves does not pass its gate, and Stopped where the run is to end meanwhile.
    """
    if not run.savers or run.policy.unsaved:
        raise Refused(f"fastapi_app_rehearse is true, and no host of this run backs a database up. {WITHOUT}")
    name, host, of = rehearser(run)
    target = member.target
    order = {
        **({"of": of} if of else {}),
        "app": target.place["app"],
        "release": member.wanted,
        "command": list(words),
        "timeout": target.migrate_timeout,
    }
    try:
        told = await run.unless_stopped(asked_of(run, member, name, host, {"verb": "rehearse", **order}))
    except Stopped:
        raise
    except Exception as error:
        cause = str(error) if isinstance(error, Refused) else trouble_of(error).cause
        raise Refused(
            f"the migrations were to be rehearsed on {name} before anything is applied: {cause}. {WITHOUT}"
        ) from error
    run.tell_of("rehearsed", name, told)
    if told["seconds"] > target.rehearse_limit:
        raise Refused(
            f"the migrations took {told['seconds']:.1f} s on set {told['set']} of {name}, and "
            f"fastapi_app_rehearse_limit is {target.rehearse_limit:.0f} s; split them, or allow more"
        )
    if told["refusal"]:
        words_of_it = (
            f"release {told['release']}, which serves, does not pass its gate on the migrated copy of set "
            f"{told['set']}: {told['refusal']}"
        )
        if not target.allow_destructive:
            raise Refused(f"{words_of_it}\nDeploy a release first that suits both schemas. {WITHOUT}")
        run.tell("warning", message=words_of_it)
    return told


def rehearser(run: Run) -> tuple[str, Host, str]:
    """The host that rehearses, and whose set it takes where that is another one's. Raises Refused."""
    name, host = next(iter(run.savers.items()))
    of = next((saver for saver in run.savers if saver in run.policy.rehearsers), "")
    if not of:
        return name, host, ""
    beside = run.policy.rehearsers[of]
    found = next((member.host for member in run.members if member.name == beside), None)
    if found is None:
        raise Refused(f"{beside} rehearses on the sets of {of} (backup_drill_of), and is not in this run. {WITHOUT}")
    return beside, found, of


def sentences(told: Mapping[str, Any]) -> list[str]:
    """What was seen in a rehearsal, a line each."""
    applied = ", ".join(told["applied"]) or "the migration"
    whose = f" of {told['of']}," if told.get("of") else ""
    said = [f"rehearsed on set {told['set']}{whose} of {told['time']}: {applied} in {told['seconds']:.1f} s"]
    for (table, against), held in longest(told["locks"]).items():
        said.append(f"rehearsed: {table} is locked against {against} for {held:.1f} s at most")
    said += [f"rehearsed: {one['table']} is written anew, {one['rows']} rows" for one in told["rewritten"]]
    said += [f"rehearsed: {one['rows']} rows of {one['table']} are changed" for one in told["changed"]]
    if told["unproven"]:
        said.append(f"rehearsed: whether the release that serves suits the new schema is not known, {told['unproven']}")
    elif not told["refusal"]:
        said.append(f"rehearsed: release {told['release']}, which serves, passes its gate on the migrated copy")
    return said


def longest(locks: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], float]:
    """For how many seconds others can do nothing with a table, or cannot write to it where that lasts longer."""
    found: dict[tuple[str, str], float] = {}
    for lock in locks:
        key = lock["table"], AGAINST.get(lock["mode"], WRITES)
        found[key] = max(found.get(key, 0.0), float(lock["seconds"]))
    all_of_it = {table: held for (table, against), held in found.items() if against != WRITES}
    return {
        (table, against): held
        for (table, against), held in found.items()
        if against != WRITES or held > all_of_it.get(table, -1.0)
    }


def recorded(told: Mapping[str, Any]) -> Result:
    """What of a rehearsal stands in the record of the release."""
    return {name: told[name] for name in ("set", "seconds", "locks", "rewritten", "changed", "release", "unproven")}
