"""The probe of a slot: what it waits for, and that it never raises."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.probe import get, get_port
from ansible_collections.slipway.fleet.plugins.module_utils.release.replay import MARK


@pytest.fixture
def streams(tmp_path: Path) -> Iterator[str]:
    """A socket whose one answer has a head, and a body that never begins."""
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                connection.recv(1)  # until the other one goes

        thread = Thread(target=answer)
        thread.start()
        yield path
        thread.join(60)


def test_a_stream_without_an_event_is_answered_where_no_body_is_wanted(streams: str) -> None:
    assert get(streams, "/events", 60.0, most=0).status == 200


def test_what_is_sent_besides_is_sent(tmp_path: Path) -> None:
    """A replay says by it that no user asks."""
    heard: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "app.sock"))
        listening.listen()

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                heard.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        thread = Thread(target=answer)
        thread.start()
        assert get(str(tmp_path / "app.sock"), "/a", 60.0, headers=MARK).status == 204
        thread.join(60)
    assert b"\r\nSlipway-Replay: 1\r\n" in heard[0]


def test_a_stream_without_an_event_is_late_where_one_is(streams: str) -> None:
    found = get(streams, "/events", 0.2)
    assert (found.status, found.late, found.nobody) == (0, True, False)


def test_a_path_that_cannot_be_sent_is_an_error(streams: str) -> None:
    assert "UnicodeEncodeError" in get(streams, "/caf\u00e9", 60.0).error
    assert get(streams, "/", 60.0, most=0).status == 200
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        assert "UnicodeEncodeError" in get_port(address, 80, "/caf\u00e9", 60.0).error
