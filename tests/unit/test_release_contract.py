"""What a release breaks of the API of the one before, asked of real servers, and what is kept for the next one."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.openapi.document import LARGEST
from ansible_collections.slipway.fleet.plugins.module_utils.release.contract import Contract, Kept
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import Probe
from ansible_collections.slipway.fleet.plugins.module_utils.release.probe import get
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import OPENAPI, Store
from ansible_collections.slipway.fleet.plugins.module_utils.release.wiring import contract_of

from tests.unit.memory import stage

Serve = Callable[[str, Callable[[socket.socket], None]], str]


def document(*paths: str) -> str:
    return json.dumps({"openapi": "3.1.0", "paths": {path: {"get": {}} for path in paths}})


class Slots:
    """Two slots and what each answers; what was asked is noted."""

    def __init__(self, **answers: str | Probe) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str, str]] = []

    def ask(self, slot: str, path: str, release: str) -> Probe:
        self.asked.append((slot, path, release))
        answer = self.answers[slot]
        return answer if isinstance(answer, Probe) else Probe(200, answer)


def compared(root: Path, breaking: str = "warn", was: str | None = "one", **answers: Any) -> Kept:
    stage(root, "one", "two")
    return Contract(Store(root), Slots(**answers).ask, "/openapi.json", breaking)("green", "two", was)


def test_what_is_gone_is_named(tmp_path: Path) -> None:
    both = {"blue": document("/a", "/b"), "green": document("/b")}
    assert compared(tmp_path, **both) == Kept(("GET /a is gone",))
    assert compared(tmp_path, "refuse", **both) == Kept(("GET /a is gone",), refused=True)


def test_what_came_breaks_nothing(tmp_path: Path) -> None:
    assert compared(tmp_path, "refuse", blue=document("/b"), green=document("/a", "/b")) == Kept()


def test_the_live_slot_is_asked_only_where_nothing_is_kept(tmp_path: Path) -> None:
    stage(tmp_path, "one", "two", "three")
    slots = Slots(blue=document("/a", "/b"), green=document("/a"))
    contract = Contract(Store(tmp_path), slots.ask, "/openapi.json", "warn")
    assert contract("green", "two", "one").breaks == ("GET /b is gone",)
    assert slots.asked == [("green", "/openapi.json", "two"), ("blue", "/openapi.json", "one")]
    slots.answers = {"blue": document()}
    assert contract("blue", "three", "two").breaks == ("GET /a is gone",)
    assert slots.asked[2:] == [("blue", "/openapi.json", "three")]
    kept = tmp_path / "releases/two" / OPENAPI
    assert kept.stat().st_mode & 0o777 == 0o600
    kept.write_text("{")
    slots.answers["green"] = document("/z")
    assert contract("blue", "three", "two").breaks == ("GET /z is gone",)


def test_what_is_kept_is_no_change_by_hand(tmp_path: Path) -> None:
    stage(tmp_path, "one", "two")
    store = Store(tmp_path)
    store.seal("two")
    compared(tmp_path, blue=document(), green=document())
    assert (tmp_path / "releases/two" / OPENAPI).exists()
    assert store.changed_files("two") == []


def test_the_first_release_keeps_its_own(tmp_path: Path) -> None:
    assert compared(tmp_path, was=None, green=document("/a")) == Kept()
    assert Store(tmp_path).openapi("two") == document("/a")


def test_a_disk_that_takes_nothing_is_no_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Store, release: str, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Store, "keep_openapi", full)
    assert compared(tmp_path, blue=document("/a"), green=document()).breaks == ("GET /a is gone",)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Probe(404, "Not Found"), "404"),
        (Probe(401, ""), "401"),
        (Probe(307, "", location="https://other.example/"), "307"),
        (Probe(error="timed out\x1b[31m"), "timed out"),
        (Probe(200, "<html>"), "it is no JSON"),
        (Probe(200, "{" + "x" * LARGEST), "larger than 4 MiB"),
    ],
)
@pytest.mark.parametrize("without", ["blue", "green"])
def test_without_a_document_nothing_is_broken(tmp_path: Path, answer: Probe, why: str, without: str) -> None:
    both: dict[str, Any] = {"blue": document("/a"), "green": document(), without: answer}
    assert compared(tmp_path, **both) == Kept()
    refusing = compared(tmp_path, "refuse", **both)
    assert not refusing.refused
    assert refusing.note.startswith("the API was not compared: GET /openapi.json of release ")
    assert why in refusing.note
    assert refusing.note.isprintable()


def test_what_is_told() -> None:
    assert Kept().as_dict() is None
    assert Kept(("a",), 2).as_dict() == {"breaks": ["a"], "more": 2, "note": ""}
    assert "it breaks the API of release one: a; b. Have" in Kept(("a", "b"), 0).sentence("one")
    assert "a; b; c; and 3 more. Have" in Kept(("a", "b", "c", "d"), 2).sentence("one")


@pytest.mark.parametrize(
    ("given", "there"),
    [
        (None, False),
        ({}, False),
        ({"path": "", "breaking": "refuse"}, False),
        ({"path": "/openapi.json", "breaking": "ignore"}, False),
        ({"path": "/openapi.json", "breaking": "warn"}, True),
        ({"path": "/openapi.json"}, True),
    ],
)
def test_who_is_to_compare(tmp_path: Path, given: Any, there: bool) -> None:
    found = contract_of({"contract": given}, Store(tmp_path), lambda *what: Probe(404))
    assert (found is not None) is there


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """A server of one connection on a Unix socket."""
    listening = []

    def begin(name: str, answer: Callable[[socket.socket], None]) -> str:
        path = str(tmp_path / name)
        server = socket.socket(socket.AF_UNIX)
        server.bind(path)
        server.listen()
        listening.append(server)

        def work() -> None:
            with suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    connection.recv(65536)
                    answer(connection)

        threading.Thread(target=work, daemon=True).start()
        return path

    yield begin
    for server in listening:
        server.close()


def dripping(head: bytes) -> Callable[[socket.socket], None]:
    def answer(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(b"x")
            time.sleep(0.05)

    return answer


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-", b"H"]
)
def test_an_answer_that_drips_is_over_in_time(serve: Serve, head: bytes) -> None:
    began = time.monotonic()
    found = get(serve("drip.sock", dripping(head)), "/", 0.5)
    assert "timed out" in found.error
    assert time.monotonic() - began < 30, "it would drip for hours"


def test_no_more_of_an_answer_is_read_than_is_wanted(serve: Serve) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    path = serve("flood.sock", answer)
    assert len(get(path, "/", 30.0, most=1_000_001).body) == 1_000_001
