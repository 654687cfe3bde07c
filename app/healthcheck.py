"""`python -m app.healthcheck` is the image's health check: asks /health at the address that GUNICORN_BIND names."""

from __future__ import annotations

import http.client
import os
import socket
import sys

_TIMEOUT = 4.0


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_TIMEOUT)
        self.sock.connect(self._path)


def connection(bind: str) -> http.client.HTTPConnection:
    """A connection to a Gunicorn bind: `unix:PATH` or `HOST:PORT`, where 0.0.0.0 and [::] are asked on loopback."""
    if bind.startswith("unix:"):
        return _UnixConnection(bind.removeprefix("unix:").removeprefix("//"))
    host, _, port = bind.rpartition(":")
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(host, host.strip("[]"))  # noqa: S104 - compared
    return http.client.HTTPConnection(host, int(port or 8000), timeout=_TIMEOUT)


def main() -> int:
    bind = os.environ.get("GUNICORN_BIND", "0.0.0.0:8000").split(",")[0]
    try:
        server = connection(bind)
        server.request("GET", "/health")
        answer = server.getresponse()
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer on {bind}: {error}")
        return 1
    print(f"{answer.status} {answer.read(1000).decode('utf-8', 'replace')}")
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
