"""What an edge sends elsewhere, limits and refuses for one app: with a real HAProxy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.templates.rendering import Role
from tests.templates.test_haproxy import Edge, Slot, app, certificate, slots

__all__ = ["certificate", "slots"]  # fixtures
NAME, OLD = "shop.example.org", "old.example.org"


@contextmanager
def running(directory: Path, *apps: dict[str, Any], **variables: Any) -> Iterator[Edge]:
    """An edge with these apps."""
    edge = Edge(directory, haproxy_apps=list(apps), **variables)
    try:
        edge.start()
        yield edge
    finally:
        edge.stop()


def test_other_names_lead_to_the_first_one_with_path_and_query(slots: dict[str, Slot], tmp_path: Path) -> None:
    shop = app(tmp_path, host_names=[NAME, "s.example.org"], redirect_names=["WWW.example.org", OLD])
    behind = {"haproxy_trusted_proxies": ["127.0.0.1"]}
    with running(tmp_path, shop, **behind) as edge:
        for name in ("www.example.org", "Old.example.org:8080"):
            answer, _ = edge.get("/a/%20b?c=d&e=//f", Host=name)
            assert (answer.status, answer.headers["Location"]) == (308, f"http://{NAME}/a/%20b?c=d&e=//f")
        answer, _ = edge.get("//elsewhere.example/", Host=OLD, X_Forwarded_Proto="HTTPS")
        assert answer.headers["Location"] == f"https://{NAME}//elsewhere.example/", (
            "as they came to the proxy before it"
        )
        assert [edge.get("/x", Host=name)[0].status for name in (NAME, "s.example.org")] == [200, 200]
        assert edge.get("/x", Host="other.example.org")[0].status == 421


def test_with_a_certificate_they_lead_to_https(slots: dict[str, Slot], certificate: str, tmp_path: Path) -> None:
    shop = app(tmp_path, host_names=[NAME], redirect_names=[OLD])
    text = Role("haproxy", haproxy_tls_certificate=certificate).render("app.cfg.j2", app=shop)
    assert f"redirect prefix https://{NAME} code 308 if redirect_name\n" in text
    with running(tmp_path, shop, haproxy_tls_certificate=certificate) as edge:
        assert edge.get("/x", Host=OLD)[0].headers["Location"] == f"https://{OLD}/x", "HTTPS first, for HSTS"
