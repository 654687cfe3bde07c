"""What a host does for a run, one function for each verb of plugins/plugin_utils/fleet/parts.py.

Each takes its arguments as they came over the channel, and `tell` for what happens on the way, and returns a result
that JSON can hold. Each raises SlipwayError: what was asked was not done, and nothing is half done.

`place` is app, root, socket_directory, gate and edge (`PLACE_ARGUMENT` in wiring.py); times are in seconds.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import asdict
from typing import Any, Optional

from ..edge import maintenance
from ..edge.overload import overload
from ..host import files, removed
from ..host.errors import SlipwayError
from ..host.ledger import recorded
from ..host.shown import command_line, staged
from ..image.leaks import leaks
from ..image.local import look as image_there
from . import locking, preflight
from .by_image import by_image, exposed_by, image_of
from .canary import UNREAD
from .detach import Tell, run_detached
from .doors import port_of
from .drainer import Drainer
from .keeps import keeps_of
from .locking import fade, free, freeze, lease_of, renew, shown
from .model import Probe, TransactionError
from .observe import BROUGHT_BACK, readable, surroundings
from .observe import look as seen_of
from .observe import observe as observed
from .oneoff import run_once
from .port_problems import port_problems
from .records import UNSEEN
from .runtime import Runtime
from .runtimes import Runtimes
from .seen_beside import logs_beside
from .seen_jobs import running, seen_jobs, timers_problems
from .store import MOMENT, Busy, Store
from .timed import perform
from .timers import Timers
from .transaction import Transaction
from .uploads import room_for_files
from .volumes import seen as volumes_seen
from .wiring import contract_of, edge_of, runtime_of, store_of, timers_of, transaction_of

# More releases than a host will ever have.
ALL = 1 << 30

Arguments = dict[str, Any]
Result = dict[str, Any]
Verb = Callable[[Arguments, Tell], Result]


def look(arguments: Arguments, tell: Tell) -> Result:
    """What would stop a release here, and what serves."""
    return preflight.look(arguments, transaction_of(arguments), timers_of(arguments))


def observe(arguments: Arguments, tell: Tell) -> Result:
    """What serves, what is around it, and every difference from what should be."""
    host = {**preflight.HOST, "disk_reserve": 0, **(arguments.get("host") or {})}
    transaction = transaction_of(arguments)
    held = bool(lease_of(arguments).holder())
    seen = observed(transaction, only_looks=True, held=held)
    around = surroundings(transaction, host["certificate"], host["certificate_days"], host["disk_reserve"])
    serving = _serving(seen)
    volumes = volumes_seen(runtime_of(arguments).volumes, transaction.store.releases, serving)
    jobs, wrong = seen_jobs(timers_of(arguments), serving)
    # The timers follow once the transaction has ended, and go from one host to another in a run.
    drift = [*seen["drift"], *around["drift"], *([] if seen["under_way"] or held else wrong)]
    told = readable(transaction.store.told, drift) or []
    page = maintenance.shown(transaction.request.app, told)
    found = {"volumes": volumes, "jobs": jobs, "page": page, "last": told[-1] if told else None}
    found["files"] = room_for_files(transaction.store, serving)
    # What the edge does not count yet, or is counting anew, is no overload.
    with suppress(*UNREAD):
        edge = edge_of(arguments["place"], runtime_of(arguments))
        found["overload"] = overload(edge.ask, edge.backend)
    return {**seen, **around, "drift": drift, **found}


def history(arguments: Arguments, tell: Tell) -> Result:
    """The newest `log_lines` records of the ledger, oldest first."""
    transaction = transaction_of(arguments)
    return {"records": transaction.store.told()[-transaction.request.log_lines :]}


def logs(arguments: Arguments, tell: Tell) -> Result:
    """The last `log_lines` lines of the slot that serves, and of each process beside it."""
    transaction = transaction_of(arguments)
    state = transaction.store.state()
    text = transaction.runtime.logs(state.slot, transaction.request.log_lines) if state else ""
    beside = logs_beside(transaction, transaction.request.log_lines)
    return {"log": text, "slot": state.slot if state else None, "processes": beside}


def hold(arguments: Arguments, tell: Tell) -> Result:
    """Hold the app for a run (`locking.hold`), and say what it serves. Raises Held when another one holds it."""
    held = locking.hold(arguments, tell)
    seen = seen_of(transaction_of(arguments))
    return {**held, "serving": seen.serving, "state": asdict(seen.state) if seen.state else None}


def stage(arguments: Arguments, tell: Tell) -> Result:
    """Put a release's files in place, and let it check itself once before anything is started.

    Takes release, files, contents, leaks (see `Target`), check (a command or empty), check_timeout, check_mode and
    diff; in check mode also contract and was, for what the release breaks of the API where that is known. `port` of its
    result is the one on which the app listens by EXPOSE of its image alone, else 0.
    """
    check_mode = bool(arguments.get("check_mode"))
    if not check_mode:
        _fence(arguments)
    items = files.parse(arguments["files"], arguments["contents"])
    image, port, warnings = image_of(items), 0, []
    # A dry run may come before the image.
    if image and not (check_mode and not image_there(image, check_mode)["image"]):
        items, port = _listening(arguments, items)
        warnings = _leaks(arguments, items, image)
    changes = files.plan(items, check_mode)
    if not check_mode:
        files.apply(changes)
        removed.forget(store_of(arguments).root)
        if store_of(arguments).has(arguments["release"]):
            runtime = runtime_of(arguments)
            runtime.admit(arguments["release"])
            runtime.prepare(arguments["release"])
            runtime.share(arguments["release"])
    checked = False
    if arguments.get("check") and not check_mode:
        command = {"command": arguments["check"], "purpose": "the check", "once": "checked"}
        checked = not run({**arguments, **command, "timeout": arguments.get("check_timeout")}, tell).get(
            "skipped", False
        )
    return {
        "changed": bool(changes),
        "changed_paths": [str(change.item.dest) for change in changes],
        "diff": [part for change in changes for part in change.diff] if arguments.get("diff") else [],
        "checked": checked,
        "port": port,
        "warnings": warnings,
        **({"api": _foreseen(arguments)} if check_mode else {}),
    }


def _foreseen(arguments: Arguments) -> Optional[Result]:
    """What a release that ran here before breaks of the API of the one that serves, as `activate` would tell it."""
    if not arguments.get("was"):
        return None
    contract = contract_of(arguments, store_of(arguments), lambda *what: Probe(error="it is not asked"))
    return contract.foreseen(arguments["release"], arguments["was"]).as_dict() if contract else None


def run(arguments: Arguments, tell: Tell) -> Result:
    """Run one command in a staged release (or the one that serves), outside its slots. Outlives the channel.

    With `job` it is the one of that name, now, on the host that its timer is on. With `record` it is an operation by
    itself, and in the ledger.
    """
    _fence(arguments)
    store, runtime, timers = store_of(arguments), runtime_of(arguments), timers_of(arguments)
    _require_staged(store)
    log, job = store.root / "oneoff.log", arguments.get("job") or ""
    if job and job not in timers.names():
        there = ", ".join(timers.names()) or "none"
        raise SlipwayError(f"this host has no timer of a job {job!r}; there are: {there}")

    def work(_: Tell) -> Result:
        what = f"the job {job}" if job else command_line(arguments["command"])
        with recorded(arguments.get("record"), "run", what) as note:
            ran = _job(store, runtime, job, tell) if job else run_once(store, runtime, arguments)
            note.more = {"rc": ran["rc"], "serving": ran["release"]}
        return {**ran, **note.unwritten()}

    try:
        return run_detached(work, log, tell)
    finally:
        log.unlink(missing_ok=True)  # what the command printed may be nobody else's to read


def activate(arguments: Arguments, tell: Tell) -> Result:
    """Make a staged release serve, or be refused with the one that served before serving on."""
    _fence(arguments)
    if not arguments.get("restart"):
        runtime_of(arguments).admit(arguments["release"])  # nothing was staged for a rollback
    transaction = transaction_of(arguments)
    timers = timers_of(arguments)
    return _detached(transaction, tell, lambda: _activate(transaction, _named(arguments), timers))


def give_up(arguments: Arguments, tell: Tell) -> Result:
    """End the singletons of the app on this host and remove its timers, since another one is to start them.

    A transaction that an earlier run left under way is waited for: until it has ended it may start some. Raises
    SlipwayError where a job runs, which may not run beside itself there.
    """
    _fence(arguments)
    transaction, timers = transaction_of(arguments), timers_of(arguments)
    with transaction.store.lock(_named(arguments), _limit(transaction) + transaction.request.soak):
        _refuse_running(timers)
        names, removed = timers.names(), timers.remove()
        _refuse_running(timers, names)
        return {"changed": transaction.give_up() or removed}


def settle(arguments: Arguments, tell: Tell) -> Result:
    """Have no transaction under way, return to `return_to` where another release serves, and tell what serves.

    A transaction that is under way (the channel to it broke) is told to take its release back, where that is wanted
    anyway, and waited for otherwise.
    """
    _fence(arguments)
    back = arguments.get("return_to")
    # An interrupted one is finished or undone for what is wanted now; and what was expected before counts no more.
    release = back or arguments.get("release") or ""
    transaction = transaction_of({**arguments, "expects": None}, release=release, soak=0.0)
    return _detached(transaction, tell, lambda: _settle(transaction, back, arguments))


def let_go(arguments: Arguments, tell: Tell) -> Result:
    """End the run on this host: have what is well serve, remove old releases, see to what drains, give the lease back.

    With `processes` those of what serves run afterwards, and no others. Tells what serves. Nothing of this keeps the
    lease from being given back. Without `keep` all good releases stay.
    """
    transaction = transaction_of(arguments, keep=arguments.get("keep", ALL))
    run_id = arguments.get("run_id")
    notes: list[str] = []
    if run_id and lease_of(arguments).renew(run_id):
        try:
            with transaction.store.lock(_named(arguments)):
                notes = [words for words in (transaction.reconcile(),) if words]
                if arguments.get("processes"):
                    transaction.tend()
                _follow(transaction, timers_of(arguments))
                transaction.prune()
        except (SlipwayError, OSError, ValueError) as error:
            notes.append(str(error))
        if transaction.draining():
            _drain(transaction)
    now = observed(transaction)
    now["drift"] += timers_problems(timers_of(arguments), _serving(now))
    if run_id:
        lease_of(arguments).give_back(run_id)
    return {"now": now, "notes": notes}


def remove(arguments: Arguments, tell: Tell) -> Result:
    """Take the app off this host: its slots, releases, images and records. `volumes` are left, and `former` ones."""
    transaction, volumes = transaction_of(arguments), runtime_of(arguments).volumes
    left = {"volumes": [str(volumes.directory / name) for name in volumes.names()], "former": volumes.former()}
    if not transaction.store.root.exists():
        return {"changed": False, **left}
    if not arguments.get("check_mode"):
        _fence(arguments)
        timers = timers_of(arguments)
        with transaction.store.lock("a removal"):
            timers.stop()
            timers.remove()
            transaction.remove()
            _note_removal(transaction.store, arguments)
    return {"changed": True, **left}


def _note_removal(store: Store, arguments: Arguments) -> None:
    """Keep by whom the app was removed, for whoever looks for it here; what stands in the way keeps nobody from it."""
    with suppress(OSError):
        removed.note(store.root, arguments.get("record"))


def remove_volume(arguments: Arguments, tell: Tell) -> Result:
    """Delete the `volume` of that name with all its data. What restores have put aside of it is left, as `former`.

    Raises SlipwayError where there is none, and where what runs uses it.
    """
    store, runtime, name = store_of(arguments), runtime_of(arguments), arguments["volume"]
    there = runtime.volumes.names()
    if name not in (*there, *runtime.volumes.left()):
        raise SlipwayError(
            f"there is no volume {name!r} of this app on this host; there are: {', '.join(there) or 'none'}"
        )
    if arguments.get("check_mode"):
        _require_unused(store, runtime, name)
        return {"changed": True, "former": runtime.volumes.former(name)}
    _fence(arguments)
    held = store.lock("the removal of a volume") if store.root.is_dir() else nullcontext()
    with held, recorded(arguments.get("record"), "remove_volume", name) as note:
        _require_unused(store, runtime, name)
        removed = runtime.volumes.remove(name)
    return {"changed": removed, "former": runtime.volumes.former(name), **note.unwritten()}


def screened(verb: Verb) -> Verb:
    """The verb with its texts as they may be shown: without what a terminal obeys, and without the app's secrets."""

    def ask(arguments: Arguments, tell: Tell) -> Result:
        releases = store_of(arguments).releases
        try:
            result: Result = staged(releases).told(verb(arguments, tell))
        except SlipwayError as error:
            screen = staged(releases)
            error.args, error.details = (screen.text(error),), screen.told(error.details)
            raise
        return result

    return ask


VERBS: dict[str, Verb] = {
    verb.__name__: screened(verb)
    for verb in (
        *(look, observe, history, logs),
        *(hold, renew, fade, freeze, free, shown),
        *(stage, run, activate, settle, give_up, let_go, remove, remove_volume),
    )
}


def _listening(arguments: Arguments, items: list[files.Item]) -> tuple[list[files.Item], int]:
    """The files of a release that is staged, and the port on which its app listens by EXPOSE of its image, else 0.

    One that is there already listens where it did. Raises SlipwayError where that port cannot be had on this host.
    """
    store, release = store_of(arguments), arguments["release"]
    before = port_of(store.releases, release) if store.has(release) else None
    if before == 0:
        return items, 0
    items, port = by_image(items, exposed_by)
    if port and before is None:
        place, slots = arguments["place"], runtime_of(arguments)
        if found := port_problems(place["app"], slots.ports, edge_of(place, slots), slots):
            raise SlipwayError(
                f"the image EXPOSEs {port}, so the app listens there, and {'; '.join(found)}. One that listens on its "
                "slot's socket has fastapi_app_port_by_image: false"
            )
    return items, port


def _leaks(arguments: Arguments, items: list[files.Item], image: str) -> list[str]:
    """That an image has secrets of the release that is staged in it; nothing of one that was staged before.

    Raises SlipwayError where that is refused.
    """
    if arguments.get("leaks") == "ignore" or store_of(arguments).has(arguments["release"]):
        return []
    secrets = {item.dest.name: item.content.decode() for item in items if item.secret and item.state == "file"}
    if not (found := leaks(image, secrets)):
        return []
    said = (
        f"the image {image} has secrets of fastapi_app_secrets in it, for whoever has the image: {'; '.join(found)}. "
        "Leave them out of it (.dockerignore, fastapi_image_build_secrets), build it again, and give them other values "
        "where it was pushed"
    )
    if arguments.get("leaks") == "warn":
        return [said]
    raise SlipwayError(f"{said}; fastapi_app_secrets_in_image: warn lets it pass")


def _named(arguments: Arguments) -> str:
    """What others are told who meet the transaction."""
    release = arguments.get("release") or arguments.get("return_to")
    who = (arguments.get("about") or {}).get("who") or (lease_of(arguments).holder() or {}).get("who")
    what = f"release {release}" if release else "the end of a run"
    return f"{what}{f' by {who}' if who else ''}, pid {os.getpid()}"


def _fence(arguments: Arguments) -> None:
    """Raise Fenced unless the run of these arguments holds the app. Without one (a module by itself) nothing is asked.

    A freeze that came since the run began is no reason to keep it from putting back what it changed; the transaction
    looks for one before it switches.
    """
    if run_id := arguments.get("run_id"):
        lease_of(arguments).require(run_id)


def _require_unused(store: Store, runtime: Runtimes, volume: str) -> None:
    """Raise SlipwayError where a slot, process, job or command of a release that has the volume runs, or ends still."""
    draining = store.draining()
    there = [
        (str(status.release), f"slot {slot}", draining is not None and draining.slot == slot)
        for slot, status in runtime.status().items()
        if status.release
    ]
    there += [(one.release, f"process {one.name}", one.ending) for one in runtime.beside.instances() if not one.gone]
    there += [(release, "a job or command", True) for release in store.staged() if store.used_outside(release)]
    for release, what, ends in sorted(there, key=lambda found: found[2]):
        if volume not in keeps_of(store.releases, release).volumes:
            continue
        if ends:
            raise SlipwayError(
                f"volume {volume} is used by {what} of release {release}, which ends still; wait until "
                "slipway.fleet.status tells of it no more, and run this again"
            )
        raise SlipwayError(
            f"volume {volume} is used by release {release}, which runs here; take it out of fastapi_app_volumes and "
            "deploy, or remove the app, before its data is deleted"
        )


def _refuse_running(timers: Timers, names: Optional[list[str]] = None) -> None:
    """Raise SlipwayError where a job runs: one that has a timer, or one of these."""
    if found := running(timers, names):
        raise SlipwayError(f"the job {found} runs here; run again when it has ended")


def _require_staged(store: Store) -> None:
    """Raise SlipwayError on a host that has nothing of the app, not even a place for what is detached to write to."""
    if not store.releases.is_dir():
        since = removed.told(store.root)
        raise SlipwayError(
            f"there is nothing of this app on this host ({since or f'no {store.releases}'}); "
            + (BROUGHT_BACK if since else "run slipway.fleet.deploy")
        )


def _detached(transaction: Transaction, tell: Tell, work: Callable[[], Result]) -> Result:
    """The phases of the transaction are told while they happen; the process that ends it sees to what drains."""
    _require_staged(transaction.store)

    def perform(say: Tell) -> Result:
        transaction.tell = say
        return work()

    return run_detached(perform, transaction.store.root / "transaction.log", tell, Drainer(transaction).run)


def _drain(transaction: Transaction) -> None:
    """See to what drains in a process that nobody waits for, unless one does already."""
    run_detached(lambda _: {}, transaction.store.root / "drain.log", lambda event: None, Drainer(transaction).run)


def _job(store: Store, runtime: Runtime, name: str, tell: Tell) -> Result:
    """Run a job now. Raises SlipwayError where it failed, or is no job of what serves."""
    ran = perform(store, runtime, name, lambda words: tell({"message": words}))
    if ran.get("skipped"):
        raise SlipwayError(f"release {ran['release']}, which serves, has no job {name}; deploy again")
    if ran.get("cause"):
        raise SlipwayError(f"the job {name} of release {ran['release']} failed: {ran['cause']}\n{ran['stdout']}", ran)
    return ran


def _serving(seen: Result) -> Optional[str]:
    found: Optional[str] = (seen["serving"] or seen["state"] or {}).get("release")
    return found


def _follow(transaction: Transaction, timers: Timers) -> bool:
    """Have the timers of what serves; returns whether it was otherwise. What stands in the way is drift afterwards."""
    try:
        if timers.none:
            return False
        state = transaction.state()
        release = transaction.serving() or (state.release if state else None)
        return timers.follow(release, transaction.clock.time())
    except UNSEEN as error:
        transaction.warnings.append(f"the timers of jobs could not be set: {error}")
        return False


def _activate(transaction: Transaction, holder: str, timers: Timers, wait: float = MOMENT) -> Result:
    """The result of the transaction; an error says what the release was refused for, and what serves."""
    try:
        with transaction.store.lock(holder, wait):
            result: Result = transaction.run()
            followed = _follow(transaction, timers)
            return {**result, "changed": result["changed"] or followed}
    except TransactionError as error:
        log = str(error.evidence.get("log", "")).strip()
        tail = f"\n--- its log, last {transaction.request.log_lines} lines ---\n{log}" if log else ""
        health = error.evidence.get("health")
        saw = f"\nGET {transaction.gate_of(transaction.request.release).path}: {health}" if health else ""
        serving = transaction.serving()
        words = f"release {serving} goes on serving" if serving else "nothing serves"
        raise SlipwayError(
            f"release {transaction.request.release} was refused: {error.cause}; {words}{saw}{tail}",
            {
                **error.details,
                "cause": error.cause,
                "evidence": {name: value for name, value in error.evidence.items() if name != "log"},
                "log": log,
                "phases": transaction.phases,
                "gap": transaction.gap(),
                "serving": serving,
            },
            error.kind,
        ) from error
    except SlipwayError as error:
        error.details.update({"phases": transaction.phases, "gap": transaction.gap(), **error.details})
        raise
    except (OSError, ValueError) as error:
        told = {"phases": transaction.phases, "gap": transaction.gap()}
        raise SlipwayError(f"{type(error).__name__}: {error}", told) from error


def _limit(transaction: Transaction) -> float:
    """Seconds after which a transaction that was told to return has ended, whatever happens to it."""
    request, grace = transaction.request, transaction.longest_grace()
    return 180 + request.gate.deadline + 2 * (request.drain + grace + request.gate.edge)


def _settle(transaction: Transaction, back: Optional[str], arguments: Arguments) -> Result:
    holder, clock, timers = _named(arguments), transaction.clock, timers_of(arguments)
    # One that is not to be taken back goes on to its own end, with its soak.
    soak = 0.0 if back else float(arguments.get("soak") or 0.0)
    deadline = clock.monotonic() + _limit(transaction) + soak
    told = False
    recovered, serving, followed = None, None, False
    while True:
        if back and transaction.store.holder():
            # Again and again: one that begins at this moment takes what it finds for what an earlier one was told.
            transaction.store.recall((arguments.get("about") or {}).get("who") or "its run")
            told = True
        try:
            with transaction.store.lock(holder):
                recovered = transaction.reconcile()
                serving = transaction.serving()
                followed = _follow(transaction, timers)
            break
        except Busy:
            if clock.monotonic() >= deadline:
                raise
    result: Result = {"changed": told or followed or recovered is not None, "phases": transaction.phases}
    if back and serving != back:
        result = _activate(transaction, holder, timers, _limit(transaction))
    return {"gap": transaction.gap(), **result, "recovered": recovered, "now": observed(transaction)}
