"""What a host does for a run, one function for each verb of plugins/plugin_utils/fleet/parts.py.

Each takes its arguments as they came over the channel, and `tell` for what happens on the way, and returns a result
that JSON can hold. Each raises SlipwayError: what was asked was not done, and nothing is half done.

`place` is app, root, socket_directory, gate and edge (`PLACE_ARGUMENTS` in wiring.py); times are in seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

from ..host import files
from ..host.errors import SlipwayError
from . import preflight
from .detach import Tell, run_detached
from .lease import Lease
from .model import TransactionError
from .observe import observe as observed
from .observe import surroundings
from .oneoff import run_once
from .store import MOMENT, Store
from .transaction import Transaction
from .wiring import transaction_of

Arguments = dict[str, Any]
Result = dict[str, Any]


def look(arguments: Arguments, tell: Tell) -> Result:
    """What would stop a release here, and what serves."""
    return preflight.look(arguments, transaction_of(arguments))


def observe(arguments: Arguments, tell: Tell) -> Result:
    """What serves, what is around it, and every difference from what should be."""
    host = {**preflight.HOST, "disk_reserve": 0, **(arguments.get("host") or {})}
    transaction = transaction_of(arguments)
    seen = observed(transaction)
    around = surroundings(transaction, host["certificate"], host["certificate_days"], host["disk_reserve"])
    return {**seen, **around, "drift": seen["drift"] + around["drift"]}


def history(arguments: Arguments, tell: Tell) -> Result:
    """The newest `log_lines` records of the ledger, oldest first."""
    transaction = transaction_of(arguments)
    return {"records": transaction.store.ledger()[-transaction.request.log_lines :]}


def logs(arguments: Arguments, tell: Tell) -> Result:
    """The last `log_lines` lines of the slot that serves."""
    transaction = transaction_of(arguments)
    state = transaction.store.state()
    text = transaction.runtime.logs(state.slot, transaction.request.log_lines) if state else ""
    return {"log": text, "slot": state.slot if state else None}


def hold(arguments: Arguments, tell: Tell) -> Result:
    """Hold the app for the run {id, who, from, what}; a lease is no change of the host: it is gone when the run is.

    Raises Held when another run or a freeze holds it.
    """
    lease, store = _lease(arguments), _store(arguments)
    holder = _holder(arguments["run"])
    dead = lease.acquire(holder)
    if dead:
        _note(store, "the lock was taken over from a run that is gone", holder, dead)
    return {"changed": False, "lease_file": str(lease.path), "taken_over": dead or {}}


def renew(arguments: Arguments, tell: Tell) -> Result:
    """Say that the run lives; `held` is false where it does not hold the app any more."""
    return {"held": _lease(arguments).renew(arguments["run_id"])}


def freeze(arguments: Arguments, tell: Tell) -> Result:
    """Let nobody change the app, for a reason, until `free`."""
    lease, holder, reason = _lease(arguments), _holder(arguments["run"]), arguments["reason"]
    before = lease.frozen()
    if before and before["reason"] == reason:
        return {"changed": False}
    lease.freeze(reason, {name: holder[name] for name in ("who", "from", "since")})
    _note(_store(arguments), f"frozen: {reason}", holder, before)
    return {"changed": True}


def free(arguments: Arguments, tell: Tell) -> Result:
    """Lift the freeze and break the lease."""
    found = _lease(arguments).free()
    for before in found:
        event = "the freeze was lifted" if "reason" in before else "the lock was broken"
        _note(_store(arguments), event, _holder(arguments["run"]), before)
    return {"changed": bool(found)}


def shown(arguments: Arguments, tell: Tell) -> Result:
    """Who holds the app, and the freeze."""
    lease = _lease(arguments)
    return {"holder": lease.holder() or {}, "freeze": lease.frozen() or {}}


def stage(arguments: Arguments, tell: Tell) -> Result:
    """Put a release's files in place, and let it check itself once before anything is started.

    Takes release, files, contents, check (a command or empty), check_timeout, check_mode and diff.
    """
    check_mode = bool(arguments.get("check_mode"))
    changes = files.plan(files.parse(arguments["files"], arguments["contents"]), check_mode)
    if not check_mode:
        files.apply(changes)
    checked = False
    if arguments.get("check") and not check_mode:
        command = {"command": arguments["check"], "purpose": "the check", "once": "checked"}
        timeout = arguments.get("check_timeout") or 300.0
        checked = not run({**arguments, **command, "timeout": timeout}, tell).get("skipped", False)
    return {
        "changed": bool(changes),
        "changed_paths": [str(change.item.dest) for change in changes],
        "diff": [part for change in changes for part in change.diff] if arguments.get("diff") else [],
        "checked": checked,
    }


def run(arguments: Arguments, tell: Tell) -> Result:
    """Run one command in a staged release (or the one that serves), outside its slots."""
    return run_once(arguments["place"]["app"], _store(arguments), arguments)


def activate(arguments: Arguments, tell: Tell) -> Result:
    """Make a staged release serve, or be refused with the one that served before serving on."""
    transaction = transaction_of(arguments)
    return _detached(transaction, tell, lambda say: _activate(transaction, _named(arguments)))


def settle(arguments: Arguments, tell: Tell) -> Result:
    """Have no transaction under way, return to `return_to` where another release serves, and tell what serves.

    A host that could not be reached has finished its transaction by itself meanwhile, so what is recorded counts and
    not what was reported.
    """
    back = arguments.get("return_to")
    release = back or arguments.get("release") or ""
    transaction = transaction_of(arguments, release=release, soak=0.0)
    return _detached(transaction, tell, lambda say: _settle(transaction, back, _named(arguments)))


def let_go(arguments: Arguments, tell: Tell) -> Result:
    """End the run on this host: tell what serves, and give the lease of `run_id` back."""
    now = observed(transaction_of(arguments))
    if run_id := arguments.get("run_id"):
        _lease(arguments).give_back(run_id)
    return {"now": now}


def remove(arguments: Arguments, tell: Tell) -> Result:
    """Take the app off this host: its slots, releases, images and records."""
    transaction = transaction_of(arguments)
    if not transaction.store.root.exists():
        return {"changed": False}
    if not arguments.get("check_mode"):
        with transaction.store.lock("a removal"):
            transaction.remove()
    return {"changed": True}


VERBS: dict[str, Callable[[Arguments, Tell], Result]] = {
    verb.__name__: verb
    for verb in (
        *(look, observe, history, logs),
        *(hold, renew, freeze, free, shown),
        *(stage, run, activate, settle, let_go, remove),
    )
}


def _store(arguments: Arguments) -> Store:
    return Store(Path(arguments["place"]["root"]))


def _lease(arguments: Arguments) -> Lease:
    return Lease(arguments["place"]["app"], Path(arguments["place"]["root"]))


def _holder(run: dict[str, Any]) -> dict[str, Any]:
    """What a lease says of its run."""
    since = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return {"run": run["id"], "since": since, **{name: run[name] for name in ("who", "from", "what")}}


def _note(store: Store, event: str, by: dict[str, Any], before: Any) -> None:
    store.root.mkdir(parents=True, exist_ok=True)
    store.record(
        {"event": event, "who": by["who"], "from": by["from"], "start": by["since"], "run": by["run"], "before": before}
    )


def _named(arguments: Arguments) -> str:
    """What others are told who meet the transaction."""
    who = (arguments.get("about") or {}).get("who", "somebody")
    return f"release {arguments.get('release') or arguments.get('return_to')} by {who}, pid {os.getpid()}"


def _detached(transaction: Transaction, tell: Tell, work: Callable[[Tell], Result]) -> Result:
    """The phases of the transaction are told while they happen."""

    def perform(say: Tell) -> Result:
        transaction.tell = say
        return work(say)

    return run_detached(perform, transaction.store.root / "transaction.log", tell)


def _activate(transaction: Transaction, holder: str, wait: float = MOMENT) -> Result:
    """The result of the transaction; an error says what the release was refused for, and what serves."""
    try:
        with transaction.store.lock(holder, wait):
            return transaction.run()
    except TransactionError as error:
        log = str(error.evidence.get("log", "")).strip()
        tail = f"\n--- its log, last {transaction.request.log_lines} lines ---\n{log}" if log else ""
        health = error.evidence.get("health")
        saw = f"\nGET {transaction.request.gate.path}: {health}" if health else ""
        state = transaction.store.state()
        serving = f"release {state.release} goes on serving" if state else "nothing serves yet"
        raise SlipwayError(
            f"release {transaction.request.release} was refused: {error.cause}; {serving}{saw}{tail}",
            {
                "cause": error.cause,
                "evidence": {name: value for name, value in error.evidence.items() if name != "log"},
                "phases": transaction.phases,
            },
            error.kind,
        ) from error
    except SlipwayError as error:
        error.details.setdefault("phases", transaction.phases)
        raise


def _limit(transaction: Transaction) -> float:
    """Seconds after which a transaction of this kind has ended, whatever happened to it."""
    request = transaction.request
    return 60 + request.gate.deadline + 2 * request.drain + request.soak + 2 * request.stop_grace


def _settle(transaction: Transaction, back: Optional[str], holder: str) -> Result:
    with transaction.store.lock(holder, _limit(transaction)):
        transaction.reconcile()
    state = transaction.store.state()
    result: Result = {"changed": False, "phases": []}
    if back and state and state.release != back:
        result = _activate(transaction, holder, _limit(transaction))
    return {**result, "now": observed(transaction)}
