"""HTTP over a slot's socket."""

from __future__ import annotations

import http.client
import socket

from .model import Probe


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get(address: str, path: str, timeout: float) -> Probe:
    """GET `path` from the Unix socket `address`. Never raises: what went wrong is in `error`."""
    connection = _UnixConnection(address, timeout)
    try:
        connection.request("GET", path, headers={"Accept": "application/json"})
        answer = connection.getresponse()
        return Probe(answer.status, answer.read(65536).decode("utf-8", "replace"))
    except FileNotFoundError:
        return Probe(error=f"{address} does not exist", nobody=True)
    except ConnectionRefusedError:
        return Probe(error=f"nothing listens on {address}", nobody=True)
    except (OSError, http.client.HTTPException) as error:
        return Probe(error=f"{type(error).__name__}: {error}".rstrip(": "))
    finally:
        connection.close()
