"""An app as its users reach it by HTTPS: by its name, at the address of a host, with a certificate that they trust."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract import ANSWER
from deployment import Deployment

HOST, ADDRESS = "slipway-edge", "172.29.89.10"


class _Named(http.client.HTTPSConnection):
    """Asks an address for a name, in the handshake and in the request."""

    def __init__(self, name: str, address: str, context: ssl.SSLContext, patience: float) -> None:
        super().__init__(name, timeout=patience, context=context)
        self._at = address
        self._tls = context
        self._patience = patience

    def connect(self) -> None:
        there = socket.create_connection((self._at, 443), self._patience)
        self.sock = self._tls.wrap_socket(there, server_hostname=self.host)


def serial_of(connection: http.client.HTTPSConnection) -> str:
    """Which certificate was shown."""
    assert isinstance(connection.sock, ssl.SSLSocket)
    found = connection.sock.getpeercert()
    assert found
    return str(found["serialNumber"])


@dataclass
class Asking:
    """What somebody got who asked all the time, each time by a handshake of its own and on a kept connection.

    `good_at` has also the answers to somebody who gives up after a second each time, and so sees how long nobody
    answers: whoever is patient waits for one that is frozen. What that one did not get is no loss.
    """

    asked: int = 0
    wrong: list[str] = field(default_factory=list)
    wrong_since: list[float] = field(default_factory=list)
    """When each of those was begun."""
    good_at: list[float] = field(default_factory=list)
    serials: set[str] = field(default_factory=set)

    @property
    def in_a_row(self) -> int:
        """How many good answers there are since the last wrong one was begun."""
        since = max(self.wrong_since, default=0.0)
        return sum(at > since for at in self.good_at)

    @property
    def outage(self) -> float:
        """The longest time in seconds in which nobody got an answer."""
        ends = sorted(self.good_at)
        return max((later - earlier for earlier, later in itertools.pairwise(ends)), default=0.0)


@dataclass
class Site(Deployment):
    """An app with an inventory of its own, and the authority that its users trust."""

    names: tuple[str, ...] = ()
    trusted: Path = Path()
    address: str = ADDRESS

    def connection(self, name: str = "", patience: float = ANSWER) -> _Named:
        trusted = ssl.create_default_context(cafile=str(self.trusted))
        return _Named(name or self.names[0], self.address, trusted, patience)

    def page(self, name: str = "") -> Any:
        """The page by HTTPS. Raises what a browser would show."""
        connection = self.connection(name)
        try:
            return self._page(connection)
        finally:
            connection.close()

    @staticmethod
    def _page(connection: http.client.HTTPConnection) -> Any:
        connection.request("GET", "/")
        answer = connection.getresponse()
        body = answer.read().decode()
        assert answer.status == 200, body
        return json.loads(body)

    def serial(self, name: str = "") -> str:
        """Which certificate the edge shows for a name."""
        with _connected(self.connection(name)) as connection:
            return serial_of(connection)

    def by_http(self, path: str = "/", name: str = "") -> tuple[int, str, str]:
        """Status, Location and body on port 80."""
        connection = http.client.HTTPConnection(self.address, 80, timeout=ANSWER)
        try:
            connection.request("GET", path, headers={"Host": name or self.names[0]})
            answer = connection.getresponse()
            return answer.status, answer.getheader("Location") or "", answer.read().decode()
        finally:
            connection.close()

    @contextmanager
    def asked(self, rate: float = 50.0, patience: float = ANSWER) -> Iterator[Asking]:
        """Ask for the page while the block runs, and wait so many seconds for an answer."""
        found, done = Asking(), threading.Event()

        def ask(kept: bool) -> None:
            connection = self.connection(patience=patience)
            while not done.wait(1 / rate):
                began = time.monotonic()
                try:
                    if connection.sock is None:
                        connection.connect()
                        found.serials.add(serial_of(connection))
                    self._page(connection)
                    found.good_at.append(time.monotonic())
                except (OSError, AssertionError, ValueError, http.client.HTTPException) as error:
                    found.wrong.append(f"{type(error).__name__}: {error}")
                    found.wrong_since.append(began)
                    connection.close()
                found.asked += 1
                if not kept:
                    connection.close()
            connection.close()

        def look() -> None:
            while not done.wait(0.1):
                with suppress(OSError, AssertionError, ValueError, http.client.HTTPException):
                    connection = self.connection(patience=1.0)
                    try:
                        self._page(connection)
                        found.good_at.append(time.monotonic())
                    finally:
                        connection.close()

        threads = [
            *(threading.Thread(target=ask, args=(kept,)) for kept in (True, False)),
            threading.Thread(target=look),
        ]
        for thread in threads:
            thread.start()
        try:
            yield found
        finally:
            done.set()
            for thread in threads:
                thread.join()


@contextmanager
def _connected(connection: _Named) -> Iterator[_Named]:
    connection.connect()
    try:
        yield connection
    finally:
        connection.close()
