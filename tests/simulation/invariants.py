"""What is promised, whatever happens. Every function is one promise; its docstring is the promise itself.

A promise is kept at every step, or at the end of a run, or at the end of everything. Times in seconds.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ansible_collections.slipway.fleet.plugins.module_utils.release.store import OPENAPI as KEPT

from tests.simulation.edge import CHECK_EVERY, SLOTS
from tests.simulation.slots import keeps_the_api
from tests.simulation.story import ALONE
from tests.simulation.world import LEASE, ROOT, Host

if TYPE_CHECKING:
    from tests.simulation.kernel import Process
    from tests.simulation.play import Play
    from tests.simulation.story import Ended

# What nobody can know sooner: a slot is asked once a second, and counts as sick after three bad answers of at most
# five seconds; a reload of the edge is noticed by the next look at it.
KNOWABLE = 5.0
REPAIR = 40.0
RELOAD_NOTICED = 3.0


class Broken(Exception):
    """A promise was not kept."""

    def __init__(self, promise: Any, details: str) -> None:
        super().__init__(f"{promise.__name__}: {details}")
        self.promise = promise.__name__


# ---- at every step ----


def no_step_takes_the_service_away(play: Play, host: Host, before: list[str]) -> None:
    """What Slipway does on a host never ends its service: a slot that answers is only drained or stopped beside another
    one that gets the requests, and that was well a moment ago. The one exception is a release that makes way for
    another one beside which it may not run."""
    process = play.who_acts()
    if process is None or process.host is not host or not before or host.service:
        return
    if it_makes_way(play, host, before[0]):
        return
    for slot in SLOTS:
        found = host.docker.slots[slot]
        if found and host.edge.gets_requests(slot) and play.kernel.now - found.well_until < KNOWABLE:
            return
    raise Broken(
        no_step_takes_the_service_away, f"{host.name} served {before[0]}, and nothing after {play.last_effect}"
    )


def it_makes_way(play: Play, host: Host, release: str) -> bool:
    """A transaction is under way between releases that may not run beside each other, and of the two this one alone
    runs."""
    running = [found.release for found in host.docker.slots.values() if found and found.running]
    return play.scenario.alone and host.peek(f"{ROOT}/intent.json") is not None and {*running} <= {release}


def no_release_runs_beside_one_that_must_be_alone(play: Play, host: Host) -> None:
    """Where one of two releases may not run beside another one, they never do, nor do their processes, not even while
    one of them starts."""
    running = [found.release for found in host.docker.slots.values() if found and found.running]
    there = {one.release for one in host.docker.beside.there.values() if one.running}
    running += sorted(there - set(running))
    if len(running) < 2:
        return
    if ALONE in [host.peek(f"{ROOT}/releases/{release}/keeps.json") for release in running]:
        raise Broken(
            no_release_runs_beside_one_that_must_be_alone,
            f"{host.name} runs {' and '.join(running)} after {play.last_effect}",
        )


def what_is_to_be_refused_gets_no_requests(play: Play, host: Host) -> None:
    """Where releases make way for each other and one that breaks the API is to be refused, it never gets requests,
    whatever is killed in between; where the earlier one could not be started again, or never told its API, it may."""
    scenario = play.scenario
    if not scenario.alone or scenario.breaking != "refuse" or scenario.fresh:
        return
    whole = [
        entry["release"] for entry in ledger(host) if entry["result"] == "good" and keeps_the_api(entry["release"])
    ]
    told = any(host.peek(f"{ROOT}/releases/{release}/{KEPT}") for release in whole)
    if not told or host.docker.was_sick or "disk" in play.damaged.get(host.name, ()):
        return
    if broken := [release for release in host.service if not keeps_the_api(release)]:
        raise Broken(what_is_to_be_refused_gets_no_requests, f"{host.name} sends requests to {broken[0]}")


def a_healthy_slot_is_put_to_use(play: Play, host: Host, since: float, process: Process) -> None:
    """While Slipway works on a host, a healthy slot does not stand idle beside an outage for longer than it takes to
    notice."""
    raise Broken(
        a_healthy_slot_is_put_to_use,
        f"{host.name} has had a healthy slot and no service since {since:.1f} s, while {process.name} works there",
    )


def requests_go_to_slots_that_the_edge_has_seen_well(play: Play, host: Host) -> None:
    """A slot gets requests only after a check of the edge has passed; what a reload upsets is mended at once."""
    for slot in SLOTS:
        found = host.docker.slots[slot]
        if not (found and found.running and not found.seen_well and host.edge.gets_requests(slot)):
            continue
        if not any(play.usable(host, another) for another in SLOTS):
            continue  # in an outage nothing is lost by it
        if play.kernel.now - found.booted < CHECK_EVERY + 0.5 and host.docker.answers(slot):
            continue  # what the edge saw is one check old, and so may be of what was there before
        if (process := play.who_acts()) and process.host is host:
            raise Broken(
                requests_go_to_slots_that_the_edge_has_seen_well,
                f"{host.name} sends requests to {found.release} in {slot} after {play.last_effect}, never checked",
            )


CHANGING = ("start ", "stop ", "edge: set", f"rename {ROOT}/state.json", f"rename {ROOT}/intent.json")


def one_transaction_at_a_time(play: Play, host: Host, process: Process, what: str) -> None:
    """Nobody changes an app on a host beside somebody else, unless it has waited for the lock of the app."""
    if not what.startswith(CHANGING):
        return
    lock = host.disk.tree[ROOT].get("lock")
    if lock and any(holder is process for holder, _, _ in lock.locks):
        return
    acting = play.acting.get(host.name)
    if acting is not None and acting is not process and not acting.over and "afterwards" not in acting.name:
        raise Broken(one_transaction_at_a_time, f"{process.name} does `{what}` on {host.name} beside {acting.name}")


def only_the_holder_begins(play: Play, host: Host, process: Process, what: str) -> None:
    """A transaction begins only for the run that holds the host's lease, and under a freeze only the way back."""
    if not what.startswith(CHANGING) or play.acting.get(host.name) is process:
        return
    freeze = host.peek(f"{ROOT}/freeze.json")
    if freeze and not process.name.startswith(("settle", "let_go")) and play.kernel.now - play.frozen_at > 1.0:
        raise Broken(only_the_holder_begins, f"{process.name} begins on {host.name}, which is frozen: {freeze}")
    holder = holder_of(host)
    if holder and holder != process.owner and play.kernel.now - play.held_at.get(host.name, 0.0) > 1.0:
        raise Broken(
            only_the_holder_begins, f"{process.name} of {process.owner} begins on {host.name}, which {holder} holds"
        )


def no_two_singletons(play: Play, host: Host) -> None:
    """A singleton never starts while another one of its name runs, on whichever host of the fleet."""
    if twice := host.docker.beside.twice:
        raise Broken(no_two_singletons, f"{host.name}: {twice[0]}")


def a_refused_release_leaves_the_old_processes(play: Play, host: Host, process: Process) -> None:
    """Where a release is refused, the processes of the one that serves run, on the singletons' host its singleton among
    them; what cannot be seen, started or waited for is excused."""
    beside, calm = host.docker.beside, play.kernel.now - 120.0
    hindered = max(host.hurt_at, host.docker.hindered_until) > calm or not host.up
    serving = host.now_serving()
    if getattr(process.error, "kind", "") != "release" or not beside.used or hindered or len(serving) != 1:
        return
    if "disk" in play.damaged.get(host.name, ()) or host.peek(f"{ROOT}/intent.json") is not None:
        return
    found = sorted(one.name for one in beside.there.values() if one.release == serving[0] and not one.ending)
    if found != (["beat", "worker"] if process.arguments["place"]["singletons"] else ["worker"]):
        raise Broken(
            a_refused_release_leaves_the_old_processes, f"{host.name} serves {serving[0]}, and beside it runs {found}"
        )


def a_refused_release_got_no_requests(play: Play, host: Host, process: Process) -> None:
    """A release that is refused before the switch never got requests of users; where the earlier one cannot be started
    again or had died before, or something happens to the host meanwhile, it may."""
    release, details = str(process.arguments.get("release")), getattr(process.error, "details", {})
    hindered = max(host.hurt_at, host.docker.hindered_until) >= process.started
    if getattr(process.error, "kind", "") != "release" or hindered or details.get("serving") == release:
        return
    if (host.name, release) in play.came_into_outage:
        return
    if "switch" in {phase["phase"] for phase in details["phases"]} or "left as they are" in str(process.error):
        return
    if play.served_since.get((host.name, release), -1.0) >= process.started:
        raise Broken(a_refused_release_got_no_requests, f"{host.name} sent requests to {release}: {process.error}")


def migrations_run_alone(play: Play) -> None:
    """No migration runs beside another one, on whichever hosts."""
    if play.world.database.beside:
        raise Broken(migrations_run_alone, play.world.database.beside[0])


def migrations_run_once(play: Play) -> None:
    """No run migrates twice for the same release once that has succeeded."""
    done = play.world.database.done
    for entry in done:
        if done.count(entry) > 1:
            raise Broken(migrations_run_once, f"{entry[0]} was migrated twice in run {entry[1]}")


# ---- when a transaction ends ----


def the_ledger_tells_what_happened(play: Play, host: Host, arguments: dict[str, Any], process: Process) -> None:
    """Whatever a transaction says it did is the newest record of that release, with its result; on a disk that takes
    nothing it cannot be."""
    if "disk" in play.damaged.get(host.name, ()) or "ledger" in play.damaged.get(host.name, ()):
        return
    release = arguments.get("release") or ""
    records = [entry for entry in ledger(host) if entry.get("release") == release]
    if process.error is None and (process.result or {}).get("changed") and (process.result or {}).get("release"):
        release = process.result["release"]
        records = [entry for entry in ledger(host) if entry.get("release") == release]
        if not records or records[-1]["result"] != "good":
            raise Broken(the_ledger_tells_what_happened, f"{host.name} made {release} serve, and has no record of it")
    if getattr(process.error, "kind", "") == "release" and (not records or records[-1]["result"] != "failed"):
        raise Broken(the_ledger_tells_what_happened, f"{host.name} refused {release}, and has no record of it")


# ---- when a run ends ----


def a_verdict_is_what_hosts_answer(play: Play, ended: Ended) -> None:
    """A run that says good is good on every host; one that says reverted has every host serve what it served before;
    every other end names for each host what it serves. A host that was hurt after it was last looked at is excused, and
    one that could not look, because calls of Docker hang."""
    for name, said in ended.says.items():
        host = play.world.hosts[name]
        if said.now is None or max(host.hurt_at, host.docker.hindered_until) >= said.looked - 20.0 or not host.up:
            continue
        if name in play.changed_by_others and play.changed_by_others[name] != ended.run:
            continue
        # Two slots with one release answer as one.
        if set(host.now_serving()) != ({said.now} if said.now else set()):
            raise Broken(
                a_verdict_is_what_hosts_answer,
                f"run {ended.run} ended {ended.word} and says that {name} serves {said.now or 'nothing'}, "
                f"which serves {host.now_serving()}",
            )
        if ended.word == "good" and said.now != said.tried:
            raise Broken(a_verdict_is_what_hosts_answer, f"run {ended.run} is good, and {name} serves {said.now}")
        if ended.word == "reverted" and said.now != said.was:
            raise Broken(a_verdict_is_what_hosts_answer, f"run {ended.run} is reverted, and {name} serves {said.now}")


def what_is_taken_back_serves_again(play: Play, host: Host, arguments: dict[str, Any], process: Process) -> None:
    """A host that says it was taken back serves what it was taken back to."""
    back = arguments.get("return_to")
    if process.error or not back or back in host.docker.health or play.kernel.now - host.hurt_at < KNOWABLE:
        return
    if host.now_serving() != [back]:
        raise Broken(what_is_taken_back_serves_again, f"{host.name} serves {host.now_serving()} and not {back} again")


def what_should_serve_is_started(play: Play, host: Host, process: Process) -> None:
    """A transaction does not end beside an outage: where the new release is refused and the old slot has died, the
    earlier release is started again. What cannot be started, or seen, is excused, and who stops for a freeze."""
    calm = max(host.hurt_at, host.docker.hindered_until) < play.kernel.now - KNOWABLE
    good = [entry["release"] for entry in ledger(host) if entry["result"] == "good"][-1:]
    able = host.up and host.edge.running and all(release not in host.docker.health for release in good)
    able = able and "frozen" not in str(process.error)
    if calm and able and good and host.image_of(good[0]) in host.docker.images and not host.now_serving():
        raise Broken(what_should_serve_is_started, f"{host.name} serves nothing after {process.name}")


# What is no reason for a run not to leave every process where it belongs.
HARMLESS = {"interrupted", "sick", "hangs", "silent", "ends", "reload"}


def a_run_leaves_one_singleton(play: Play, ended: Ended) -> None:
    """However a run ends, the singleton runs on one host of the fleet afterwards, where all hosts are well and nobody
    else is at it."""
    if not play.scenario.beside or play.scenario.fresh or {fault.kind for fault in play.struck} - HARMLESS:
        return
    busy = any(host.processes for host in play.world.hosts.values())
    if busy or not all(task.done() for task in play.tasks.values()):
        return
    there = {name: len(host.docker.beside.running("beat")) for name, host in play.world.hosts.items()}
    if sum(there.values()) != 1:
        raise Broken(a_run_leaves_one_singleton, f"run {ended.run} ended {ended.word} with so many on each: {there}")


def an_undisturbed_run_succeeds(play: Play, ended: Ended) -> None:
    """Where nothing goes wrong and nobody else is at it, a run is good; only a way back may not be there."""
    scenario = play.scenario
    if scenario.faults or len(scenario.runs) > 1 or scenario.fresh or scenario.runs[0].operation == "rollback":
        return
    if scenario.breaking == "refuse" and not keeps_the_api(scenario.runs[0].release):
        return
    if ended.word not in ("good", "nothing"):
        raise Broken(an_undisturbed_run_succeeds, f"run {ended.run} ended {ended.word}: {ended.message}")


def what_breaks_the_api_is_refused(play: Play, ended: Ended) -> None:
    """Where nothing goes wrong, a release that breaks the API is named as that, and refused where it is to be: no host
    serves it then. Whoever goes back is not held up."""
    scenario = play.scenario
    first, alone = scenario.runs[0], len(scenario.runs) == 1 and not scenario.faults and not scenario.fresh
    if not alone or first.operation != "deploy" or ended.release != first.release or keeps_the_api(first.release):
        return
    named = any("GET /b is gone" in json.dumps(entry) for host in play.world.hosts.values() for entry in ledger(host))
    refused = ended.word == "reverted" and "breaks the API" in ended.message
    if named != (scenario.breaking != "ignore") or refused != (scenario.breaking == "refuse"):
        raise Broken(what_breaks_the_api_is_refused, f"with {scenario.breaking}: {ended.word}: {ended.message}")


# ---- at the end of everything ----


def a_rerun_converges(play: Play, ended: Ended, release: str) -> None:
    """Once what was broken is whole again, one more run takes every host to its release, without a step by hand."""
    if ended.word not in ("good", "nothing"):
        raise Broken(a_rerun_converges, f"the run afterwards ended {ended.word}: {ended.message}")
    for host in play.world.hosts.values():
        if host.now_serving() != [release]:
            raise Broken(a_rerun_converges, f"{host.name} serves {host.now_serving()} after the run to {release}")


def a_host_at_rest_is_whole(play: Play, host: Host) -> None:
    """One release serves, alone; the other slot is drained and stopped; state and ledger say so; nothing is pending."""
    state = json.loads(host.peek(f"{ROOT}/state.json") or "{}")
    good = [entry["release"] for entry in ledger(host) if entry.get("result") == "good"]
    wrong = {
        "an intent is left": host.peek(f"{ROOT}/intent.json") is not None,
        "the state names another release": [state.get("release")] != host.now_serving(),
        "the ledger names another release": good[-1:] != host.now_serving(),
        "the other slot runs": any(
            found and found.running for slot, found in host.docker.slots.items() if slot != state.get("slot")
        ),
        "the other slot gets requests": any(host.edge.enabled(slot) for slot in SLOTS if slot != state.get("slot")),
    }
    if host.docker.beside.used:
        names = sorted(one.name for one in host.docker.beside.there.values() if not one.ending and one.running)
        releases = {one.release for one in host.docker.beside.there.values() if not one.ending}
        wrong["other processes run"] = names != (["beat", "worker"] if host.name == "web1" else ["worker"])
        wrong["processes of another release run"] = list(releases) != host.now_serving()
    for what, is_so in wrong.items():
        if is_so:
            raise Broken(a_host_at_rest_is_whole, f"{host.name}: {what} (state {state}, serves {host.now_serving()})")


def an_edge_that_starts_anew_serves_the_same(play: Play, host: Host, release: str) -> None:
    """After a start of the edge, as a reboot of the host is one, the same release gets requests: what the edge was told
    of both slots, and of how each is looked at, is stored."""
    if host.now_serving() != [release]:
        raise Broken(
            an_edge_that_starts_anew_serves_the_same, f"{host.name} serves {host.now_serving()} then, and not {release}"
        )


def good_releases_stay(play: Play, host: Host, keep: int) -> None:
    """The newest good releases are there with files and image, so that each of them can be returned to."""
    newest = list(dict.fromkeys(entry["release"] for entry in reversed(ledger(host)) if entry.get("result") == "good"))
    for release in newest[:keep]:
        if host.image_of(release) not in host.docker.images:
            raise Broken(good_releases_stay, f"{release} cannot be returned to on {host.name}: files or image are gone")


# ---- how it is found out ----


def ledger(host: Host) -> list[dict[str, Any]]:
    """The records of a host's releases that can be read; of two of one transaction the later counts."""
    found: dict[Any, dict[str, Any]] = {}
    for line in (host.peek(f"{ROOT}/ledger.jsonl") or "").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and "result" in entry:
            found.pop((entry.get("release"), entry.get("start")), None)
            found[entry.get("release"), entry.get("start")] = entry
    return list(found.values())


def holder_of(host: Host) -> str:
    """The run that holds the lease of a host, empty where none does."""
    try:
        inode = host.disk.inode(LEASE)
        content = json.loads(inode.data)
    except (OSError, ValueError):
        return ""
    return str(content.get("run", "")) if abs(host.wall() - inode.modified) < 120 else ""
