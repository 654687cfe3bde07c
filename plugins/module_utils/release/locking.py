"""Who may change the app of a host: a run that holds it, or nobody while it is frozen.

Apart from the other verbs, since for the module of the lock all that this file imports is sent to the host.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..host.ledger import Ledger, recorded
from .lease import Lease

Arguments = dict[str, Any]
Result = dict[str, Any]
Tell = Callable[[dict[str, Any]], None]


def lease_of(arguments: Arguments) -> Lease:
    """The lease and the freeze of the app; takes app and root of the place alone."""
    return Lease(arguments["place"]["app"], Path(arguments["place"]["root"]))


def hold(arguments: Arguments, tell: Tell) -> Result:
    """Hold the app for the run {id, who, from, what}; a lease is no change of the host: it is gone when the run is.

    Raises Held when another run or a freeze holds it.
    """
    lease, holder = lease_of(arguments), _holder(arguments["run"])
    dead = lease.acquire(holder)
    if dead:
        _note(Path(arguments["place"]["root"]), "the lock was taken over from a run that is gone", holder, dead)
    return {"changed": False, "lease_file": str(lease.path), "taken_over": dead or {}}


def renew(arguments: Arguments, tell: Tell) -> Result:
    """Say that the run lives; `held` is false where it does not hold the app any more, `frozen` says why nobody may."""
    lease = lease_of(arguments)
    freeze = lease.frozen() or {}
    return {"held": lease.renew(arguments["run_id"]), "frozen": str(freeze.get("reason") or "")}


def fade(arguments: Arguments, tell: Tell) -> Result:
    """The controller of the run (`run_id`, or the `run` that asked to hold the app) is gone; asked by the agent itself.

    The lease ends soon, unless the controller comes back over another channel; a transaction under way keeps it as it
    fades.
    """
    run_id = arguments.get("run_id") or arguments["run"]["id"]
    return {"held": lease_of(arguments).fade(run_id)}


def freeze(arguments: Arguments, tell: Tell) -> Result:
    """Let nobody change the app, for a reason, until `free`."""
    lease, holder, reason = lease_of(arguments), _holder(arguments["run"]), arguments["reason"]
    before = lease.frozen()
    if before and before["reason"] == reason:
        return {"changed": False}
    with recorded(_record_of(arguments, holder), "lock", f"frozen: {reason}", before=before) as note:
        lease.freeze(reason, {name: holder[name] for name in ("who", "from", "since")})
    return {"changed": True, **note.unwritten()}


def free(arguments: Arguments, tell: Tell) -> Result:
    """Lift the freeze and break the lease."""
    lease = lease_of(arguments)
    there = [entry for entry in (lease.frozen(), lease.holder()) if entry]
    if not there:
        return {"changed": False}
    freed = " and ".join("the freeze was lifted" if "reason" in entry else "the lock was broken" for entry in there)
    with recorded(_record_of(arguments, _holder(arguments["run"])), "lock", freed, before=there) as note:
        found = lease.free()
    return {"changed": bool(found), **note.unwritten()}


def shown(arguments: Arguments, tell: Tell) -> Result:
    """Who holds the app, and the freeze."""
    lease = lease_of(arguments)
    return {"holder": lease.holder() or {}, "freeze": lease.frozen() or {}}


def _holder(run: dict[str, Any]) -> dict[str, Any]:
    """What a lease says of its run."""
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"run": run["id"], "since": since, **{name: run[name] for name in ("who", "from", "what")}}


def _record_of(arguments: Arguments, holder: dict[str, Any]) -> dict[str, Any]:
    """Whose operation it is that changes the lock, and in which ledger it stands."""
    return {"root": arguments["place"]["root"], **{name: holder[name] for name in ("run", "who", "from")}}


def _note(root: Path, event: str, by: dict[str, Any], before: Any) -> None:
    root.mkdir(parents=True, exist_ok=True)
    Ledger(root).append(
        {"event": event, "who": by["who"], "from": by["from"], "start": by["since"], "run": by["run"], "before": before}
    )
