"""What an attacker with code in the app gets: its own slot and nothing of the host, whichever runtime it has."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from attack import ESCAPES, NEIGHBOUR_SOCKET, READABLE, WRITABLE, Attacker, asked_inside, metadata_service, neighbour
from beside import Beside
from contract import Promise, get, live_slot
from deployment import Deployment

ADMIN = "/run/haproxy/admin.sock"
OF_THE_HOST = [
    ADMIN,
    "/run/haproxy/master.sock",
    "/run/docker.sock",
    "/run/dbus/system_bus_socket",
    "/run/systemd/private",
    NEIGHBOUR_SOCKET,
]
JUNK = "import os\nfor number in range(3000): open(f'{own}.{{number}}', 'w').close()\nos.makedirs('{own}/in/the/way')\n"


@pytest.fixture
def attacker(host: Any, promise: Promise, deployment: Deployment) -> Attacker:
    deployment.wait_until_serving()
    return Attacker(host, promise)


def admin(host: Any, command: str) -> str:
    script = (
        f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({ADMIN!r}); s.sendall(b'{command}\\n');"
        "print(s.makefile().read())"
    )
    return str(host.check_output(f'python3 -c "{script}"'))


def states(host: Any, promise: Promise) -> dict[str, str]:
    """Administrative state of every server of the app."""
    rows = [line.split() for line in admin(host, "show servers state").splitlines()]
    return {row[3]: row[6] for row in rows if len(row) > 6 and row[1] == f"app_{promise.app}"}


def test_a_slot_sees_no_directory_but_its_own(attacker: Attacker) -> None:
    app = attacker.promise.sockets
    assert set(attacker.sees()) <= {app, f"{app}/{attacker.slot}", attacker.own}
    assert attacker.own in attacker.sees()


def test_no_socket_of_the_host_opens_for_the_app(attacker: Attacker, host: Any) -> None:
    with neighbour(host):
        reached = attacker.reaches([*OF_THE_HOST, attacker.own])
    assert reached.pop(attacker.own) == "open", "or this would prove nothing"
    reached.pop("/run/dbus/system_bus_socket")  # for every user of a host
    assert set(reached.values()) <= {"FileNotFoundError", "PermissionError"}, reached


@pytest.fixture
def stranger(host: Any) -> Iterator[int]:
    """A process of another app, by its number on the host."""
    unit = "slipway-test-stranger"
    host.check_output(f"systemd-run --quiet --collect --unit={unit} --uid=nobody /usr/bin/sleep infinity")
    yield int(host.check_output(f"systemctl show --value --property=MainPID {unit}"))
    host.check_output(f"systemctl stop {unit}")


def test_no_way_leads_out_of_the_sandbox(beside: Beside, host: Any, stranger: int) -> None:
    edge = int(host.check_output("systemctl show --value --property=MainPID haproxy.service"))
    beside.staged(fastapi_app_secrets={})
    secrets = host.check_output("ls -d /opt/slipway/*/releases/*/secrets | head -1")
    places = (
        *READABLE,
        f"{secrets}/SECRET_KEY",
        "/opt/slipway/postgres/secrets",
        "/root",
        "/etc/haproxy/tls",
    )
    script = ESCAPES.format(readable=places, writable=WRITABLE, others=[stranger, edge])
    said = beside.says(script)
    tried = said["tried"]
    assert said["user"] == beside.promise.uid
    assert tried.pop("open /proc/self/environ") == "done", "or this would prove nothing"
    assert len(tried) >= len(places) + len(WRITABLE) + 12
    refused = {"EPERM", "EACCES", "EROFS", "ENOENT", "ESRCH", "EINVAL"}
    assert not {name: said for name, said in tried.items() if said not in refused}
    assert said["strangers"] == [], "nobody else's process is seen"
    for pid in (stranger, edge):
        assert host.file(f"/proc/{pid}").exists, "it lives"


def test_from_inside_the_edge_keeps_what_is_private(beside: Beside, host: Any) -> None:
    """A container comes from its network, and is anybody. A unit would come from the host, and does not get there."""
    compose = beside.promise.runtime == "compose"
    beside.staged(fastapi_app_secrets={})
    gateway = "127.0.0.1"
    if compose:
        gateway = host.check_output("docker network inspect slipway --format '{{(index .IPAM.Config 0).Gateway}}'")
    found = beside.says(asked_inside(gateway, (gateway, 2375), (gateway, 2376), (gateway, 5432), (gateway, 6379)))
    assert found.pop("open to all") == (200 if compose else "ConnectionRefusedError")
    ports = {found.pop(name) for name in list(found) if ":" in name}
    assert ports == {"ConnectionRefusedError"}, "neither Docker nor a database listens on the host"
    assert not {name: said for name, said in found.items() if said not in (403, 404, "ConnectionRefusedError")}, found
    if compose:
        assert found["nobody"] == found["X-Forwarded-For"] == 403, found
    assert get(host, "/metrics")[0] == 200, "it is there, for the host itself"


def test_haproxy_cannot_open_its_own_door(host: Any) -> None:
    assert host.file(ADMIN).mode & 0o222 == 0
    assert "Uptime" in admin(host, "show info"), "root can"
    tried = host.run(f"runuser -u haproxy -- curl --silent --show-error --unix-socket {ADMIN} http://x/")
    assert tried.rc != 0
    assert not host.file("/run/haproxy/master.sock").exists


def test_haproxy_follows_no_link_among_the_sockets(host: Any) -> None:
    pid = host.check_output("systemctl show --value --property=MainPID haproxy.service")
    mounts = host.file(f"/proc/{pid}/mountinfo").content_string.splitlines()
    (options,) = [line.split()[5] for line in mounts if line.split()[4] == "/run/slipway"][-1:]
    assert "nosymfollow" in options.split(",")


@pytest.mark.parametrize("target", OF_THE_HOST)
def test_a_link_in_place_of_the_socket_leads_nowhere(
    target: str, attacker: Attacker, host: Any, promise: Promise, deployment: Deployment
) -> None:
    before = states(host, promise)
    idle = {"blue": "green", "green": "blue"}[attacker.slot]
    assert before[idle] != "0", "the idle slot is drained, or this would prove nothing"
    commands = f"\nset server app_{promise.app}/{idle} state ready\nset maxconn frontend edge 1\nshow info\nquit\n"
    with neighbour(host):
        with attacker.linked_to(target):
            answer = attacker.asks_the_edge(commands)
        assert not host.file("/run/neighbour-was-reached").exists
    assert re.match(r"HTTP/1\.1 50[23] ", answer), answer[:200]
    assert "HAProxy" not in answer
    deployment.wait_until_serving()
    assert states(host, promise) == before


@pytest.mark.one_host
def test_what_a_slot_leaves_behind_does_not_hinder_the_next_start(
    attacker: Attacker, host: Any, promise: Promise, deployment: Deployment
) -> None:
    """Twice anew: the second start is in the slot with the junk."""
    attacker.run(JUNK.format(own=f"{attacker.own}.d"))
    for _ in range(2):
        outcome = deployment.play("restart")
        assert outcome.code == 0, outcome.output
    assert live_slot(host, promise) == attacker.slot
    assert get(host, "/readyz")[0] == 200
    assert host.check_output(f"ls {promise.sockets}/{attacker.slot}") == "app.sock"


@pytest.fixture
def metadata(host: Any) -> Iterator[None]:
    with metadata_service(host):
        yield


@pytest.mark.usefixtures("metadata")
def test_the_metadata_service_of_a_cloud_is_shut(attacker: Attacker, host: Any) -> None:
    assert attacker.asks_metadata() == "ConnectionRefusedError"
    host.check_output("nft delete table inet slipway_metadata")
    assert attacker.asks_metadata() == "the rights of the host", "or this would prove nothing"
    # A firewall that flushes all rules, and then a Docker that makes its own anew.
    host.check_output("systemctl restart nftables.service")
    assert attacker.asks_metadata() == "ConnectionRefusedError"
    if attacker.promise.runtime == "compose":
        host.check_output("systemctl restart docker.service")
        assert attacker.asks_metadata() == "ConnectionRefusedError"


@pytest.mark.one_host
@pytest.mark.usefixtures("metadata")
def test_the_metadata_service_opens_where_the_app_needs_it(attacker: Attacker, deployment: Deployment) -> None:
    for wanted, answer in ((True, "the rights of the host"), (False, "ConnectionRefusedError")):
        outcome = deployment.part("fastapi_app", "metadata", fastapi_app_instance_metadata=wanted)
        assert outcome.code == 0, outcome.output
        assert attacker.asks_metadata() == answer
