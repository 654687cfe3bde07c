"""Faults that the code had or could have, put back on purpose: each must be found, or the simulation proves nothing."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from types import ModuleType
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.edge import maps
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import Edge, parse_servers
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import Damaged
from ansible_collections.slipway.fleet.plugins.module_utils.release import oneoff, operations
from ansible_collections.slipway.fleet.plugins.module_utils.release.contract import Contract
from ansible_collections.slipway.fleet.plugins.module_utils.release.lease import Lease
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import SLOTS, other
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store
from ansible_collections.slipway.fleet.plugins.module_utils.release.transaction import Transaction
from ansible_collections.slipway.fleet.plugins.plugin_utils import fleet as fleet_package
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import coordinator, singletons
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import lease as keeper

from tests.simulation.shims import Installed

Plant = Callable[[Installed], None]


def stop_before_the_switch_is_confirmed(code: Installed) -> None:
    """The old slot is stopped without the edge having said that the new one serves."""
    code.set(Transaction, "_confirm", lambda self, *how, **more: None)
    code.set(Transaction, "_keep", lambda self, to, away: self.edge.servers())
    switch = Transaction._switch

    def blind(self: Transaction, intent: Any) -> None:
        switch(self, intent)
        self._tell_edge(other(intent.slot), "drain")

    code.set(Transaction, "_switch", blind)


def finish_without_asking(code: Installed) -> None:
    """What a crash left is finished, whether the new slot is well or not."""
    code.set(Transaction, "_well", lambda self, sight, slot, release: True)


def no_fencing(code: Installed) -> None:
    """A host does what any run asks, whoever holds it and whatever serves."""
    code.set(operations, "_fence", lambda arguments: None)
    code.set(Transaction, "_may_go_on", lambda self, when: None)
    code.set(Transaction, "_expect", lambda self, sight: None)


def state_is_stored_before_it_is_set(code: Installed) -> None:
    """The file from which HAProxy starts is written before the switch, and not read back."""

    def set_state(self: Edge, slot: str, state: str, beside: str = "", checked: bool = False) -> None:
        with self._alone():
            dump = self.ask("show servers state").lstrip("\n")
            self._set(self.ask, slot, state)
            self._store(dump)

    code.set(Edge, "set_state", set_state)


def the_way_back_starts_nothing(code: Installed) -> None:
    """A release that is taken back leaves the old slot as it is, also where that has died meanwhile."""
    code.set(Transaction, "_runs", lambda self, slot: True)
    code.set(Transaction, "_revive", lambda self, slot, release: False)


def the_lease_is_not_renewed(code: Installed) -> None:
    """Nobody gives a sign of life for a run."""

    async def keep(run: Any) -> None:
        await asyncio.Event().wait()

    def renew(self: Lease, run: str) -> bool:
        holder = self.holder()
        return bool(holder and holder["run"] == run)

    code.set(keeper, "keep", keep)
    code.set(Lease, "renew", renew)


def the_verdict_is_what_is_recorded(code: Installed) -> None:
    """What a host serves is what its state says."""
    for item in pkgutil.iter_modules(fleet_package.__path__, f"{fleet_package.__name__}."):
        module: ModuleType = importlib.import_module(item.name)
        if "serving" in module.__dict__:
            code.set(module, "serving", lambda answer: (answer.get("state") or {}).get("release") or None)


def blue_without_a_state(code: Installed) -> None:
    """Where no state can be read the new release goes to blue, whatever serves from there."""

    def target(self: Transaction, live: str | None) -> str:
        try:
            state = self.store.state()
        except Damaged:
            state = None
        return other(state.slot) if state else SLOTS[0]

    code.set(Transaction, "_target", target)


def migrations_are_not_guarded(code: Installed) -> None:
    """A migration is begun whatever still runs."""
    only_one = Store.only_one

    def unguarded(self: Store, name: str, holder: str, wait: float) -> Any:
        return nullcontext() if name.startswith("oneoff") else only_one(self, name, holder, wait)

    run = oneoff.run_once

    def run_once(store: Any, runtime: Any, arguments: dict[str, Any]) -> Any:
        purpose = f"{arguments['purpose']} {uuid.uuid4().hex[:6]}"
        return run(store, runtime, {**arguments, "purpose": purpose})

    code.set(Store, "only_one", unguarded)
    code.set(operations, "run_once", run_once)


def expectations_after_the_mending(code: Installed) -> None:
    """What a run was told is compared only after an interrupted switch was finished."""
    expect, reconcile = Transaction._expect, Transaction.reconcile

    def then_expect(self: Transaction) -> Any:
        found = reconcile(self)
        expect(self, self.look())
        return found

    code.set(Transaction, "_expect", lambda self, sight: None)
    code.set(Transaction, "reconcile", then_expect)


def two_tables_from_two_workers(code: Installed) -> None:
    """In a reload, what the old worker sees is put together with what the new one was told."""

    def servers(self: Edge) -> Any:
        return parse_servers(self.ask("show stat"), self.ask("show servers state"), self.backend)

    code.set(Edge, "servers", servers)
    code.set(Edge, "one_worker", lambda self: nullcontext(self.ask))


def every_release_is_looked_at_as_the_run_says(code: Installed) -> None:
    """The health path of what is deployed is asked of the release before, too."""
    code.set(Store, "gate", lambda self, release: {})


def the_edge_asks_every_slot_the_same(code: Installed) -> None:
    """The edge's own check has one path, which a release does not change."""
    code.set(Edge, "set_check", lambda self, *how: None)


def a_reload_forgets_what_is_asked(code: Installed) -> None:
    """What the edge's check asks is set in the worker that runs, and stored nowhere."""
    code.set(maps, "render", lambda entries, header: header)


def nothing_makes_way(code: Installed) -> None:
    """Releases run beside each other whatever they say."""
    code.set(Store, "overlaps", lambda self, release: True)


def what_makes_way_counts_as_dead(code: Installed) -> None:
    """Where the old slot was stopped for the new one, a refused release serves until the old one is back."""
    abandon = Transaction._abandon

    def blind(self: Transaction, intent: Any, error: Exception) -> Any:
        if intent.was and self._runs(other(intent.slot)) is False and self._answers(intent.slot):
            return self._return(intent, error)
        return abandon(self, intent, error)

    code.set(Transaction, "_abandon", blind)


def what_is_interrupted_counts_as_proven(code: Installed) -> None:
    """A release that was killed before anybody found out what it breaks is finished, where the old one made way."""
    reconcile = Transaction.reconcile

    def blind(self: Transaction) -> Any:
        revive, self._revive = self._revive, lambda slot, release: False  # type: ignore[method-assign]
        try:
            return reconcile(self)
        finally:
            self._revive = revive  # type: ignore[method-assign]

    code.set(Transaction, "reconcile", blind)


def what_was_handed_over_is_forgotten(code: Installed) -> None:
    """A host that was to start the singletons, and was not begun, starts none."""

    async def and_forget(run: Any) -> None:
        await singletons.hand_over(run)
        for member in run.members:
            member.tends = False

    code.set(coordinator, "hand_over", and_forget)


def nobody_waits_for_processes_to_end(code: Installed) -> None:
    """What was told to end counts as gone."""
    code.set(Transaction, "_wait_gone", lambda self, instances, breathe, hurried=False: None)


def a_refusal_leaves_processes_as_they_are(code: Installed) -> None:
    """Where a release is taken away, the processes of the earlier one are not seen to."""
    only_earlier = Transaction._only_earlier

    def blind(self: Transaction, *what: Any) -> Any:
        self._only_beside = lambda slot, release: False  # type: ignore[method-assign]
        return only_earlier(self, *what)

    code.set(Transaction, "_only_earlier", blind)


def a_broken_api_is_told_and_let_through(code: Installed) -> None:
    """What breaks the API is named, and refused nowhere."""
    compares = Contract.__call__
    code.set(Contract, "__call__", lambda self, *what: replace(compares(self, *what), refused=False))


PLANTED: tuple[Plant, ...] = (
    stop_before_the_switch_is_confirmed,
    finish_without_asking,
    no_fencing,
    state_is_stored_before_it_is_set,
    the_way_back_starts_nothing,
    the_lease_is_not_renewed,
    the_verdict_is_what_is_recorded,
    blue_without_a_state,
    migrations_are_not_guarded,
    expectations_after_the_mending,
    two_tables_from_two_workers,
    every_release_is_looked_at_as_the_run_says,
    the_edge_asks_every_slot_the_same,
    a_reload_forgets_what_is_asked,
    nothing_makes_way,
    what_makes_way_counts_as_dead,
    what_is_interrupted_counts_as_proven,
    what_was_handed_over_is_forgotten,
    nobody_waits_for_processes_to_end,
    a_refusal_leaves_processes_as_they_are,
    a_broken_api_is_told_and_let_through,
)
