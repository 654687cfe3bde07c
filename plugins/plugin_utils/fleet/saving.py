# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The database before a migration: a set of the hosts that back it up, and what the plan says of that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Host, Refused, Result
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.run import Member, Run, Stopped, trouble_of

# What a set is made for, a word that its repository shows.
REASON = "before-a-migration"
# In fastapi_app_backup_before_migrations: what a set that cannot be made means.
REQUIRED, WANTED, NONE = "required", "wanted", "none"
# The fault of a host on which another backup, drill or restore is under way; seconds for which its end is waited for,
# and between two looks.
BUSY, WAIT, EVERY = "busy", 1800.0, 10.0
# What a record says where no set could have the database.
ELSEWHERE = "without the database, which is elsewhere"


def makes_sets(run: Run, member: Member) -> bool:
    """Whether a set is made before what is pending is applied, or is missed."""
    return bool(run.savers) and member.target.backup != NONE


async def save(run: Run, member: Member) -> str:
    """Have a set of each host that backs the database up, and name them; empty where none was to be made or could be.

    Where the database is elsewhere that is told and recorded: hosts of the fleet cannot have it in a set.

    Raises Stopped where one cannot be made and is required, and where the run is to end meanwhile.
    """
    if not makes_sets(run, member):
        return ""
    made: list[str] = []
    if run.policy.unsaved:
        run.tell("warning", message=f"{elsewhere(run)}; whoever runs it keeps it")
        made.append(ELSEWHERE)
    for name, host in run.savers.items():
        try:
            asked = {"verb": "backup", "reason": REASON}
            done = await run.unless_stopped(asked_of(run, member, name, host, asked))
        except Stopped:
            raise
        except Exception as error:
            cause = trouble_of(error).cause
            if member.target.backup == REQUIRED:
                member.trouble = trouble_of(error)
                raise Stopped(
                    f"{run.so_far}; {name}: no set could be made before the migrations: {cause}. Mend that, or go on "
                    f"without one with -e fastapi_app_backup_before_migrations={WANTED}"
                ) from error
            run.tell("warning", message=f"{name}: no set was made before the migrations: {cause}")
        else:
            made.insert(len(made) - bool(run.policy.unsaved), f"{done['set']} of {name}")
            for words in done.get("warnings") or ():
                run.tell("warning", message=f"{name}: {words}")
            run.tell_of("saved", name, {key: done.get(key) for key in ("set", "bytes", "seconds")})
    return ", ".join(made)


async def asked_of(run: Run, member: Member, name: str, host: Host, asked: Mapping[str, Any]) -> Result:
    """What a host answers that backs the database up; one that is busy with something else is waited for.

    Raises Unreachable and Refused.
    """
    deadline = run.clock.now() + WAIT
    waits = False
    while True:
        try:
            return await host.call("backup", {**asked, "record": record_of(run, member)})
        except Refused as error:
            if error.details.get("fault") != BUSY or run.clock.now() >= deadline:
                raise
            if not waits:
                busy = str(error).removeprefix("nothing was done: ")
                run.tell("warning", message=f"{name}: {busy}; waiting for that")
            waits = True
        await run.clock.sleep(EVERY)


def elsewhere(run: Run) -> str:
    """Why the sets of the hosts that make some will not have the database."""
    hosts = ", ".join(run.policy.unsaved)
    return (
        f"no set has the database, since it is elsewhere (postgres_provider: none on {hosts}) and no host is told how "
        "it is dumped (backup_database_elsewhere)"
    )


def record_of(run: Run, member: Member) -> dict[str, Any]:
    """Whose operation it is, for the ledger of the host that does it."""
    return {"root": member.target.place["root"], **{name: run.policy.run.get(key) for name, key in OF_A_RUN.items()}}


OF_A_RUN = {"run": "id", "who": "who", "from": "from"}


def planned(run: Run, migrations: Sequence[str]) -> str:
    """What the plan says of sets, once; empty where no migration is to be expected."""
    member = run.changing[0]
    target = member.target
    known = target.migrations or (target.migrate and run.since and migrations)  # as `staging.migrate` knows it
    if run.policy.operation != "deploy" or not known or target.backup == NONE:
        return ""
    if not run.savers:
        return "Before migrations: no set is made, since no host of data with a database has backup_repository"
    first = ""
    if target.rehearse:
        first = (
            f"; what is pending runs on it first, and is refused where that takes over {target.rehearse_limit:.0f} s"
        )
    lacks = f"; {elsewhere(run)}" if run.policy.unsaved else ""
    return f"Before migrations: a set of {', '.join(run.savers)} is made{first}{lacks}"
