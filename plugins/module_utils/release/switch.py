"""Which slot gets requests: set at the edge, looked at until it is so, and put back where nobody would answer.

In a reload HAProxy has two workers for a while, which do not know the same; the comments of the constants say what that
means for how often and how long is looked.
"""

from __future__ import annotations

from contextlib import suppress

from ..edge.haproxy import EdgeError, NotStored, Server
from .diagnosis import unseen
from .looks import Looks
from .model import TransactionError

# Seconds between two looks, and between the first ones.
POLL, FIRST_LOOK = 0.25, 0.1
# Looks in a row at the edge that must agree: in a reload the first may be answered by the worker that goes.
CONFIRMED = 2
# Seconds after which a worker of HAProxy that read the states before they were set last has taken over, if there is
# one. Nothing that answers is stopped sooner; a soak that is longer has waited for it.
TAKEOVER = 1.5


class Switch(Looks):
    """The states of both slots at the edge."""

    def _tell_edge(self, slot: str, state: str, beside: str = "") -> None:
        """Set a state at the edge, and remember when. Raises EdgeError and OSError."""
        try:
            self.edge.set_state(slot, state, beside)
        finally:
            self._told = self.clock.monotonic()

    def _tell_check(self, slot: str, release: str) -> None:
        """Have the edge look at a slot as the release in it wants, or about to be. Raises EdgeError and OSError."""
        gate = self.gate_of(release)
        self.edge.set_check(slot, gate.path, gate.host, gate.proto)

    def _keep(self, to: str, away: str) -> dict[str, Server]:
        """One look at the edge, after which `to` gets requests and `away` none: a reload in between is undone.

        The one that answers is not taken its requests while the other one does not, which gets none beside it either.
        Where `to` is enabled by the door that its release does not open, as it may be that was told so while nothing
        was there, both are drained, so that the edge looks at the right one. Returns what was seen, before anything
        was set. Raises EdgeError and OSError.
        """
        servers = self.edge.servers()
        if servers[to].shut:
            self._tell_edge(to, "drain")
            return servers
        served = servers[away].enabled and servers[away].answers
        if not servers[to].answers:
            with suppress(EdgeError, OSError):
                self.edge.keep_checks()
        if not servers[to].enabled and (servers[to].answers or not served):
            self._tell_edge(to, "ready")
        if servers[away].enabled and (servers[to].answers or not servers[away].answers):
            self._tell_edge(away, "drain", beside=to)
        return servers

    def _keep_or_put_back(self, to: str, away: str) -> dict[str, Server]:
        """The same while `away` still runs: it gets requests again as long as it answers and `to` does not."""
        servers = self._keep(to, away)
        if servers[away].answers and not servers[away].enabled and not servers[to].answers:
            self._tell_edge(away, "ready")
        return servers

    def _confirm(self, to: str, away: str, storing: bool = True, surely: bool = False) -> None:
        """Wait until the edge says twice that `to` serves and `away` gets nothing new.

        `surely` is for who stops `away` then: no worker is left that may come and know less. Raises EdgeError when the
        edge does not say so within the gate's `edge` seconds, and with `storing` at once when a state is set that a
        reload would forget.
        """
        limit = self.request.gate.edge
        deadline = self.clock.monotonic() + limit
        agreed = 0
        while True:
            problem = ""
            try:
                servers = self._keep_or_put_back(to, away)
                if not servers[to].enabled or servers[away].enabled:
                    problem = "a reload took the states back"
                elif not servers[to].answers:
                    problem = f"its check of slot {to} fails ({servers[to].check or 'it got no answer yet'})"
            except NotStored as error:
                if storing:
                    raise
                problem = str(error)
            except (EdgeError, OSError) as error:
                problem = str(error)
            agreed = 0 if problem else agreed + 1
            now = self.clock.monotonic()
            if agreed >= CONFIRMED and (not surely or now - self._told >= TAKEOVER):
                return
            if problem and now >= deadline:
                raise EdgeError(f"HAProxy did not send requests to slot {to} alone within {limit:.0f} s: {problem}")
            self.clock.sleep(FIRST_LOOK if 0 < agreed < CONFIRMED else POLL)

    def _wait_seen_by_edge(self, slot: str, release: str) -> None:
        limit, gate = self.request.gate.edge, self.gate_of(release)

        def wait() -> None:
            deadline = self.clock.monotonic() + limit
            problem = ""
            while True:
                try:
                    server = self.edge.servers()[slot]
                    if server.answers:
                        return
                    problem = unseen(gate, server.check)
                    self.edge.keep_checks()
                except (EdgeError, OSError) as error:
                    problem = str(error)
                if self.clock.monotonic() >= deadline:
                    raise TransactionError(
                        f"the slot is healthy, but HAProxy's check of it did not pass within {limit:.0f} s: {problem}"
                    )
                self._breathe(switched=False)
                self.clock.sleep(FIRST_LOOK)

        self._phase("edge", wait)

    def _wait_idle(self, slot: str, beside: str = "") -> None:
        """Send nothing new to a slot and wait for its requests to end, for `drain` seconds."""
        self._try(lambda: self._tell_edge(slot, "drain", beside))
        deadline = self.clock.monotonic() + self.request.drain
        while self._sessions(slot) and self.clock.monotonic() < deadline:
            self.clock.sleep(POLL)
