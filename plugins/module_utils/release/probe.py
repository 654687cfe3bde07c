"""HTTP over a slot's socket or its port."""

from __future__ import annotations

import http.client
import os
import socket
import stat

from .model import Probe


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def get_port(address: str, port: int, path: str, timeout: float) -> Probe:
    """GET `path` from what listens on `port` in the slot, over `address` (HOST:PORT of this host). Never raises.

    Docker takes a connection to a port that it publishes before it knows that nobody listens inside, and closes it
    then. So that is nobody, too; an app that closes every connection listens, and whoever asks where it does sees that.
    """
    host, _, number = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(number), timeout=timeout)
    try:
        return _asked(connection, path)
    except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError) as error:
        # RemoteDisconnected is a ConnectionResetError.
        how = "refused" if isinstance(error, ConnectionRefusedError) else "closed"
        return Probe(error=f"nothing answers on port {port} of the app ({address}: connection {how})", nobody=True)
    except (OSError, http.client.HTTPException) as error:
        return Probe(error=f"{type(error).__name__}: {error}".rstrip(": "))
    finally:
        connection.close()


def _asked(connection: http.client.HTTPConnection, path: str) -> Probe:
    connection.request("GET", path, headers={"Accept": "application/json"})
    answer = connection.getresponse()
    return Probe(answer.status, answer.read(65536).decode("utf-8", "replace"))


def get(address: str, path: str, timeout: float) -> Probe:
    """GET `path` from the Unix socket `address`. Never raises: what went wrong is in `error`.

    A link is not followed: the app can make one, and root could open what it leads to.
    """
    connection = _UnixConnection(address, timeout)
    try:
        if not stat.S_ISSOCK(os.lstat(address).st_mode):
            return Probe(error=f"{address} is no socket")
        return _asked(connection, path)
    except FileNotFoundError:
        return Probe(error=f"{address} does not exist", nobody=True)
    except ConnectionRefusedError:
        return Probe(error=f"nothing listens on {address}", nobody=True)
    except (OSError, http.client.HTTPException) as error:
        return Probe(error=f"{type(error).__name__}: {error}".rstrip(": "))
    finally:
        connection.close()
