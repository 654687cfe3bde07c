"""HTTP over a slot's socket or its port."""

from __future__ import annotations

import http.client
import os
import socket
import stat
import time
from collections.abc import Mapping
from typing import Any, Optional

from .model import Gate, Probe

# Bytes of an answer that are read.
SHORT = 65536


class _Timed(socket.socket):
    """A connection on which no wait lasts beyond one moment: who sends a byte now and then is not waited for longer."""

    until = 0.0  # on the clock of time.monotonic

    def recv_into(self, *args: Any, **options: Any) -> int:
        self.settimeout(max(self.until - time.monotonic(), 0.001))
        return super().recv_into(*args, **options)


class _PortConnection(http.client.HTTPConnection):
    def connect(self) -> None:
        timeout = float(self.timeout or 0.0)
        until = time.monotonic() + timeout
        timed = _Timed(fileno=socket.create_connection((self.host, self.port), timeout).detach())
        timed.settimeout(timeout)
        timed.until = until
        self.sock = timed


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        timed = _Timed(socket.AF_UNIX, socket.SOCK_STREAM)
        timed.settimeout(self.timeout)
        timed.until = time.monotonic() + float(self.timeout or 0.0)
        self.sock = timed
        timed.connect(self._path)


def get_port(
    address: str,
    port: int,
    path: str,
    timeout: float,
    gate: Optional[Gate] = None,
    most: int = SHORT,
    headers: Optional[Mapping[str, str]] = None,
) -> Probe:
    """GET `path` from what listens on `port` in the slot, over `address` (HOST:PORT of this host). Never raises.

    The answer is over after `timeout` seconds, and its first `most` bytes are read; `headers` are sent besides.

    Docker takes a connection to a port that it publishes before it knows that nobody listens inside, and closes it
    then. So that is nobody, too; an app that closes every connection listens, and whoever asks where it does sees that.
    """
    host, _, number = address.rpartition(":")
    connection = _PortConnection(host, int(number), timeout=timeout)
    try:
        return _asked(connection, path, gate, most, headers)
    except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError) as error:
        # RemoteDisconnected is a ConnectionResetError.
        how = "refused" if isinstance(error, ConnectionRefusedError) else "closed"
        return Probe(error=f"nothing answers on port {port} of the app ({address}: connection {how})", nobody=True)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return _failed(error)
    finally:
        connection.close()


def _asked(
    connection: http.client.HTTPConnection,
    path: str,
    gate: Optional[Gate],
    most: int,
    headers: Optional[Mapping[str, str]],
) -> Probe:
    of_the_edge = {"Host": gate.host, "X-Forwarded-Proto": gate.proto} if gate else {}
    connection.request("GET", path, headers={"Accept": "application/json", **of_the_edge, **(headers or {})})
    answer = connection.getresponse()
    # Where nothing is wanted of the body it is not waited for: that of a stream begins with its first event.
    body = answer.read(most).decode("utf-8", "replace") if most else ""
    return Probe(answer.status, body, location=answer.getheader("Location") or "")


def _failed(error: Exception) -> Probe:
    # In Python 3.9 socket.timeout is no TimeoutError yet.
    late = isinstance(error, (TimeoutError, socket.timeout))
    return Probe(error=f"{type(error).__name__}: {error}".rstrip(": "), late=late)


def get(
    address: str,
    path: str,
    timeout: float,
    gate: Optional[Gate] = None,
    most: int = SHORT,
    headers: Optional[Mapping[str, str]] = None,
) -> Probe:
    """GET `path` from the Unix socket `address`. Never raises: what went wrong is in `error`.

    The answer is over after `timeout` seconds, and its first `most` bytes are read; `headers` are sent besides.

    With a gate it is asked as its requests through the edge are: an app that looks at the host's name, or sends whoever
    came without TLS elsewhere, answers this one, too.

    A link is not followed: the app can make one, and root could open what it leads to.
    """
    connection = _UnixConnection(address, timeout)
    try:
        if not stat.S_ISSOCK(os.lstat(address).st_mode):
            return Probe(error=f"{address} is no socket")
        return _asked(connection, path, gate, most, headers)
    except FileNotFoundError:
        return Probe(error=f"{address} does not exist", nobody=True)
    except ConnectionRefusedError:
        return Probe(error=f"nothing listens on {address}", nobody=True)
    except (OSError, ValueError, http.client.HTTPException) as error:
        return _failed(error)
    finally:
        connection.close()
