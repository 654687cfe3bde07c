"""The probe against a real edge with a tiny app: what it asks, as whom, and whose answers it counts."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.probe import client
from ansible_collections.slipway.fleet.plugins.plugin_utils.probe.edges import edges_of

from tests.templates.test_haproxy import PATIENCE, Edge, Slot, app, slots, wait_for

__all__ = ["slots"]  # a fixture
NAME = "links.example.test"


def sent(
    edge: Edge, count: int = 1, tls: bool = False, address: str = "127.0.0.1", **known: Any
) -> list[client.Sample]:
    """So many requests to the edge as a run finds it by its variables, but for its ports."""
    variables = {"ansible_host": address, **edge.variables, **known}
    (found,), wrong = edges_of({"web1": variables}, {"web": ["web1"]}, "links")
    assert not wrong
    assert found.url.startswith("https:" if tls else "http:")
    url = f"{found.url}:{edge.tls_port if tls else edge.port}"
    settings = client.Settings(
        urls=[url], names={url: found.name}, trusted={url: found.trusted}, samples="", path="/version", timeout=PATIENCE
    )
    return [asyncio.run(client.Run(settings, settings.targets()).once())[0] for _ in range(count)]


def told(sample: client.Sample) -> tuple[str, str]:
    return sample["by"], str(sample.get("error", ""))


@pytest.fixture(scope="session")
def private(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate of an authority that nobody knows, with its key; and one of another such authority."""
    directory = tmp_path_factory.mktemp("private")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    issued = []
    for name in ("one", "two"):
        openssl(
            "req", "-x509", *key, "-days", "2", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem"
        )
        signed = ["-CA", f"{name}.pem", "-CAkey", f"{name}.key", "-addext", f"subjectAltName=DNS:{NAME}", "-days", "1"]
        openssl(
            "req",
            "-x509",
            *key,
            *signed,
            "-subj",
            "/CN=edge",
            "-keyout",
            f"{name}-edge.key",
            "-out",
            f"{name}-edge.pem",
        )
        issued.append((directory / f"{name}-edge.pem").read_text() + (directory / f"{name}-edge.key").read_text())
    return issued[0], issued[1]


def running(directory: Path, **variables: Any) -> Edge:
    found = Edge(directory, **variables)
    found.start()
    return found


def test_an_answer_names_its_slot_to_the_probe_alone(slots: dict[str, Slot], tmp_path: Path) -> None:
    edge = running(tmp_path)
    try:
        edge.ask("set server app_links/blue state drain")
        assert {(sample["by"], sample["slot"]) for sample in sent(edge, 3)} == {("app", "green")}
        answer, _ = edge.get("/version")
        assert "X-Slipway-Answer" not in answer.headers
        assert edge.get("/version", X_Slipway_Probe="1")[0].headers["X-Slipway-Answer"] == "app green"
        assert "slipway-probe" not in edge.get("/version", X_Slipway_Probe="1")[1].lower(), "the app is none the wiser"
    finally:
        edge.stop()


def test_everything_down_is_the_edge_s_answer_and_then_nobody_s(tmp_path: Path) -> None:
    edge = running(tmp_path)
    wait_for(lambda: edge.get("/")[0].status == 503)
    try:
        assert {told(sample) for sample in sent(edge, 4)} == {("edge", "answered 503 by the edge")}
    finally:
        edge.stop()
    assert told(sent(edge)[0]) == ("nobody", "refused")


def test_an_app_that_fails_by_itself_is_told_from_an_edge_that_does(slots: dict[str, Slot], tmp_path: Path) -> None:
    edge = running(tmp_path, haproxy_private_paths=["/version"], haproxy_private_networks=["192.0.2.0/24"])
    try:
        assert told(sent(edge)[0]) == ("edge", "answered 403 by the edge")
    finally:
        edge.stop()


def test_maintenance_is_told_as_that(slots: dict[str, Slot], tmp_path: Path) -> None:
    edge = running(tmp_path, haproxy_maintenance=["links"], haproxy_maintenance_passes=["192.0.2.0/24"])
    try:
        assert told(sent(edge)[0]) == ("edge", "answered 503, the maintenance page")
    finally:
        edge.stop()


def test_an_app_with_names_is_asked_for_its_own(slots: dict[str, Slot], tmp_path: Path) -> None:
    edge = running(tmp_path, haproxy_apps=[app(tmp_path, host_names=["other.example.test", NAME])])
    try:
        assert told(sent(edge)[0]) == ("app", "")
        assert told(sent(edge, haproxy_apps=[])[0]) == ("edge", "answered 421 by the edge")
    finally:
        edge.stop()


def test_tls_of_a_private_authority(slots: dict[str, Slot], tmp_path: Path, private: tuple[str, str]) -> None:
    """By the address of a host, whose certificate has the app's name; no root is known to the controller."""
    edge = running(tmp_path, haproxy_tls_certificate=private[0])
    try:
        assert Counter(map(told, sent(edge, 6, tls=True))) == {("app", ""): 6}
        by_http = sent(edge, slipway_url="http://127.0.0.1")
        assert told(by_http[0]) == ("edge", "answered 308 by the edge"), "a redirect is no answer of the app"
        by, error = told(sent(edge, tls=True, haproxy_tls_certificate=private[1])[0])
        assert by == "nobody"
        assert "certificate" in error.lower()
    finally:
        edge.stop()


def test_a_certificate_for_another_name_is_a_failure(
    slots: dict[str, Slot], tmp_path: Path, private: tuple[str, str]
) -> None:
    edge = running(
        tmp_path, haproxy_tls_certificate=private[0], haproxy_apps=[app(tmp_path, host_names=["shop.example.test"])]
    )
    try:
        by, error = told(sent(edge, tls=True)[0])
        assert by == "nobody"
        assert "certificate" in error.lower()
    finally:
        edge.stop()


def test_ipv6(slots: dict[str, Slot], tmp_path: Path) -> None:
    edge = running(tmp_path, haproxy_addresses=["127.0.0.1", "[::1]"])
    try:
        assert told(sent(edge, address="::1")[0]) == ("app", "")
    finally:
        edge.stop()


def test_a_balancer_passes_on_who_answered(slots: dict[str, Slot], tmp_path: Path) -> None:
    directory = tmp_path / "balancer"
    directory.mkdir()
    host = running(tmp_path)
    balancer = running(directory, haproxy_apps=[{"name": "links", "servers": {"web1": f"127.0.0.1:{host.port}"}}])
    try:
        (found,) = sent(balancer)
        assert (found["by"], found["slot"] in ("blue", "green")) == ("app", True)
        for slot in ("blue", "green"):
            host.ask(f"set server app_links/{slot} state maint")
        assert told(sent(balancer)[0]) == ("edge", "answered 503 by the edge")
    finally:
        host.stop()
        balancer.stop()
