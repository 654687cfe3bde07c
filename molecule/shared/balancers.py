"""Two balancers with a floating address, before the host of the shop, which they ask by TLS."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from contract import run_ansible, until
from served import Asking, Site

A, B = "slipway-balancer-a", "slipway-balancer-b"
ADDRESSES = {A: "172.29.89.11", B: "172.29.89.12"}
FLOATING, FLOATING_6 = "172.29.89.100", "fd00:89::100"
# Of eth0: nothing gets in or out, and nobody is told who has which address, as with a cable that was pulled.
CUT = (
    "iptables -I INPUT -i eth0 -j DROP && iptables -I OUTPUT -o eth0 -j DROP && ip6tables -I INPUT -i eth0 -j DROP"
    " && ip6tables -I OUTPUT -o eth0 -j DROP && ip link set eth0 arp off"
)
MENDED = CUT.replace("-I", "-D").replace("arp off", "arp on")
# Seconds in which nobody was answered; one second of it is a balancer that says nothing, by its protocol.
LONGEST = 30.0
# They do not hear each other, and all else gets through.
DEAF = "iptables -I INPUT -p vrrp -j DROP"
HEARS = DEAF.replace("-I", "-D")


@dataclass
class Pair(Site):
    """What the two say, and who of them has the floating address."""

    @staticmethod
    def holders() -> list[str]:
        """Those that have it, of those that run."""
        return [host for host in ADDRESSES if FLOATING in _said(host, "ip -brief -4 address show dev eth0")]

    def holder(self) -> str:
        """The one that has it, once there is one."""
        found: list[str] = []

        def one() -> bool:
            found[:] = self.holders()
            return len(found) == 1

        until(one, "one balancer has the address")
        return found[0]

    def other(self) -> str:
        return B if self.holder() == A else A

    @staticmethod
    def state(host: str) -> str:
        return _said(host, "cat /run/slipway-floating/state").strip()

    def stands_by(self, host: str) -> None:
        """Wait until it would take over."""
        until(lambda: self.state(host) == "BACKUP", f"{host} stands by")

    def does(self, host: str, entry_point: str) -> subprocess.CompletedProcess[str]:
        """A part of the role, on one of them."""
        role = f"name=slipway.fleet.haproxy tasks_from={entry_point}"
        return run_ansible(["ansible", host, "-i", self.inventory, "--become", "-m", "include_role", "-a", role])

    @contextmanager
    def moved(self, what: str) -> Iterator[str]:
        """Users ask all the time while the block brings down who has the address, and ask on where the other has it.

        A request that was begun once that one has answered fails no more. How long nobody was answered is told, and is
        never as long as `LONGEST`.
        """
        # Who asks one that says nothing any more waits no longer than this, and comes again then.
        with self.asked(patience=20.0) as asked:
            until(lambda: asked.in_a_row > 50, "users are there, and answered")
            # Not before: on a busy machine the address may move once more after what was before.
            before = self.holder()
            after = B if before == A else A
            yield before
            until(lambda: after in self.holders(), f"{after} has the address after {before} was {what}")
            had = time.monotonic()
            until(lambda: asked.good_at[-1] > had, f"{after} answers")
            answered = asked.good_at[-1]
            enough = len(asked.good_at) + 100
            until(lambda: len(asked.good_at) > enough, "users ask on")
        self.tell(what, asked)
        assert asked.outage < LONGEST
        late = [why for why, when in zip(asked.wrong, asked.wrong_since, strict=True) if when > answered]
        assert late == [], f"begun after {after} had answered"

    @staticmethod
    def tell(what: str, asked: Asking) -> None:
        print(
            f"{what}: {len(asked.wrong)} of {asked.asked} requests lost, nobody was answered for {asked.outage:.1f} s"
        )


def _said(host: str, command: str) -> str:
    """What a command printed; nothing where the host does not run."""
    ran = subprocess.run(["docker", "exec", host, "sh", "-c", command], capture_output=True, text=True, check=False)
    return ran.stdout
