"""One story: a scenario drawn from a seed, played in a world, and judged by the promises. Times in seconds."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.release import operations
from ansible_collections.slipway.fleet.plugins.module_utils.release.beside import Instance
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import State
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store

from tests.simulation import invariants, shims
from tests.simulation.beside import DECLARED
from tests.simulation.edge import CHECK_EVERY, FALL, SLOTS, STATE_FILE
from tests.simulation.faults import Fault, strike
from tests.simulation.invariants import Broken
from tests.simulation.kernel import Process
from tests.simulation.shims import Focus
from tests.simulation.slots import Container
from tests.simulation.story import ALONE, Ended, Run, Scenario, path_of
from tests.simulation.world import PLACE, ROOT, Controller, Host, World

FIRST, LAST = "r0", "r9"
KEEP = 3
# Before releases had that, a state said less.
OLDER = '{"release": "r0", "slot": "blue", "since": "2026-01-01T00:00:00+00:00"}'
# Seconds after which a story in which something still goes on counts as one that never ends.
ENOUGH = 20_000.0
LIFETIME = 120.0


Driver = Callable[["Play", Controller, Run, str], Awaitable[Ended]]


class Play:
    """A scenario while it is played; raises Broken where a promise is not kept."""

    def __init__(self, scenario: Scenario, driver: Driver) -> None:
        self.scenario = scenario
        self.driver = driver
        self.world = World(scenario.seed, scenario.hosts, scenario.calm)
        self.kernel = self.world.kernel
        self.world.verbs = operations.VERBS
        self.world.migration_lasts = self._migration_lasts
        self.struck: list[Fault] = []
        self.waiting = list(scenario.faults)
        self.marks: dict[Fault, int] = {}
        self.acting: dict[str, Process] = {}
        self.changed_by_others: dict[str, str] = {}
        self.looked: dict[tuple[str, str], float] = {}
        self.held_at: dict[str, float] = {}
        self.served_since: dict[tuple[str, str], float] = {}  # when a release got requests anew, by host
        self.frozen_at = 0.0
        self.last_effect = ""
        self.damaged: dict[str, set[str]] = {}
        self.controllers: dict[int, Controller] = {}
        self.tasks: dict[int, Any] = {}
        self.ended: list[Ended] = []
        self.begun = False
        self.striking = False
        self._wronged: dict[str, float] = {}
        self.came_into_outage: set[tuple[str, str]] = set()
        self._broken: Broken | None = None
        self._mistake: Exception | None = None
        self._run_names: dict[str, int] = {}

    # The story.
    def play(self) -> None:
        """From the first run to a last one that mends everything. Raises Broken."""
        self._listen()
        self._set_up()
        self.begun = True
        for fault in self.scenario.faults:
            if fault.follows and fault is not self.scenario.faults[0]:
                continue
            if fault.at:
                self.kernel.after(fault.at, lambda fault=fault: self._strike(fault))  # type: ignore[misc]
            elif not fault.effect and not fault.turn:
                self._strike(fault)
        tasks = [self._begin(number, run) for number, run in enumerate(self.scenario.runs)]
        self._go(lambda: over(tasks) and not self._busy(), "the runs never end")
        self._heal()
        last = self._afterwards(Run("deploy", LAST))
        if "move it away" in last.message:
            self._follow_advice(last.message)
            last = self._afterwards(Run("deploy", LAST))
        invariants.a_rerun_converges(self, last, LAST)
        for host in self.world.hosts.values():
            invariants.a_host_at_rest_is_whole(self, host)
            if "ledger" not in self.damaged.get(host.name, ()):
                invariants.good_releases_stay(self, host, KEEP)
        self._start_edges_anew()
        for host in self.world.hosts.values():
            invariants.an_edge_that_starts_anew_serves_the_same(self, host, LAST)

    def close(self) -> None:
        self.world.close()

    def _begin(self, number: int, run: Run) -> Callable[[], bool]:
        controller = self.world.controller(f"controller {number}")
        self.controllers[number] = controller
        state = {"over": False}

        def turn() -> None:
            for fault in [fault for fault in self.waiting if fault.turn and fault.run == number]:
                if controller.loop.turns >= fault.turn:
                    self._strike(fault)

        controller.loop.turn = turn

        def start() -> None:
            self.world.tell(controller.name, f"begins to {run.operation} {run.release}")
            task = controller.loop.start(self.driver(self, controller, run, f"run{number}"))  # type: ignore[arg-type]

            def done(_: Any) -> None:
                state["over"] = True
                self._run_ended(controller, task)

            task.add_done_callback(done)
            self.tasks[number] = task

        self.kernel.after(run.at, start)
        return lambda: state["over"] or controller.loop.dead

    def _run_ended(self, controller: Controller, task: Any) -> None:
        if task.cancelled():
            return
        if error := task.exception():
            if isinstance(error, Broken):
                self._raise(error)
                return
            raise error
        ended: Ended = task.result()
        self.ended.append(ended)
        self.world.tell(controller.name, f"ended {ended.word}: {ended.message}")
        self._check(lambda: invariants.a_verdict_is_what_hosts_answer(self, ended))
        self._check(lambda: invariants.a_run_leaves_one_singleton(self, ended))
        self._check(lambda: invariants.an_undisturbed_run_succeeds(self, ended))
        self._check(lambda: invariants.what_breaks_the_api_is_refused(self, ended))

    def _go(self, until: Callable[[], bool], otherwise: str) -> None:
        def over() -> bool:
            # Asked after every step, so the cheapest answer comes first.
            return self._broken is not None or self._mistake is not None or until()

        limit = self.kernel.now + ENOUGH
        met = self.kernel.run(over, limit)
        if self._mistake:
            raise self._mistake
        if self._broken:
            raise self._broken
        if not met:
            raise Broken(invariants.a_rerun_converges, otherwise)

    def _start_edges_anew(self) -> None:
        """And wait until each has seen of both slots what there is to see."""
        for host in self.world.hosts.values():
            host.edge.stop()
            host.edge.start()
        seen = self.kernel.now + FALL * CHECK_EVERY + 1.0
        self.kernel.after(FALL * CHECK_EVERY + 1.0, lambda: None)
        self._go(lambda: self.kernel.now >= seen, "the edges never see the slots")

    def _busy(self) -> bool:
        return any(host.processes or not host.up for host in self.world.hosts.values())

    def _afterwards(self, run: Run) -> Ended:
        """One more run, by a new controller, undisturbed."""
        number = 100 + len(self.ended)
        before = len(self.ended)
        over = self._begin(number, run)
        self._go(lambda: over() and not self._busy(), "the run afterwards never ends")
        assert len(self.ended) > before
        return self.ended[-1]

    def _heal(self) -> None:
        """Everything that was broken from outside is whole again, and leases of the dead have ended."""
        self.world.tell("world", "everything that was broken is mended")
        self.waiting.clear()
        for controller in self.controllers.values():
            controller.kill()
        for host in self.world.hosts.values():
            host.disk.fail = lambda what, path: None
            host.clock_offset = 0.0
            host.docker.away_until = host.docker.slow_until = 0.0
            host.edge.start()
            host.disk.tree[ROOT].pop("freeze.json", None)
            host.disk.durable[ROOT].pop("freeze.json", None)
        rested = self.kernel.now + LIFETIME + 5.0
        self.kernel.after(LIFETIME + 6.0, lambda: None)
        self._go(lambda: self.kernel.now >= rested and not self._busy(), "the hosts never come to rest")

    def _follow_advice(self, message: str) -> None:
        """Move the file away that a message says is damaged."""
        self.world.tell("operator", f"follows: {message}")
        for host in self.world.hosts.values():
            for name in ("state.json", "intent.json", "ledger.jsonl"):
                if f"{ROOT}/{name}" in message:
                    host.disk.tree[ROOT].pop(name, None)

    def _migration_lasts(self, release: str) -> float:
        """Mostly a moment; now and then longer than a lease."""
        return 150.0 if self.kernel.random.random() < 0.35 else self.kernel.delay(0.5, 5.0)

    # What is listened to.
    def _listen(self) -> None:
        self.world.before_effect = self._before_effect
        self.world.at_effect = self._at_effect
        self.world.service_changed = self._service_changed
        self.world.on_end = self._verb_ended

    def _strike(self, fault: Fault) -> None:
        if fault in self.waiting:
            self.waiting.remove(fault)
            place = self.scenario.faults.index(fault) + 1
            following = self.scenario.faults[place : place + 1]
            if following and following[0].follows:
                self.kernel.after(following[0].at, lambda: self._strike(following[0]))
            self.striking = True
            try:
                strike(fault, self)
            except Exception as error:
                self._mistake = error  # of the simulation; a process that it happens in would keep it to itself
                raise
            finally:
                self.striking = False

    def who_acts(self) -> Process | None:
        """The process that does what happens now, None where it is a fault or the world itself."""
        return None if self.striking else self.kernel.current

    def _before_effect(self, host: Host, process: Process, what: str) -> None:
        if not self.begun:
            return
        for fault in [fault for fault in self.waiting if fault.effect and fault.host == host.name]:
            if fault.on:
                self.marks[fault] = self.marks.get(fault, 0) + (fault.on in what)
            if (self.marks.get(fault, 0) if fault.on else host.effects) >= fault.effect:
                self._strike(fault)

    def _at_effect(self, host: Host, process: Process, what: str) -> None:
        self.world.tell(host.name, f"{process.owner} {process.name}: {what}")
        if self.scenario.alone and self.scenario.beside:
            self._check(lambda: invariants.no_release_runs_beside_one_that_must_be_alone(self, host))
        self.last_effect = what
        if what.startswith(invariants.CHANGING):
            self._check(lambda: invariants.one_transaction_at_a_time(self, host, process, what))
            self._check(lambda: invariants.only_the_holder_begins(self, host, process, what))
            self.acting[host.name] = process
            self.changed_by_others[host.name] = process.owner
        if what.startswith(("rename /run/slipway/locks", "write /run/slipway/locks")):
            self.held_at[host.name] = self.kernel.now
        if what == f"rename {ROOT}/freeze.json":
            self.frozen_at = self.kernel.now

    def _service_changed(self, host: Host, before: list[str]) -> None:
        if not self.begun:
            return
        if host.service != before:
            self.world.tell(host.name, f"serves {' and '.join(host.service) or 'nothing'}")
            for new in {*host.service} - {*before}:
                (self.came_into_outage.discard if before else self.came_into_outage.add)((host.name, new))
            self.served_since |= {(host.name, new): self.kernel.now for new in {*host.service} - {*before}}
        self._check(lambda: invariants.no_step_takes_the_service_away(self, host, before))
        self._check(lambda: invariants.no_release_runs_beside_one_that_must_be_alone(self, host))
        self._check(lambda: invariants.what_is_to_be_refused_gets_no_requests(self, host))
        self._check(lambda: invariants.requests_go_to_slots_that_the_edge_has_seen_well(self, host))
        self._watch_idle(host)

    def _watch_idle(self, host: Host) -> None:
        """Remember since when a host has a healthy slot, an edge, and no service."""
        wronged = host.up and host.edge.running and not host.service and any(self.usable(host, slot) for slot in SLOTS)
        if not wronged:
            self._wronged.pop(host.name, None)
        elif host.name not in self._wronged:
            since = self._wronged[host.name] = self.kernel.now
            self.kernel.after(invariants.REPAIR, lambda: self._still_idle(host, since, invariants.REPAIR))

    def usable(self, host: Host, slot: str) -> bool:
        found = host.docker.slots[slot]
        return bool(found and found.seen_well and host.docker.edge_gets_answer(slot))

    def _still_idle(self, host: Host, since: float, limit: float) -> None:
        if self._wronged.get(host.name) != since:
            return
        now = self.kernel.now
        hindered = max(host.docker.hindered_until, host.hurt_at)
        if hindered > since:
            begin = min(hindered, now)
            if begin + limit > now:
                self.kernel.after(begin + limit - now + 0.1, lambda: self._still_idle(host, since, limit))
                return
        for process in host.processes:
            if (
                process.name in ("activate, detached", "settle, detached")
                and process.started <= now - limit
                and self.acting.get(host.name) is process
            ):
                self._check(lambda process=process: invariants.a_healthy_slot_is_put_to_use(self, host, since, process))  # type: ignore[misc]
        self.kernel.after(limit, lambda: self._still_idle(host, since, limit))

    def fault_hit(self, host: Host) -> None:
        if self.struck[-1].kind in ("full disk", "full for", "broken writes"):
            self.damaged.setdefault(host.name, set()).add("disk")
        if self.struck[-1].kind == "damaged":
            self.damaged.setdefault(host.name, set()).add(self.struck[-1].what.split()[0])

    def _verb_ended(self, host: Host, verb: str, arguments: dict[str, Any], process: Process) -> None:
        self.world.tell(host.name, f"{process.owner} {verb} ended: {process.error or 'done'}")
        if verb in ("activate", "settle") and not process.killed:
            self._check(lambda: invariants.what_should_serve_is_started(self, host, process))
        if verb == "settle" and not process.killed:
            self._check(lambda: invariants.what_is_taken_back_serves_again(self, host, arguments, process))
        if verb == "let_go":
            self.looked[process.owner, host.name] = self.kernel.now
        if verb == "activate" and not process.killed:
            self._check(lambda: invariants.the_ledger_tells_what_happened(self, host, arguments, process))
        self._check(lambda: invariants.no_two_singletons(self, host))
        if verb == "activate" and not process.killed:
            self._check(lambda: invariants.a_refused_release_leaves_the_old_processes(self, host, process))
            self._check(lambda: invariants.a_refused_release_got_no_requests(self, host, process))
        self._check(lambda: invariants.migrations_run_alone(self))
        self._check(lambda: invariants.migrations_run_once(self))

    def _check(self, promise: Callable[[], None]) -> None:
        """The first promise that is broken ends the story, wherever in a process that was found out."""
        if self._broken is None:
            try:
                promise()
            except Broken as broken:
                self._raise(broken)

    def _raise(self, broken: Broken) -> None:
        self._broken = self._broken or broken
        self.world.tell("world", f"BROKEN {broken}")

    # What faults of controllers do.
    def controller_of(self, run: int) -> Controller | None:
        return self.controllers.get(run)

    def kill_controller(self, run: int) -> None:
        if controller := self.controllers.get(run):
            controller.kill()

    def pause_controller(self, run: int, seconds: float) -> None:
        if controller := self.controllers.get(run):
            controller.loop.paused_until = self.kernel.now + seconds

    def interrupt(self, run: int) -> None:
        """Somebody presses Ctrl-C."""
        if task := self.tasks.get(run):
            task.cancel()

    def operator(self, verb: str) -> None:
        """Somebody freezes or frees the app on all hosts."""
        for host in self.world.hosts.values():
            who = {"id": "operator", "who": "ann", "from": "desk", "what": verb}
            arguments = {"place": PLACE, "run_id": "operator", "run": who, "reason": "a look"}

            def work(host: Host = host, arguments: dict[str, Any] = arguments) -> Any:
                return self.world.verbs[verb](arguments, lambda event: None)

            if host.up:
                host.spawn(verb, "operator", work, lambda process: None)

    # How it begins.
    def _set_up(self) -> None:
        for host in self.world.hosts.values():
            host.docker.beside.used = self.scenario.beside
            host.docker.beside.of_fleet = [each.docker.beside for each in self.world.hosts.values()]
            host.docker.path_of = lambda release: path_of(release, self.scenario.moving)
            if not self.scenario.fresh:
                stage(host, FIRST, path_of(FIRST, self.scenario.moving) if self.scenario.moving else "")
                if self.scenario.beside:
                    host.disk.put(f"{ROOT}/releases/{FIRST}/processes.json", DECLARED)
                    names = ["worker", "beat"] if host.name == "web1" else ["worker"]
                    there = [Instance(f"first {name}", name, "blue", FIRST, 1) for name in names]
                    host.docker.beside.there = {one.id: one for one in there}
                if self.scenario.alone and self.scenario.seed % 2:
                    host.disk.put(f"{ROOT}/releases/{FIRST}/keeps.json", ALONE)
                serve_first(host)
                if self.scenario.older:
                    host.disk.put(f"{ROOT}/state.json", OLDER)
        self.world.story.clear()


def over(tasks: list[Callable[[], bool]]) -> bool:
    """Whether all of them are over. It is asked after every step, so those that are found to be so are taken out."""
    while tasks and tasks[-1]():
        tasks.pop()
    return not tasks


def stage(host: Host, release: str, path: str = "") -> None:
    """Files and image of a release, put there from outside; with the file that says how it is looked at, or before."""
    if path:
        host.disk.put(f"{ROOT}/releases/{release}/gate.json", json.dumps({"path": path}))
    host.disk.put(f"{ROOT}/releases/{release}/compose.yaml", f"image: app:{release}\n")
    host.docker.images.add(f"app:{release}")


def serve_first(host: Host) -> None:
    """The host serves `r0` from blue, as after a deploy."""
    Focus.host = host
    store = Store(host.path(ROOT))
    store.write_state(State(FIRST, "blue", "2026-01-01T00:00:00+00:00"))
    about = {"image": f"app:{FIRST}", "migration": "", "operation": "deploy"}
    when = {"start": "2026-01-01", "end": "2026-01-01"}
    store.record({"release": FIRST, "slot": "blue", "was": None, "result": "good", **when, **about})
    store.seal(FIRST)
    Focus.host = None
    container = Container(0, FIRST, seen_well=True, well=True)
    host.docker.slots["blue"] = container
    host.edge.worker.admin["green"] = "drain"
    host.edge.worker.up["green"] = False
    if host.edge.by_port("blue"):
        host.edge.worker.admin.update({"blue": "maint", "blue-port": "ready"})
        host.edge.worker.up.update({"blue": False, "blue-port": True})
    host.disk.put(STATE_FILE, host.edge.ask("show servers state").lstrip("\n"))
    host.slot_changed("blue")


def outcome(scenario: Scenario, driver: Driver, installed: bool = False) -> tuple[Broken | None, Play]:
    """Play a scenario; returns the promise that was broken, None where all were kept."""
    done = None if installed else shims.install()
    play = Play(scenario, driver)
    try:
        play.play()
    except Broken as broken:
        return broken, play
    else:
        return None, play
    finally:
        play.close()
        if done:
            done.remove()
