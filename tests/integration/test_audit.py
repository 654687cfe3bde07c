"""The audit: both programs really run, against servers of ours that answer as theirs do, or against nobody."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import sys
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.sbom.audit import (
    Audit,
    Finding,
    audit,
    parse_debsecan,
    parse_pip_audit,
    status_of,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import audit as told_audit
from ansible_collections.slipway.fleet.plugins.plugin_utils.views.view import Results

# The format of debsecan's data: names with their text, what they mean for which source package, and its binary ones.
DEBSECAN = """\
VERSION 1
CVE-2026-1001,,openssl reads too far
CVE-2026-1002,,openssl is slow
CVE-2026-1003,,zlib was wrong long ago

openssl,0,SHRF,3.5.2-1,3.5.1-1+deb12u9 3.5.1-1+deb13u2
openssl,1,SL? ,,
zlib,2,SM  ,1:1.0-1,

openssl,libssl3t64 openssl
zlib,zlib1g

"""
OSV = {
    "vulns": [
        {
            "id": "GHSA-aaaa-bbbb-cccc",
            "aliases": ["CVE-2026-2001", "PYSEC-2026-1"],
            "summary": "x",
            "details": "x",
            "modified": "2026-01-01T00:00:00Z",
            "affected": [
                {
                    "package": {"ecosystem": "PyPI", "name": "uvicorn", "purl": "pkg:pypi/uvicorn"},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.2"}]}],
                    "versions": ["1.0"],
                }
            ],
        }
    ]
}
DOCUMENT: dict[str, Any] = {
    "components": [
        {
            "name": "libssl3t64",
            "version": "3.5.1-1+deb13u1",
            "purl": "pkg:deb/debian/libssl3t64@3.5.1-1%2Bdeb13u1?arch=amd64&distro=debian-13",
            "properties": [{"name": "slipway:source", "value": "openssl 3.5.1-1+deb13u1"}],
        },
        {
            "name": "zlib1g",
            "version": "1:1.3-1",
            "purl": "pkg:deb/debian/zlib1g@1:1.3-1?arch=amd64&distro=debian-13",
            "properties": [{"name": "slipway:source", "value": "zlib 1:1.3-1"}],
        },
        {"name": "uvicorn", "version": "1.0", "purl": "pkg:pypi/uvicorn@1.0"},
        {"name": "anyio", "version": "4.0", "purl": "pkg:pypi/anyio@4.0"},
    ]
}


class Handler(BaseHTTPRequestHandler):
    """debsecan's data below its suite, and OSV's answers."""

    def do_GET(self) -> None:
        found = self.path.endswith("/trixie")
        self.answer(200 if found else 404, zlib.compress(DEBSECAN.encode()) if found else b"")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = asked["package"]["name"] == "uvicorn"
        self.answer(200, json.dumps(OSV if known else {}).encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        use(monkeypatch, f"http://127.0.0.1:{listening.server_port}")
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()
        thread.join()


def use(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("SLIPWAY_DEBSECAN_SOURCE", f"{address}/release/1")
    monkeypatch.setenv("PIP_AUDIT_VULNERABILITY_SERVICE", "osv")
    monkeypatch.setenv("PIP_AUDIT_OSV_URL", f"{address}/v1/query")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


def results(**documents: dict[str, Any] | None) -> Results:
    return {
        host: {"content": base64.b64encode(json.dumps(document).encode()).decode()} if document else {"skipped": True}
        for host, document in documents.items()
    }


def test_both_programs_find_what_is_known(server: str) -> None:
    found = audit(DOCUMENT)
    assert found.unchecked == []
    assert found.checked == 4
    assert found.findings == [
        Finding("libssl3t64", "3.5.1-1+deb13u1", "CVE-2026-1001", ("3.5.1-1+deb13u2",)),
        Finding("uvicorn", "1.0", "CVE-2026-2001", ("1.2",)),
        Finding("libssl3t64", "3.5.1-1+deb13u1", "CVE-2026-1002"),
    ]


def test_what_cannot_be_reached_is_not_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as bound:  # bound and not listening: refused at once
        bound.bind(("127.0.0.1", 0))
        use(monkeypatch, f"http://127.0.0.1:{bound.getsockname()[1]}")
        told = told_audit.tell(results(web1=DOCUMENT))
    assert told.code == 4
    assert "not checked: 2 Python distributions: pip-audit got no answer: " in told.text
    assert "not checked: 2 Debian packages: debsecan got no answer: " in told.text
    assert told.text.count("refused") == 2
    assert told.text.endswith("Nothing was checked, so nothing is known; this is no clean result.")
    assert [sorted(row) for row in told.rows] == [["unchecked"], ["unchecked"]]


def test_a_release_without_data_is_not_clean(server: str) -> None:
    old = json.loads(json.dumps(DOCUMENT).replace("debian-13", "debian-12"))
    (said,) = audit(old).unchecked
    assert said.startswith("2 Debian packages: debsecan got no answer")
    other = json.loads(json.dumps(DOCUMENT).replace("debian-13", "ubuntu-24.04"))
    (said,) = audit(other).unchecked
    assert "no release of Debian that is known here" in said


def test_a_missing_program_is_named(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shutil.which("debsecan")
    monkeypatch.setenv("PATH", "/nonexistent")
    (said,) = audit(DOCUMENT).unchecked
    assert "there is no debsecan here; on Debian: sudo apt-get install debsecan" in said
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    assert "/usr/bin/python3 has no pip-audit; install it with pip" in " ".join(audit(DOCUMENT).unchecked)


def test_what_pip_audit_skipped_was_not_checked() -> None:
    """Recorded from pip-audit 2.10 behind a mirror without its data; it ended with 0."""
    reason = "Dependency not found on PyPI and could not be audited: alembic (1.20.1)"
    text = json.dumps(
        {"dependencies": [{"name": "alembic", "skip_reason": reason}, {"name": "mako", "skip_reason": reason}]}
    )
    found = parse_pip_audit(text)
    assert found.checked == 0
    assert found.unchecked == [
        "2 Python distributions (alembic, mako): Dependency not found on PyPI and could not be audited"
    ]


def test_a_status_file_has_what_debsecan_reads() -> None:
    first = status_of(DOCUMENT["components"][:1])
    assert first.splitlines() == [
        "Package: libssl3t64",
        "Status: install ok installed",
        "Architecture: amd64",
        "Source: openssl (3.5.1-1+deb13u1)",
        "Version: 3.5.1-1+deb13u1",
    ]


def test_details_without_an_installed_package_are_left_out() -> None:
    assert parse_debsecan("CVE-1\n  text\nCVE-2 (fixed)\n  text\n  installed: a 1\n", "trixie") == [
        Finding("a", "1", "CVE-2")
    ]


@pytest.mark.parametrize(
    ("found", "code", "said"),
    [
        (
            Audit([Finding("a", "1", "CVE-1", ("2",))], 5, []),
            3,
            "5 packages checked: 1 known vulnerabilities, 1 of them",
        ),
        (Audit([Finding("a", "1", "CVE-1")], 5, []), 0, "1 known vulnerabilities, 0 of them with a fix"),
        (Audit([], 5, []), 0, "5 packages checked: 0 known vulnerabilities"),
        (Audit([], 5, ["2 others: no way"]), 4, "not checked: 2 others: no way (web1, web2)"),
        (Audit([Finding("a", "1", "CVE-1", ("2",))], 5, ["no way"]), 3, "not checked: no way"),
    ],
)
def test_the_exit_code_says_what_can_be_done(found: Audit, code: int, said: str) -> None:
    told = told_audit.tell(results(web1=DOCUMENT, web2=DOCUMENT), lambda _: found)
    assert told.code == code
    assert said in told.text
    assert bool(told.message) == bool(code)


def test_hosts_with_the_same_release_are_one_line_and_one_without_is_named() -> None:
    found = Audit([Finding("a", "1", "CVE-1", ("2", "3"))], 1, [])
    told = told_audit.tell(results(web1=DOCUMENT, web2=DOCUMENT, web3=None), lambda _: found)
    assert told.text.splitlines()[:2] == [
        "package  version  id     fixed in  hosts",
        "a        1        CVE-1  2 3       web1,web2",
    ]
    assert "not checked: web3: no bill of materials" in told.text
    assert told.code == 3
