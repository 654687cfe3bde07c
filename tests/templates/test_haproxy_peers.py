"""Balancers that ask hosts by TLS: real HAProxies on loopback, and what carries certificates from one to the other."""

from __future__ import annotations

import grp
import http.client
import json
import os
import pwd
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge import peers as of_edges
from ansible_collections.slipway.fleet.plugins.module_utils.edge.newcomers import balanced, held_back
from ansible_collections.slipway.fleet.plugins.module_utils.edge.peers import (
    DAY,
    REPLACED_DAYS,
    Peers,
    fingerprint,
)
from ansible_collections.slipway.fleet.plugins.modules import peers as module
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from lab.ports import free_port
from tests.templates.rendering import Role
from tests.templates.test_haproxy import PATIENCE, Edge, Slot, app, configuration, haproxy, reload, statuses, wait_for

OWNER, GROUP = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
FORGED = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Request-ID": "forged"}
PEM = serialization.Encoding.PEM
BY_TLS: dict[str, list[str]] = {"links": ["web1"]}
PLAIN: dict[str, list[str]] = {"links": []}


class Reloading(Edge):
    """An edge with a master process, as on a host, so that a reload hands its listeners on."""

    def start(self) -> None:
        self.process = subprocess.Popen([haproxy(), "-W", "-f", str(self.directory / "haproxy.cfg")])
        wait_for(lambda: (self.directory / "admin.sock").exists() and self._listens())

    def worker(self) -> str:
        (line,) = (line for line in self.ask("show info").splitlines() if line.startswith("Pid:"))
        return line

    def reload(self, variables: Mapping[str, Any]) -> None:
        """Have the configuration that the role makes of other variables, as the module slipway.fleet.edge does it."""
        files = configuration(Role("haproxy", **{**self.variables_of_role, **variables}))
        dump = self.ask("show servers state").lstrip("\n")
        pieces = {
            name.split("/")[1].removesuffix(".cfg"): text for name, text in files.items() if name.startswith("apps/")
        }
        for name, text in files.items():
            (self.directory / name).write_text(text)
        (self.directory / "server-state").write_text(held_back(dump, balanced(pieces)))
        assert self.process
        reload(self.process, self.worker)


class Machine:
    """A host or a balancer with what it knows of the others."""

    def __init__(self, directory: Path, name: str, kind: type[Edge]) -> None:
        self.name, self.directory, self.kind = name, directory / name, kind
        self.directory.mkdir()
        self.peers = Peers(self.directory, name, OWNER, GROUP)
        self.running: Edge | None = None

    def act(self, state: str, check: bool = False, **options: Any) -> dict[str, Any]:
        """What the module does and says."""
        defaults = {name: one.get("default") for name, one in module.ARGUMENTS.items()}
        of_it = {"directory": str(self.directory), "name": self.name, "owner": OWNER, "group": GROUP}
        return module.act({**defaults, **of_it, "state": state, **options}, check)

    def said(self, **more: Any) -> dict[str, Any]:
        return {**self.act("look")["told"], **more}

    def serve(self, **variables: Any) -> None:
        """Run the edge, or reload it."""
        if isinstance(self.running, Reloading):
            self.running.reload(variables)
        else:
            self.running = self.kind(self.directory, **{"__haproxy_peers": str(self.directory / "peers"), **variables})
            self.running.start()

    def forget(self, stale: list[str]) -> None:
        """As the module slipway.fleet.edge does, once the configuration is in place."""
        for path in stale:
            Path(path).unlink()

    @property
    def edge(self) -> Edge:
        assert self.running
        return self.running


class Pair:
    """A host that serves and a balancer before it."""

    def __init__(self, directory: Path, kind: type[Edge] = Reloading) -> None:
        self.host, self.balancer = Machine(directory, "web1", kind), Machine(directory, "lb1", kind)
        self.slot = Slot(str(self.host.directory / "links-blue.sock"), "blue")
        self.served = [app(self.host.directory)]
        self.door = free_port()

    @property
    def asked(self) -> list[dict[str, Any]]:
        return [{"name": "links", "servers": {"web1": f"127.0.0.1:{self.host.edge.port}"}}]

    def of_host(self, wants: Mapping[str, list[str]] = BY_TLS, **options: Any) -> dict[str, Any]:
        """A run on the host."""
        others = {"lb1": self.balancer.said(wants=wants)}
        result = self.host.act("known", **{"apps": self.served, "others": others, **options})
        self.host.serve(haproxy_apps=self.served, haproxy_balancer_port=self.door, haproxy_peers_result=result)
        self.host.forget(result["stale"])
        return result

    def of_balancer(self, setting: str = "true", **options: Any) -> dict[str, Any]:
        """A run on the balancer."""
        others = {"web1": self.host.said()}
        wanted = {"apps": self.asked, "setting": setting, "port": self.door}
        result = self.balancer.act("known", **{**wanted, "others": others, **options})
        self.balancer.serve(haproxy_apps=self.asked, haproxy_balancer_port=self.door, haproxy_peers_result=result)
        self.balancer.forget(result["stale"])
        return result

    def look(self) -> dict[str, Any]:
        """What the status playbook sees."""
        others = {"web1": None}
        return self.balancer.act("look", apps=self.asked, setting="true", port=self.door, others=others)

    def make(self) -> None:
        for machine in (self.host, self.balancer):
            assert machine.act("own")["changed"]
            assert not machine.act("own")["changed"]

    def begin(self) -> Edge:
        self.make()
        self.of_host()
        assert self.of_balancer()["problems"] == []
        wait_for(lambda: statuses(self.balancer.edge) == {"web1": "UP"})
        return self.balancer.edge

    def stop(self) -> None:
        for machine in (self.balancer, self.host):
            if machine.running:
                machine.running.stop()
        self.slot.stop()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    found = Pair(tmp_path)
    yield found
    found.stop()


def heard(port: int, tls: ssl.SSLContext | None = None) -> dict[str, str]:
    """The headers that reach the app of a request with forged ones."""
    kind = http.client.HTTPSConnection if tls else http.client.HTTPConnection
    more: dict[str, Any] = {"context": tls} if tls else {}
    connection = kind("127.0.0.1", port, timeout=PATIENCE, source_address=("127.0.0.5", 0), **more)
    try:
        connection.request("GET", "/x", headers=FORGED)
        said = json.loads(connection.getresponse().read())["headers"]
    finally:
        connection.close()
    return {name.lower(): value for name, value in said.items()}


def who(headers: Mapping[str, str]) -> tuple[str, str]:
    return headers["x-forwarded-for"], headers["x-forwarded-proto"]


def client(certificate: Path | None = None) -> ssl.SSLContext:
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found.check_hostname, found.verify_mode = False, ssl.CERT_NONE
    if certificate:
        found.load_cert_chain(certificate)
    return found


def way(balancer: Edge) -> tuple[str, str]:
    """The port at which web1 is asked, and whether by TLS, as the running HAProxy has it."""
    _, names, *rows = balancer.ask("show servers state").strip().splitlines()
    row = dict(zip(names.removeprefix("# ").split(), rows[0].split(), strict=True))
    return row["srv_port"], row["srv_use_ssl"]


def counted(balancer: Edge, name: str) -> int:
    """A figure of the balancer about web1."""
    names, *rows = balancer.ask("show stat").strip().removeprefix("# ").splitlines()
    (row,) = (row.split(",") for row in rows if row.startswith("app_links,web1,"))
    return int(row[names.split(",").index(name)])


def test_clients_on_new_connections_share_those_to_a_host_and_handshakes_are_short(pair: Pair) -> None:
    balancer = pair.begin()
    # Each is the first one of its connection, which HAProxy sends over a new one to the host otherwise.
    wait_for(lambda: balancer.get("/x")[0].status == 200 and counted(balancer, "reuse") > 0)
    # Checks have connections of their own, and sessions that are resumed.
    wait_for(lambda: counted(balancer, "ssl_reused_sess") > 0)
    # A session is good for no longer than the host knows the balancer: nobody has told this one of its new certificate.
    pair.balancer.peers.own.unlink()
    pair.balancer.act("own")
    pair.of_host()
    wait_for(lambda: statuses(balancer) == {"web1": "DOWN"})
    wait_for(lambda: balancer.get("/x")[0].status == 503)


def test_a_balancer_is_believed_by_its_certificate_and_nobody_else_is(pair: Pair, tmp_path: Path) -> None:
    balancer, host = pair.begin(), pair.host.edge
    found = heard(balancer.port)
    assert who(found) == ("127.0.0.5", "http")
    line = next(line for line in iter(host.logged, None) if line["path"] == "/x")
    assert (line["tls"], line["request_id"]) == ("TLSv1.3", found["x-request-id"])
    assert who(heard(host.port)) == ("127.0.0.5", "http"), "a stranger, where everybody may ask"
    by_balancer = heard(pair.door, client(pair.balancer.peers.own))
    assert (*who(by_balancer), by_balancer["x-request-id"]) == tuple(FORGED.values())
    stranger = tmp_path / "stranger.pem"
    stranger.write_text(of_edges.make("lb1"))
    for certificate in (None, stranger):
        with pytest.raises(OSError, match="certificate|alert|reset"):
            heard(pair.door, client(certificate))
    with pytest.raises((OSError, http.client.BadStatusLine)):
        heard(pair.door)


def test_who_shows_another_certificate_gets_nothing_and_is_named(pair: Pair) -> None:
    balancer = pair.begin()
    assert [one["by"] for one in pair.look()["servers"]] == ["TLS"]
    assert pair.look()["problems"] == []
    # A machine of the same name that somebody made anew, or who has taken its address.
    pair.host.peers.own.unlink()
    pair.host.act("own")
    assert pair.of_host()["changed"], "HAProxy is to read it"
    wait_for(lambda: statuses(balancer) == {"web1": "DOWN"})
    wait_for(lambda: balancer.get("/x")[0].status == 503)
    (said,) = pair.look()["problems"]
    shown = fingerprint(pair.host.peers.certificates()[0])[:16]
    assert said.startswith(
        f"lb1 cannot ask web1 by TLS at 127.0.0.1:{pair.door}: it shows a certificate (SHA-256 {shown})"
    )
    assert "provision the host and the balancer in one run" in said
    assert said.endswith("Nothing is sent to web1 from there")
    # Not back to plain HTTP, whoever is in the way.
    assert pair.of_balancer(others={"web1": None})["tls"] == BY_TLS
    assert pair.of_balancer()["problems"] == []
    wait_for(lambda: statuses(balancer) == {"web1": "UP"})
    # One that has ended, which is replaced at once.
    pair.host.peers.own.write_text(ended())
    pair.of_host()
    (said,) = pair.of_balancer()["problems"]
    assert "has ended on 2020-01-02; provision the host and the balancer in one run" in said
    assert pair.host.act("own")["changed"]
    pair.of_host()
    # And the other way around.
    pair.balancer.peers.own.unlink()
    pair.balancer.act("own")
    (said,) = pair.of_balancer()["problems"]
    assert "it does not take the certificate of the balancer" in said
    pair.of_host()
    assert pair.of_balancer()["problems"] == []


def test_a_fleet_goes_over_to_tls_and_its_certificates_are_replaced_without_a_lost_request(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair.make()
    assert not pair.of_host(PLAIN)["door"]
    assert pair.of_balancer("false")["tls"] == PLAIN
    balancer = pair.balancer.edge
    wait_for(lambda: statuses(balancer) == {"web1": "UP"})
    # The balancer comes first, or a firewall is in the way: it goes on as before, and says so.
    (said,) = pair.of_balancer()["problems"]
    assert "no connection" in said
    assert f"TCP port {pair.door}" in said
    assert said.endswith("It is asked by plain HTTP meanwhile")
    with load(balancer) as answers:
        assert pair.of_host()["door"]
        assert pair.of_balancer()["tls"] == BY_TLS
        assert way(balancer) == (str(pair.door), "1")
        changed = [machine.act("known", check=True, apps=apps, others=others, setting="true", port=pair.door)["changed"]
                   for machine, apps, others in ((pair.host, pair.served, {"lb1": pair.balancer.said(wants=BY_TLS)}),
                                                 (pair.balancer, pair.asked, {"web1": pair.host.said()}))]  # fmt: skip
        assert changed == [False, False]
        for machine in (pair.host, pair.balancer):
            begun = len(answers)
            before = machine.peers.certificates()
            at(monkeypatch, REPLACED_DAYS + 1)
            assert machine.act("own")["changed"]
            following = machine.peers.certificates()[1]
            at(monkeypatch, 2)
            runs: list[Callable[[], Any]] = [pair.of_host, pair.of_balancer]
            run, of_other = runs if machine is pair.host else runs[::-1]
            run()
            assert machine.peers.certificates()[0] == before[0], "the other side does not know the next one"
            of_other()
            run()
            assert machine.peers.certificates() == [following, before[0]]
            # What it showed before is known still, for whoever is provisioned before the other one.
            of_other()
            assert len(answers) > begun + 20
        assert pair.look()["problems"] == []
        # And back.
        assert pair.of_balancer("false")["tls"] == PLAIN
        assert way(balancer) == (str(pair.host.edge.port), "0")
        assert not pair.of_host(PLAIN)["door"]
        count = len(answers)
        wait_for(lambda: len(answers) > count + 10)
    assert set(answers) == {200}


def at(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    """The module's clock, so many days from now; those of the certificates go on as they do."""
    clock = SimpleNamespace(time=lambda: time.time() + days * DAY, strftime=time.strftime, gmtime=time.gmtime)
    monkeypatch.setattr(module, "time", clock)


@contextmanager
def load(edge: Edge) -> Iterator[list[int]]:
    """Requests one after another, of which each second one is a POST, over four connections that are kept."""
    answers: list[int] = []
    ended = threading.Event()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=PATIENCE)
        while not ended.is_set():
            for method in ("GET", "POST"):  # the slots of these tests read no body
                connection.request(method, "/x")
                answer = connection.getresponse()
                answer.read()
                answers.append(answer.status)
        connection.close()

    with ThreadPoolExecutor(4) as pool:
        clients = [pool.submit(ask) for _ in range(4)]
        try:
            yield answers
        finally:
            ended.set()
    for one in clients:
        one.result()


def ended() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "web1")])
    begun = datetime(2020, 1, 1, tzinfo=UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), 1, begun, begun + timedelta(1)).sign(key, SHA256())
    kind = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return made.public_bytes(PEM).decode() + key.private_bytes(PEM, *kind).decode()
