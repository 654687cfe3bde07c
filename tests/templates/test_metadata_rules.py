"""The rules that shut clouds' metadata services, loaded by nft into a network of their own, and asked from there.

That network has all of the addresses itself, and a container's network behind an interface that is called as Docker's
are. Without the rules everything is open, so what is shut is shut by them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.templates.rendering import Role

BRIDGE = "br-0123456789ab"
CLOUD, NAME_SERVER, EDGE = 8254, 53, 80
LOOPBACK = ["127.0.0.1", "::1", "::ffff:127.0.0.1"]
ELSEWHERE = ["198.51.100.7", "2001:db8::7"]
OWN, GUEST = "172.31.0.1", "172.31.0.2"
TOOLS = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
OPEN, SHUT = "open", "ConnectionRefusedError"

SERVE = """
import socket, sys, threading
def serve(server):
    while True:
        server.accept()[0].close()
for port in map(int, sys.argv[1:]):
    server = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=64)
    threading.Thread(target=serve, args=(server,), daemon=True).start()
print(flush=True)
sys.stdin.read()
"""
ASK = """
import json, socket, sys
found, port, link, own = {}, int(sys.argv[1]), sys.argv[2], sys.argv[3]
for address in sys.argv[4:]:
    try:
        to = address + link * address.startswith("fe80:")
        socket.create_connection((to, port), 30, (own, 0) if own else None).close()
        found[address] = "open"
    except OSError as error:
        found[address] = type(error).__name__
print(json.dumps(found))
"""
# Somebody else's rules, as a firewall has them that lets everything out.
LENIENT = """
table inet firewall {
	chain first { type filter hook prerouting priority -300; policy accept; accept; }
	chain last { type filter hook prerouting priority 300; policy accept; accept; }
	chain out { type filter hook output priority 0; policy accept; accept; }
	chain forward { type filter hook forward priority 0; policy accept; accept; }
}
"""


class Namespace:
    """A network of its own, which lasts as long as a process in it."""

    def __init__(self, stack: ExitStack, within: Sequence[str] = ()) -> None:
        users = [] if os.geteuid() == 0 or within else ["--user", "--map-root-user"]
        holder = running(stack, [*within, "unshare", *users, "--net", "sh", "-c", "echo; exec cat"])
        self.pid = holder.pid  # each of these programs becomes the next one
        users = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        self.within = ["nsenter", "--target", str(self.pid), *users, "--net"]

    def run(self, *words: str, given: str = "") -> str:
        words = (*self.within, *words)
        done = subprocess.run(words, input=given, capture_output=True, text=True, check=False, timeout=600, env=TOOLS)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    def ip(self, *commands: str) -> None:
        for command in commands:
            self.run("ip", *command.split())

    def serve(self, stack: ExitStack, *ports: int) -> None:
        """Let whoever comes in, at each address."""
        running(stack, [*self.within, sys.executable, "-c", SERVE, *map(str, ports)])

    def asks(self, addresses: Sequence[str], port: int, link: str, own: str = "") -> dict[str, str]:
        """What the user 0 meets at each address, those of a link by `link`; `own` is where it comes from."""
        words = (str(port), f"%{link}", own, *addresses)
        found: dict[str, str] = json.loads(self.run(sys.executable, "-c", ASK, *words))
        return found


def running(stack: ExitStack, words: Sequence[str]) -> subprocess.Popen[str]:
    """A process that has begun its work, and ends when its input does, at the latest with the stack."""
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    stack.enter_context(process)
    assert process.stdout
    assert process.stdout.readline() == "\n", words
    return process


class Cloud:
    """A host in a cloud that has all of the addresses; the app runs by itself, as the user 0, and in a container."""

    def __init__(self, stack: ExitStack, directory: Path) -> None:
        self.directory = directory
        self.addresses: list[str] = self.role().value("__fastapi_app_metadata_addresses")
        self.outside = Namespace(stack)
        self.host, self.container = (Namespace(stack, self.outside.within) for _ in range(2))
        self._connect()
        self.outside.serve(stack, CLOUD, NAME_SERVER)
        self.host.serve(stack, EDGE)
        self.container.serve(stack, CLOUD)

    def _connect(self) -> None:
        """The container by a bridge to the host, and the host to the outside, which has the addresses."""
        outside, host, container = self.outside, self.host, self.container
        host.ip(f"link add eth0 type veth peer name eth0 netns {outside.pid}")
        host.ip(f"link add {BRIDGE} type veth peer name eth0 netns {container.pid}")
        for one, link, four, six in (
            (outside, "eth0", "172.31.1.1", "fd11::1"),
            (host, "eth0", "172.31.1.2", "fd11::2"),
            (host, BRIDGE, OWN, "fd12::1"),
            (container, "eth0", GUEST, "fd12::2"),
        ):
            one.ip(f"address add {four}/24 dev {link}", f"address add {six}/64 dev {link} nodad")
            one.ip("link set lo up", f"link set {link} up")
        for one, four, six in (
            (outside, "172.31.1.2", "fd11::2"),
            (host, "172.31.1.1", "fd11::1"),
            (container, OWN, "fd12::1"),
        ):
            one.ip(f"route add default via {four}", f"-6 route add default via {six}")
        host.run("sysctl", "-q", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for address in (*self.addresses, *ELSEWHERE):
            outside.ip(f"address add {address}{'/128 nodad' if ':' in address else '/32'} dev eth0")

    def role(self, user: int = 0, bridge: str = BRIDGE, **variables: Any) -> Role:
        return Role(
            "fastapi_app",
            fastapi_app_name="links",
            fastapi_app_uid=user,
            fastapi_app_bridges_result={"stdout_lines": [bridge]},
            __fastapi_app_metadata=str(self.directory),
            **variables,
        )

    def shut(self, **variables: Any) -> None:
        """Write the rules as provisioning does, and load them as the unit does at a boot."""
        role = self.role(**variables)
        (self.directory / "apps").mkdir(exist_ok=True)
        (self.directory / "rules.nft").write_text(role.render("metadata.nft.j2"))
        (self.directory / "apps/links.nft").write_text(role.render("metadata_app.nft.j2"))
        self.load()

    def load(self) -> None:
        self.host.run("nft", "-f", str(self.directory / "rules.nft"))

    def lenient(self) -> None:
        self.host.run("nft", "-f", "-", given=LENIENT)

    def meets(self, addresses: Sequence[str], port: int = CLOUD) -> list[dict[str, str]]:
        """What the app meets at each address, by itself and in a container, which has no cloud on its link."""
        routed = [address for address in addresses if not address.startswith("fe80:")]
        return [self.host.asks(addresses, port, "eth0"), self.container.asks(routed, port, "eth0")]


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with ExitStack() as stack:
        yield Cloud(stack, tmp_path_factory.mktemp("metadata"))


def all_of(addresses: Sequence[str], answer: str) -> list[dict[str, str]]:
    return [{address: answer for address in addresses if not address.startswith(left)} for left in ("-", "fe80:")]


def test_every_address_is_shut_at_once_to_a_unit_and_to_a_container(cloud: Cloud) -> None:
    everywhere = [*cloud.addresses, *ELSEWHERE]
    assert {"169.254.169.254", "fd00:ec2::254", "fe80::a9fe:a9fe", "168.63.129.16"} < set(everywhere)
    cloud.host.run("nft", "flush", "ruleset")
    assert cloud.meets(everywhere) == all_of(everywhere, OPEN), "or this would prove nothing"
    cloud.shut()
    assert cloud.meets(cloud.addresses) == all_of(cloud.addresses, SHUT)
    assert cloud.meets(ELSEWHERE) == all_of(ELSEWHERE, OPEN)
    mapped = ["::ffff:169.254.169.254"]
    assert cloud.meets(mapped) == all_of(mapped, SHUT)


def test_its_name_server_answers_and_so_does_who_is_asked_from_there(cloud: Cloud) -> None:
    cloud.shut()
    assert cloud.meets(cloud.addresses, NAME_SERVER) == all_of(cloud.addresses, OPEN)
    azure = "168.63.129.16"
    assert cloud.outside.asks([GUEST], CLOUD, "eth0", own=azure) == {GUEST: OPEN}


def test_it_is_open_to_whoever_else_is_on_the_host(cloud: Cloud) -> None:
    cloud.shut(user=10007, bridge="br-another")
    assert cloud.meets(cloud.addresses) == all_of(cloud.addresses, OPEN)
    assert cloud.host.asks(LOOPBACK, EDGE, "eth0") == dict.fromkeys(LOOPBACK, OPEN)


def test_rules_of_others_open_nothing(cloud: Cloud) -> None:
    """A firewall that lets everything out, whichever was there first; after one that flushes all they are loaded."""
    for first, second in ((cloud.shut, cloud.lenient), (cloud.lenient, cloud.shut)):
        cloud.host.run("nft", "flush", "ruleset")
        first()
        second()
        assert cloud.meets(cloud.addresses) == all_of(cloud.addresses, SHUT)
    cloud.host.run("nft", "flush", "ruleset")
    cloud.load()
    assert cloud.meets(cloud.addresses) == all_of(cloud.addresses, SHUT)


def test_a_unit_meets_the_edge_by_loopback_only_where_that_is_wanted(cloud: Cloud) -> None:
    for wanted, answer in ((False, SHUT), (True, OPEN)):
        cloud.shut(fastapi_app_edge_by_loopback=wanted)
        assert cloud.host.asks(LOOPBACK, EDGE, "eth0") == dict.fromkeys(LOOPBACK, answer)
        assert cloud.host.asks([OWN], EDGE, "eth0") == {OWN: OPEN}
        assert cloud.host.asks([OWN], EDGE, "eth0", own="127.0.0.1") == {OWN: answer}
        assert cloud.meets(cloud.addresses) == all_of(cloud.addresses, SHUT)
