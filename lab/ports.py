"""Ports for servers, on a machine where other tests and programs look for ports at the same time."""

from __future__ import annotations

import atexit
import socket
from collections import deque

# Sockets that have been bound and never listen; of more ports than are needed at a time.
HELD: deque[socket.socket] = deque()
MOST = 100


@atexit.register
def let_go() -> None:
    """Python tells of each socket that it closes by itself."""
    while HELD:
        HELD.popleft().close()


def free_port(address: str = "127.0.0.1") -> int:
    """A port of an address of this machine that nobody else gets before a server listens there, nor while that is down.

    A port that was merely free a moment ago is given to the next one who asks for any, and a server takes a while to
    begin. This one is bound meanwhile. Linux lets a server bind it all the same, where both have SO_REUSEADDR and the
    other one does not listen: HAProxy, sshd, Gunicorn, asyncio, those in Go and Python's own have it. Whoever connects
    before is refused, as where nobody is.
    """
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind((address, 0))
    HELD.append(held)
    if len(HELD) > MOST:
        HELD.popleft().close()
    return int(held.getsockname()[1])
