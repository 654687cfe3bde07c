"""Certificates by name at a real HAProxy with the role's configuration: challenges, the first one, and the next."""

from __future__ import annotations

import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge import lego
from ansible_collections.slipway.fleet.plugins.module_utils.edge.acme import LIMIT, Renewal, UnderWay, alone
from ansible_collections.slipway.fleet.plugins.module_utils.edge.certificates import Record, Settings, file_of
from ansible_collections.slipway.fleet.plugins.module_utils.edge.lego import ORDER_BY_DNS, OrderFailed, order
from ansible_collections.slipway.fleet.plugins.module_utils.host import command
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.modules import certificates
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from lab.ports import free_port
from tests.templates.rendering import Role
from tests.templates.test_haproxy import PATIENCE, Edge, Slot, answering, app, wait_for

NAME, OTHER = "shop.example.org", "www.example.org"
BOTH = (NAME, OTHER)


def made(*names: str, days: int = 90, begins: int = 0) -> tuple[str, str]:
    """A chain and a key, as an authority and its client make them; it begins so many days from now."""
    key, since = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC) + timedelta(days=begins)
    myself = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    certificate = (
        x509.CertificateBuilder(myself, myself, key.public_key(), x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(since + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return certificate.public_bytes(Encoding.PEM).decode(), private.decode()


class Authority:
    """Gives what `openssl` makes, or says no."""

    def __init__(self) -> None:
        self.says_no = ""
        self.asked: list[tuple[str, str]] = []
        self.revoked: list[tuple[str, str, str]] = []
        self.days = 90
        self.begins = 0

    def __call__(self, _: Settings, authority: str, name: str, __: float) -> tuple[str, str]:
        self.asked.append((authority, name))
        if self.says_no and self.says_no in authority:
            raise OrderFailed(f"{authority} gave none: no")
        return made(name, days=self.days, begins=self.begins)

    def revoke(self, _: Settings, authority: str, name: str, chain: str, __: float) -> None:
        if self.says_no:
            raise OrderFailed(f"{authority} did not revoke it: no")
        self.revoked.append((authority, name, chain))


class AcmeEdge(Edge):
    """An edge that orders certificates, with the responder of its client on a port of its own."""

    def __init__(
        self, directory: Path, *peers: str, vault: str = "", haproxy_tls_hsts: Any = None, **of_the_app: Any
    ) -> None:
        self.challenges = free_port()
        super().__init__(
            directory,
            haproxy_apps=[app(directory, **{"host_names": [NAME, OTHER], **of_the_app})],
            haproxy_acme_email="ops@example.org",
            haproxy_acme_peers=list(peers),
            __haproxy_acme_port=self.challenges,
            __haproxy_names=str(directory / "names"),
            __haproxy_own_certificate=str(directory / "own.pem"),
            __haproxy_own_list=str(directory / "own.list"),
            __haproxy_https_map=str(directory / "https.map"),
            __haproxy_hsts_map=str(directory / "hsts.map"),
            **({"haproxy_tls_hsts": haproxy_tls_hsts} if haproxy_tls_hsts is not None else {}),
        )
        (directory / "names").mkdir()
        (directory / "hsts.map").touch()
        (directory / "https.map").touch()
        (directory / "site.pem").write_text(vault)
        (directory / "acme").mkdir()
        role = Role("haproxy", **self.variables_of_role)
        (listed,) = [item for item in role.value("__haproxy_acme_files") if item["dest"].endswith("/own.list")]
        (directory / "own.list").write_text(listed["content"])
        script = role.task("order.yml", "the edge's own certificate", "ansible.builtin.shell")
        script = script.replace("chgrp haproxy", f"chgrp {os.getgid()}")
        subprocess.run(["sh", "-c", script], check=True, capture_output=True)
        self.slot = Slot(str(directory / "links-blue.sock"), "blue")
        self.authority = Authority()
        self.moment = 0.0

    def renewal(
        self, fallback: str = "", astray: str = "", directory: str = "https://one.example/d", **more: Any
    ) -> Renewal:
        settings = Settings(
            email="ops@example.org", directory=directory, fallback_directory=fallback,
            listen=f"127.0.0.1:{self.challenges}", certificates=str(self.directory / "names"),
            https_map=str(self.directory / "https.map"), socket=str(self.directory / "admin.sock"),
            state=str(self.directory / "acme"), token="x", pieces=str(self.directory),
            metrics=str(self.directory / "metrics.prom"), hsts=-1, hsts_map=str(self.directory / "hsts.map"), **more,
        )  # fmt: skip
        found = Renewal(
            settings,
            self.authority,
            lambda name, *_: f"{name} leads to the moon" if name == astray else "",
            revoke=self.authority.revoke,
        )
        real = found._now
        found._now = lambda: real() + self.moment
        return found

    def certificate(self, name: str) -> str:
        """What is shown to whoever asks for the name."""
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", self.tls_port), PATIENCE) as raw,
            context.wrap_socket(raw, server_hostname=name) as tls,
        ):
            return ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True) or b"")

    def stored(self, name: str) -> str:
        return file_of(self.directory / "names", name).read_text()


@contextmanager
def started(directory: Path, name: str, **more: Any) -> Iterator[AcmeEdge]:
    """An edge that serves an app under a name."""
    found = AcmeEdge(directory, **more)
    found.start()
    wait_for(lambda: found.get("/", Host=name)[0].status == 200)
    try:
        yield found
    finally:
        found.stop()
        found.slot.stop()


@pytest.fixture
def edge(tmp_path: Path) -> Iterator[AcmeEdge]:
    with started(tmp_path, NAME) as found:
        yield found


def answer_on(port: int, name: str, status: int = 200) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", port), answering(name, status))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def test_before_the_first_certificate_http_serves_and_https_answers(edge: AcmeEdge) -> None:
    answer, body = edge.get("/", Host=NAME)
    assert answer.status == 200
    assert '"x-forwarded-proto": "http"' in body
    assert edge.certificate(NAME) in (edge.directory / "own.pem").read_text()
    assert edge.get("/.well-known/acme-challenge/slipway", Host=NAME)[1].startswith("slipway-")


def test_certificates_come_without_a_reload_each_for_its_name(edge: AcmeEdge) -> None:
    assert edge.process
    pid = edge.process.pid
    outcome = edge.renewal().run(asked=BOTH)
    assert outcome.changed == [NAME, OTHER]
    assert not outcome.problems
    for name in (NAME, OTHER):
        assert edge.certificate(name) in edge.stored(name)
        assert file_of(edge.directory / "names", name).stat().st_mode & 0o777 == 0o640
    assert edge.certificate("else.example.org") in (edge.directory / "own.pem").read_text()
    assert edge.process.pid == pid
    answer, _ = edge.get("/x?y=1", Host=f"{NAME}:{edge.port}")
    assert (answer.status, answer.getheader("Location")) == (308, f"https://{NAME}:{edge.port}/x?y=1")
    assert f'{{name="{NAME}"}} 0\n' in (edge.directory / "metrics.prom").read_text()
    edge.restart()
    assert edge.certificate(NAME) in edge.stored(NAME)
    assert edge.get("/", Host=NAME)[0].status == 308, "the map is there after a restart"


def test_a_name_that_leads_elsewhere_gets_a_certificate_and_leads_to_https_once_it_has(tmp_path: Path) -> None:
    edge = AcmeEdge(tmp_path, redirect_names=["old.example.org"])
    edge.start()
    try:
        wait_for(lambda: edge.get("/", Host=NAME)[0].status == 200)
        led = [edge.get("/x?y=1", Host="old.example.org")[0].headers["Location"]]
        assert Role("haproxy", **edge.variables_of_role).value("__haproxy_every_name") == [*BOTH, "old.example.org"]
        edge.renewal(astray="old.example.org").run(asked=BOTH)
        led.append(edge.get("/x?y=1", Host="old.example.org")[0].headers["Location"])
        assert edge.renewal().run().changed == ["old.example.org"]
        assert edge.certificate("old.example.org") in edge.stored("old.example.org")
        led.append(edge.get("/x?y=1", Host="old.example.org")[0].headers["Location"])
        assert edge.get("/.well-known/acme-challenge/slipway", Host="old.example.org")[0].status == 200
        assert led == [f"http://{NAME}/x?y=1", f"https://{NAME}/x?y=1", "https://old.example.org/x?y=1"]
    finally:
        edge.stop()
        edge.slot.stop()


def test_challenges_are_answered_whoever_may_ask_for_the_app(tmp_path: Path) -> None:
    closed: dict[str, Any] = {
        "allowed_networks": ["192.0.2.0/24"],
        "basic_auth": {"a": "$6$a$" + "a" * 86},
        "robots": False,
    }
    edge = AcmeEdge(tmp_path, **closed, rate_limit={"requests": 1, "seconds": 60})
    responder = answer_on(edge.challenges, "the client")
    edge.start()
    try:
        assert edge.get("/x", Host=NAME)[0].status == 403
        answers = [edge.get("/.well-known/acme-challenge/x", Host=NAME)[1] for _ in range(3)]
        assert all('"slot": "the client"' in answer for answer in answers), answers
    finally:
        edge.stop()
        edge.slot.stop()
        responder.shutdown()
        responder.server_close()


def test_the_certificate_of_the_vault_is_shown_until_a_name_has_its_own(tmp_path: Path) -> None:
    vault = "".join(made(NAME, OTHER, "*.wild.example"))
    edge = AcmeEdge(tmp_path, vault=vault)
    (edge.directory / "site.pem").unlink()
    edge.start()
    try:
        assert edge.certificate(NAME) in vault
        edge.renewal(astray=OTHER).run(asked=BOTH)
        for _ in range(2):
            assert edge.certificate(OTHER) in vault
            assert edge.certificate("a.wild.example") in vault
            edge.restart()
            assert edge.certificate(NAME) in edge.stored(NAME), "of the name, though the vault's has it, too"
    finally:
        edge.stop()
        edge.slot.stop()


@pytest.mark.parametrize("vault", ["", "a certificate"])
def test_an_edge_that_orders_no_more_keeps_what_it_has_and_stops_its_timer(vault: str) -> None:
    ordering = Role("haproxy", haproxy_acme_email="ops@example.org").value("__haproxy_stale")
    hook = "/etc/haproxy/acme-dns-hook"
    pages = [f"/etc/haproxy/pages/{status}.http" for status in (502, 503, 504)]
    assert ordering == [
        "/etc/haproxy/certificates/site.pem",
        "/etc/haproxy/certificates/check.cfg",
        hook,
        "/etc/haproxy/client-ca.pem",
        *pages,
    ]
    role = Role("haproxy", haproxy_tls_certificate=vault)
    stale, names, state = (role.value(name) for name in ("__haproxy_stale", "__haproxy_names", "__haproxy_acme_state"))
    assert not [path for path in stale if f"{names}/".startswith(f"{path}/") or f"{state}/".startswith(f"{path}/")]
    assert ("/etc/haproxy/certificates/site.pem" in stale) is (not vault)
    stopped = role.task("configure.yml", "Stop the renewal", "ansible.builtin.systemd_service")
    assert stopped == {"name": "slipway-certificates.timer", "state": "stopped", "enabled": False}
    assert f"/etc/systemd/system/{stopped['name']}" in stale, "by which it is known that there is one to stop"


def hsts(edge: AcmeEdge, name: str) -> str | None:
    """For how long a browser is told to stay with HTTPS."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", edge.tls_port, timeout=PATIENCE, context=context)
    try:
        connection.request("GET", "/", headers={"Host": name})
        return connection.getresponse().getheader("Strict-Transport-Security")
    finally:
        connection.close()


def test_hsts_by_choice_is_for_names_with_a_certificate_at_once(tmp_path: Path) -> None:
    with started(tmp_path, NAME, haproxy_tls_hsts="600") as edge:
        edge.renewal(astray=OTHER).run(asked=BOTH)
        assert hsts(edge, NAME) == "max-age=600"
        assert hsts(edge, OTHER) is None


@pytest.mark.parametrize(
    ("choice", "by_acme", "said"),
    [
        (True, True, "31536000 if"),
        (False, True, ""),
        (0, True, ""),
        ("auto", True, "%[var"),
        ("auto", False, "31536000 if"),
    ],
)
def test_hsts_by_choice(choice: object, by_acme: bool, said: str) -> None:
    kind = {"haproxy_acme_email": "ops@example.org"} if by_acme else {"haproxy_tls_certificate": "x"}
    text = Role("haproxy", haproxy_apps=[], haproxy_tls_hsts=choice, **kind).render("edge.cfg.j2")
    found = re.findall(r"Strict-Transport-Security max-age=(\S+(?: if)?)", text)
    assert [one.startswith(said) for one in found] == [True] * bool(said)


def test_hsts_comes_by_itself_after_a_good_week_and_for_a_year_after_a_good_month(edge: AcmeEdge) -> None:
    def seen(days: float, **more: Any) -> tuple[str | None, str | None]:
        edge.moment = days * 86400.0
        outcome = edge.renewal(**more).run()
        told = hsts(edge, NAME), hsts(edge, OTHER)
        assert [entry["hsts"] for entry in outcome.names] == [int((one or "=0").partition("=")[2]) for one in told]
        return told

    week, year = "max-age=604800", "max-age=31536000"
    (entry, _) = edge.renewal().run(asked=BOTH).names
    assert (hsts(edge, NAME), entry["hsts"]) == (None, 0)
    assert datetime.fromisoformat(entry["hsts_from"]) - datetime.fromisoformat(entry["renewed"]) == timedelta(days=7)
    assert seen(6.9) == (None, None)
    process = edge.ask("show info").split("Pid: ")[1].split()[0]
    assert seen(7.1) == (week, week)
    assert edge.ask("show info").split("Pid: ")[1].split()[0] == process, "without a reload"
    edge.restart()
    wait_for(lambda: edge.get("/", Host=NAME)[0].status == 308)
    assert (hsts(edge, NAME), hsts(edge, OTHER)) == (week, week), "it is in its file, too"
    assert seen(29) == (week, week)
    assert seen(31) == (year, year)
    # A renewal that fails is no bad sign until it is overdue: after that nobody is told to rely on it.
    edge.authority.says_no = "one.example"
    assert seen(60.5) == (year, year)
    assert seen(62) == (None, None)
    # It counts anew from the next certificate on.
    edge.authority.says_no, edge.authority.begins, edge.authority.days = "", 64, 90
    assert seen(64.5) == (None, None)
    assert seen(70.5) == (None, None)
    assert seen(71.5) == (week, week)


def test_hsts_is_not_for_what_no_browser_trusts_and_not_where_nobody_looked_for_long(edge: AcmeEdge) -> None:
    for directory in ("staging", "self-signed"):
        edge.moment = 0.0
        renewal = edge.renewal(directory=directory)
        assert renewal.run(forced=BOTH).changed == [NAME, OTHER]
        edge.moment = 31 * 86400.0
        assert {entry["hsts"] for entry in renewal.run().names} == {0}
    edge.moment = 0.0
    edge.renewal().run(forced=BOTH)
    # The timer was stopped for two months, and all is renewed in its first run: that was no good week.
    edge.moment, edge.authority.begins = 70 * 86400.0, 70
    outcome = edge.renewal().run()
    assert (outcome.changed, [entry["hsts"] for entry in outcome.names]) == ([NAME, OTHER], [0, 0])
    assert hsts(edge, NAME) is None


def test_a_challenge_goes_to_whoever_orders_and_is_never_sent_to_https(edge: AcmeEdge) -> None:
    path = "/.well-known/acme-challenge/token"
    edge.renewal().run(asked=BOTH)
    assert edge.get(path, Host=NAME)[0].status == 503, "nobody orders"
    server = answer_on(edge.challenges, "client")
    try:
        answer, body = edge.get(path, Host=NAME)
        assert (answer.status, '"slot": "client"' in body) == (200, True)
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("first", [404, 503], ids=["orders something else", "orders nothing"])
@pytest.mark.parametrize("orders_here_too", [False, True])
def test_a_balancer_hands_a_challenge_to_the_one_that_ordered(
    tmp_path: Path, orders_here_too: bool, first: int
) -> None:
    ports = [free_port(), free_port()]
    peers = [answer_on(ports[0], "first", first), answer_on(ports[1], "second")]
    edge = AcmeEdge(tmp_path, *(f"127.0.0.1:{port}" for port in ports))
    here = answer_on(edge.challenges, "here", 404) if orders_here_too else None
    edge.start()
    try:
        for _ in range(12):
            answer, body = edge.get("/.well-known/acme-challenge/token", Host=NAME)
            assert (answer.status, '"slot": "second"' in body) == (200, True)
        asked = edge.get("/.well-known/acme-challenge/token", Host=NAME, X_Slipway_Challenge="1")[0]
        assert asked.status == (404 if orders_here_too else 503), "one that was handed over goes no further"
        assert tried_again(edge) == 0, "and is tried once: an authority does not wait long for all of them"
    finally:
        edge.stop()
        edge.slot.stop()
        for server in (*peers, *([here] if here else [])):
            server.shutdown()
            server.server_close()


def tried_again(edge: Edge) -> int:
    """How often a client of this host was tried again for a challenge that another balancer handed over."""
    names, *rows = (line.split(",") for line in edge.ask("show stat").splitlines() if line)
    (backend,) = (row for row in rows if row[:2] == ["acme_challenge_here", "BACKEND"])
    return int(backend[names.index("wretr")])


def test_it_is_renewed_when_it_is_old_and_not_before(edge: AcmeEdge) -> None:
    edge.renewal().run(asked=BOTH)
    first = edge.certificate(NAME)
    assert edge.renewal().run().changed == []
    edge.moment = 61 * 86400.0
    edge.authority.days = 200
    assert edge.renewal().run().changed == [NAME, OTHER]
    assert edge.certificate(NAME) != first
    assert edge.certificate(NAME) in edge.stored(NAME)


def test_a_renewal_that_fails_takes_nothing_away_and_waits(edge: AcmeEdge) -> None:
    edge.renewal().run(asked=BOTH)
    before, asked = edge.certificate(NAME), len(edge.authority.asked)
    edge.moment, edge.authority.says_no = 61 * 86400.0, "one.example"
    outcome = edge.renewal().run()
    assert (outcome.changed, outcome.missing) == ([], [])
    assert outcome.problems[0].endswith("was not renewed: https://one.example/d gave none: no")
    assert edge.certificate(NAME) == before
    edge.renewal().run()
    assert len(edge.authority.asked) == asked + 2, "the second look waits"
    edge.moment += 3700
    assert edge.renewal(fallback="https://two.example/d").run().changed == [NAME, OTHER], "another authority gives it"
    assert edge.authority.asked[-1] == ("https://two.example/d", OTHER)


def test_a_name_that_leads_elsewhere_is_not_ordered_and_told(edge: AcmeEdge) -> None:
    outcome = edge.renewal(astray=OTHER).run(asked=BOTH)
    assert edge.authority.asked == [("https://one.example/d", NAME)]
    assert [entry["name"] for entry in outcome.missing] == [OTHER]
    assert edge.get("/", Host=OTHER)[0].status == 200, "by HTTP, as before"


def test_a_name_of_another_inventory_stops_nobody_and_is_told(edge: AcmeEdge, monkeypatch: pytest.MonkeyPatch) -> None:
    renewal = edge.renewal(astray=NAME)
    (edge.directory / "acme.json").write_text(json.dumps(asdict(renewal.settings)))
    monkeypatch.setattr(certificates, "Renewal", lambda _: renewal)
    options = {"settings": str(edge.directory / "acme.json"), "wait": 60, "missing": "fail", "record": None}
    found = certificates.act({**options, "names": [OTHER.upper()]}, check_mode=False)
    assert (found["ordered"], found["warnings"]) == (
        [OTHER],
        [f"{NAME} has no certificate yet: {NAME} leads to the moon"],
    )
    with pytest.raises(SlipwayError) as refused:
        certificates.act({**options, "names": [NAME]}, check_mode=False)
    assert str(refused.value).startswith(f"{NAME} has no certificate yet: {NAME} leads to the moon. HTTP is served ")
    assert certificates.act({**options, "names": [NAME], "missing": "tell"}, check_mode=False)["warnings"]


def test_only_who_is_waited_for_comes_before_the_back_off_and_first(edge: AcmeEdge) -> None:
    edge.authority.says_no = "one.example"
    edge.renewal().run()
    edge.renewal().run(asked=[OTHER])
    assert [name for _, name in edge.authority.asked] == [NAME, OTHER, OTHER]
    edge.moment, edge.authority.says_no = 3700.0, ""
    assert edge.renewal().run(asked=[OTHER]).changed == [OTHER, NAME]


def test_what_the_role_waits_for_are_the_names_of_its_own_inventory() -> None:
    apps = [{"name": "shop", "host_names": [NAME, OTHER]}, {"name": "links"}]
    role = Role("haproxy", haproxy_acme_email="ops@example.org", haproxy_apps=apps)
    asked = role.task("certificates.yml", "Order the certificates", "slipway.fleet.certificates")
    assert asked["names"] == [NAME, OTHER]


def test_what_is_no_certificate_of_the_name_is_not_taken(edge: AcmeEdge, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: dict[str, Any] = {"chain": made(OTHER), "key": made(NAME)}
    for given in (wrong["chain"], (wrong["key"][0], wrong["chain"][1])):
        monkeypatch.setattr(Authority, "__call__", lambda *_, given=given: given)
        outcome = edge.renewal(astray=OTHER).run(asked=BOTH)
        assert "what came is no valid certificate of the name with its key" in outcome.problems[0]
    assert not list((edge.directory / "names").iterdir())


def test_one_that_is_not_valid_yet_is_not_taken_in_place_of_one_that_is(edge: AcmeEdge) -> None:
    """Of a host whose clock is behind, or an authority whose clock is ahead."""
    edge.authority.begins = -62
    edge.renewal().run(asked=BOTH)
    before, asked = edge.certificate(NAME), len(edge.authority.asked)
    edge.authority.begins = 1
    outcome = edge.renewal(astray=OTHER).run()
    assert (outcome.changed, edge.certificate(NAME)) == ([], before)
    problem, _ = outcome.problems
    assert "was not renewed: what came is valid from 20" in problem
    assert "; compare `date -u` with that of another machine" in problem
    for hours, orders in ((2, 1), (23, 1), (25, 2)):
        edge.moment = hours * 3600.0
        edge.authority.begins = 3
        edge.renewal(astray=OTHER).run()
        assert len(edge.authority.asked) == asked + orders, "an authority gives a few a week"
    edge.authority.begins = 1
    edge.moment += 86400.0
    assert edge.renewal(astray=OTHER).run().changed == [NAME]


def test_one_that_is_not_valid_yet_is_taken_where_there_is_none(edge: AcmeEdge) -> None:
    """The host's clock is a day behind: users with right clocks believe it, and an authority gives a few a week."""
    edge.moment = -86400.0
    first = edge.renewal().run(asked=BOTH)
    assert first.changed == [NAME, OTHER]
    assert not first.missing
    assert edge.certificate(NAME) in edge.stored(NAME)
    again = edge.renewal().run(asked=BOTH)
    assert again.changed == []
    for outcome in (first, again):
        assert [problem.partition(" is valid from ")[0] for problem in outcome.problems] == [
            f"the certificate of {name}" for name in BOTH
        ]
        assert all("; compare `date -u` with that of another machine" in problem for problem in outcome.problems)
    assert edge.renewal().run(forced=[NAME]).changed == [NAME]
    edge.moment = 0.0
    assert not edge.renewal().run().problems, "the clock is right again"


def test_a_name_is_tried_first_where_nothing_counts(edge: AcmeEdge) -> None:
    first, tried = "https://one.example/d", "https://try.example/d"
    renewal = edge.renewal(staging_directory=tried, astray=OTHER)
    edge.authority.says_no = "try.example"
    problems = [
        renewal.run(asked=[NAME]).problems[0] for _ in range(6)
    ]  # more than the authority would take in an hour
    why = f"it was tried where nothing counts, so nothing was ordered: {tried} gave none: no"
    assert problems == [f"{NAME} has no certificate yet: {why}"] * 6
    assert edge.authority.asked == [(tried, NAME)] * 6
    renewal.run()
    assert len(edge.authority.asked) == 6, "the timer waits"
    edge.authority.says_no, edge.authority.asked = "", []
    assert renewal.run(asked=[NAME]).changed == [NAME]
    assert edge.authority.asked == [(tried, NAME), (first, NAME)]
    assert edge.certificate(NAME) in edge.stored(NAME)
    # One that is there is renewed at once, and tried again where that failed.
    edge.moment, edge.authority.asked, edge.authority.says_no = 61 * 86400.0, [], "one.example"
    renewal.run()
    edge.moment += 3700
    renewal.run()
    assert edge.authority.asked == [(first, NAME), (tried, NAME), (first, NAME)]
    # One whose key leaked waits for nothing.
    edge.moment, edge.authority.asked, edge.authority.says_no = 0.0, [], ""
    renewal = edge.renewal(staging_directory=tried, astray=OTHER)
    assert renewal.run(forced=[NAME]).changed == [NAME]


def test_an_authority_for_trying_that_is_away_keeps_nobody_from_a_certificate(
    edge: AcmeEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def runs(argv: list[str], *_: Any, **__: Any) -> Ran:
        asked.append(argv[argv.index("--server") + 1])
        said = "acme: error: 503 :: urn:ietf:params:acme:error:serverInternal :: later"
        gone = "2026/11/27 19:47:11 Could not create client: get directory at 'https://try.example/d': no such host"
        return Ran((), 1, {"https://try.example/d": gone, "https://busy.example/d": said}.get(asked[-1], "error: no"))

    monkeypatch.setattr(command, "run", runs)
    settings = edge.renewal().settings
    for tried in ("https://try.example/d", "https://busy.example/d", "https://refuses.example/d"):
        settings = replace(settings, staging_directory=tried)
        stopped = Renewal(settings)._rehearsed(NAME, Record(), 5)
        assert bool(stopped) is (tried == "https://refuses.example/d")
        asked.clear()
    assert settings.binding(tried) == {}, "who is known to one is not known to the other"


def test_lets_encrypt_has_one_for_trying_and_others_do_where_it_is_said() -> None:
    def tried(**variables: Any) -> Any:
        role = Role("haproxy", haproxy_acme_email="ops@example.org", haproxy_apps=[{"name": "links"}], **variables)
        return Settings(**role.value("__haproxy_acme_values")).rehearses_with()

    assert tried() == "https://acme-staging-v02.api.letsencrypt.org/directory"
    assert tried(haproxy_acme_directory="staging") == tried(haproxy_acme_directory="self-signed") == ""
    assert tried(haproxy_acme_directory="https://ca.example/d") == ""
    assert (
        tried(haproxy_acme_directory="https://ca.example/d", haproxy_acme_staging_directory="https://t/d")
        == "https://t/d"
    )


def test_an_authority_that_is_down_for_days_is_asked_less_and_less_and_has_its_turn_when_it_is_back(
    edge: AcmeEdge,
) -> None:
    edge.renewal().run(asked=BOTH)
    first, asked = edge.certificate(NAME), len(edge.authority.asked)
    edge.authority.says_no = "one.example"
    hours = (0, 1, 2, 3, 6, 7, 14, 15, 30, 31, 54, 55, 78, 79, 23 * 24)
    outcomes = []
    for hour in hours:
        edge.moment = 61 * 86400.0 + hour * 3600.0
        outcomes.append(edge.renewal().run())
    outcome = outcomes[-1]
    assert (outcome.changed, outcome.missing, edge.certificate(NAME)) == ([], [], first), "what is valid stays"
    assert [problem.partition(" and was")[0] for problem in outcome.problems] == [
        f"the certificate of {name} ends in 5 days" for name in BOTH
    ]
    assert len(edge.authority.asked) - asked == 2 * 9, "after 1, 2, 4, 8 and 16 hours, then once a day"
    edge.authority.says_no = ""
    edge.moment += 86400.0
    assert edge.renewal().run().changed == [NAME, OTHER]
    assert edge.certificate(NAME) != first


def test_an_authority_that_hangs_takes_nothing_from_the_second_one(
    edge: AcmeEdge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a program in lego's place that waits for an answer of the first authority, and gets one of the second."""
    chain, key = made(NAME)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "given.crt").write_text(chain)
    (programs / "given.key").write_text(key)
    (programs / "lego").write_text(
        "#!/bin/sh\n"
        'case "$*" in *one.example*) exec sleep 600 ;; esac\n'
        'while [ "$1" != --path ]; do shift; done\n'
        'mkdir -p "$2/certificates"\n'
        f'for end in crt key; do cp {programs}/given.$end "$2/certificates/{NAME}.$end"; done\n'
    )
    (programs / "lego").chmod(0o755)
    monkeypatch.setattr(os, "defpath", f"{programs}:{os.defpath}")
    monkeypatch.setattr(lego, "ORDER", 2.0)
    renewal = edge.renewal(astray=OTHER, fallback="https://two.example/d")
    renewal._order = order
    began = time.monotonic()
    assert renewal.run(asked=[NAME]).changed == [NAME]
    assert time.monotonic() - began > 2
    assert edge.certificate(NAME) == chain
    renewal = edge.renewal(astray=OTHER)
    renewal._order = order
    (problem, _) = renewal.run(forced=[NAME]).problems
    assert "https://one.example/d gave none: `lego --accept-tos --email` did not end within 2 s" in problem


def test_a_key_that_leaked_is_replaced_at_once(edge: AcmeEdge) -> None:
    edge.renewal().run(asked=BOTH)
    before = edge.certificate(NAME), edge.certificate(OTHER)
    assert edge.renewal().run(forced=[NAME]).changed == [NAME]
    assert edge.certificate(NAME) != before[0]
    assert edge.certificate(OTHER) == before[1]


def test_one_whose_key_leaked_is_revoked_by_who_issued_it_once_the_next_one_serves(edge: AcmeEdge) -> None:
    edge.renewal().run(asked=[NAME])
    edge.renewal(fallback="https://two.example/d").run(asked=BOTH)
    before = edge.certificate(NAME)
    edge.authority.says_no = "one.example"
    outcome, left = edge.renewal().replace([NAME])
    assert (outcome.changed, edge.certificate(NAME)) == ([], before)
    assert left == [
        f"the certificate of {NAME} whose key leaked is not revoked: it is shown still, since no other one came"
    ]
    edge.authority.says_no = ""
    outcome, left = edge.renewal(directory="https://another.example/d").replace([NAME])
    assert (outcome.changed, left) == ([NAME], [])
    assert edge.certificate(NAME) != before
    assert edge.authority.revoked == [("https://one.example/d", NAME, before)], "and no key is handed over"
    assert edge.renewal(directory="self-signed").replace([OTHER])[1] == []
    outcome, left = edge.renewal(directory="self-signed").replace([OTHER])
    assert (left, len(edge.authority.revoked)) == ([], 2), "nobody can revoke what a host signed for itself"


def test_one_that_was_forced_and_failed_is_told_once(edge: AcmeEdge) -> None:
    edge.renewal().run(asked=BOTH)
    edge.authority.says_no = "one.example"
    *_, outcome = [edge.renewal().run(forced=[NAME]) for _ in range(4)]
    assert [problem.endswith("gave none: no") for problem in outcome.problems] == [True]
    assert edge.renewal().run().problems == [], "the certificate lasts, and nothing is due"
    assert 'slipway_certificate_failures{name="shop.example.org"} 0' in (edge.directory / "metrics.prom").read_text()
    (problem,) = edge.renewal().run(forced=[NAME]).problems
    assert "was not renewed: the last orders gave none; the next order is at " in problem, "the authority counts on"


def test_a_run_ends_before_its_unit_ends_it() -> None:
    unit = Role("haproxy", haproxy_acme_email="ops@example.org").render("slipway-certificates.service.j2")
    assert "TimeoutStartSec=45min" in unit
    assert LIMIT + 4 * ORDER_BY_DNS < 45 * 60


def test_one_run_at_a_time_and_no_wait_without_an_end(edge: AcmeEdge) -> None:
    with (
        alone(edge.directory / "acme", 1),
        pytest.raises(UnderWay, match="another run orders certificates on this host and did not end within 0 s"),
    ):
        edge.renewal().run(limit=0.3)
    assert edge.authority.asked == []


@pytest.mark.parametrize("kind", ["ec256", "rsa2048"])
def test_in_a_lab_the_host_signs_for_itself_wherever_a_name_leads(edge: AcmeEdge, kind: str) -> None:
    renewal = edge.renewal(astray=OTHER, directory="self-signed")
    renewal.settings, renewal._order = replace(renewal.settings, key_type=kind), order
    outcome = renewal.run(asked=BOTH)
    assert outcome.changed == [NAME, OTHER]
    assert [entry["issuer"] for entry in outcome.names] == ["self-signed", "self-signed"]
    assert edge.certificate(OTHER) in edge.stored(OTHER)
    assert sorted(path.name for path in (edge.directory / "acme").iterdir()) == ["names.json"], "no other copy"


STAR, BELOW, DEEP, FULL = "*.wild.example", "a.wild.example", "b.a.wild.example", "full.wild.example"


@pytest.fixture
def wild(tmp_path: Path) -> Iterator[AcmeEdge]:
    with started(tmp_path, BELOW, host_names=[FULL, STAR]) as found:
        yield found


def test_a_star_is_for_names_of_one_label_more_and_a_name_told_in_full_has_its_own(wild: AcmeEdge) -> None:
    def leads(name: str) -> tuple[int, str | None]:
        answer, _ = wild.get("/x", Host=f"{name}:{wild.port}")
        return answer.status, answer.getheader("Location")

    assert wild.renewal().wanted() == [FULL], "by HTTP none can be ordered for a star"
    renewal = wild.renewal(astray=STAR, dns_provider="hetzner")
    assert renewal.run(asked=[STAR]).changed == [STAR, FULL], "wherever it leads yet"
    for _ in range(2):
        assert wild.certificate(BELOW) in wild.stored(STAR)
        assert wild.certificate(FULL) in wild.stored(FULL)
        own = (wild.directory / "own.pem").read_text()
        assert wild.certificate(DEEP) in own
        assert wild.certificate("wild.example") in own
        assert leads(BELOW) == (308, f"https://{BELOW}:{wild.port}/x")
        assert leads(FULL) == (308, f"https://{FULL}:{wild.port}/x")
        assert leads(DEEP) == (200, None), "served, and by HTTP, since its certificate would not be believed"
        wild.restart()
        wait_for(lambda: wild.get("/", Host=DEEP)[0].status == 200)
    before = wild.certificate(BELOW)
    assert wild.renewal(dns_hook="/etc/hook").run(forced=[STAR]).changed == [STAR]
    assert wild.certificate(BELOW) != before
    assert [path.name for path in renewal.directory.iterdir()].count("_.wild.example.pem") == 1


def test_in_a_lab_a_star_is_signed_like_any_other(wild: AcmeEdge) -> None:
    renewal = wild.renewal(directory="self-signed")
    renewal._order = order
    assert renewal.run(asked=[STAR]).changed == [STAR, FULL]
    assert wild.certificate(BELOW) in wild.stored(STAR)


def test_no_expression_is_compiled_which_the_sandbox_forbids() -> None:
    """`haproxy -c` outside of it says that all is well, and HAProxy does not start."""
    role = Role("haproxy", haproxy_acme_email="ops@example.org", haproxy_apps=[{"name": "l", "servers": {"a": "b:1"}}])
    assert "MemoryDenyWriteExecute=yes" in role.render("unit.conf.j2")
    text = role.render("edge.cfg.j2") + role.render("app.cfg.j2", app={"name": "l", "servers": {"a": "b:1"}})
    assert not re.findall("regsub|_reg|-m reg", text)


def test_the_hook_and_its_secrets_are_root_s_and_one_that_is_gone_is_removed(tmp_path: Path) -> None:
    hook = tmp_path / "hook"
    hook.write_text("#!/bin/sh\nexit 0\n")
    given: dict[str, Any] = {"haproxy_acme_email": "ops@example.org", "haproxy_acme_dns_hook": str(hook)}
    role = Role("haproxy", **given, haproxy_acme_dns_environment={"KEY": "planted"})
    (item,) = role.value("__haproxy_acme_hook_files")
    assert (item["dest"], item["content"], item["mode"]) == ("/etc/haproxy/acme-dns-hook", hook.read_text(), "0700")
    assert item["dest"] not in role.value("__haproxy_stale")
    (known,) = [item for item in role.value("__haproxy_acme_files") if item["dest"].endswith("/acme.json")]
    assert (known["mode"], known["secret"]) == ("0600", True)
    assert json.loads(known["content"])["dns_environment"] == {"KEY": "planted"}
    assert "planted" not in json.dumps(role.value("__haproxy_settings"))
    assert item["dest"] in Role("haproxy", haproxy_acme_email="ops@example.org").value("__haproxy_stale")
    assert item["dest"] in Role("haproxy", haproxy_acme_dns_hook=str(hook)).value("__haproxy_stale")


@pytest.mark.parametrize(("given", "at_once"), [({}, 0), ({"haproxy_acme_dns_provider": "rfc2136"}, 1)])
def test_by_dns_hosts_order_one_after_another(given: dict[str, str], at_once: int) -> None:
    role = Role("haproxy", haproxy_acme_email="ops@example.org", **given)
    assert int(role.task("certificates.yml", "Order the certificates", "throttle")) == at_once
