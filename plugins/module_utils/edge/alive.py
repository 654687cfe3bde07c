"""Whether the HAProxy of this host serves, which keepalived asks each second: as a program, so it imports little.

    python3 -I -S alive.py ADDRESS SOCKET AWAY

It ends with 0 where the edge answers for itself through its own frontend at ADDRESS, and where it has as many
connections as it takes: another balancer would have them, too. It ends with 1 where HAProxy is dead, hangs or answers
nothing, and where the file AWAY says that an operator has taken this balancer out.
"""

from __future__ import annotations

import os
import socket
import sys

# What the edge answers itself, to this host alone.
PAGE = "/.well-known/slipway-edge"
# Seconds. A frozen one answers neither, and keepalived's own limit is longer than both.
PATIENCE, FOR_OPERATORS = 1.0, 0.5
LIMIT = 65536


def answers(address: str, port: int = 80) -> bool:
    """Whether a new connection to the frontend is taken, and asked for its page, answered."""
    try:
        with socket.create_connection((address, port), PATIENCE) as connection:
            connection.sendall(f"GET {PAGE} HTTP/1.0\r\nHost: slipway-edge\r\n\r\n".encode())
            return connection.recv(64).split()[1:2] == [b"200"]
    except OSError:
        return False


def is_full(path: str) -> bool:
    """Whether HAProxy lives and has as many connections as it takes, as it says on its socket for operators."""
    said = b""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(FOR_OPERATORS)
            connection.connect(path)
            connection.sendall(b"show info\n")
            while len(said) < LIMIT and (more := connection.recv(LIMIT)):
                said += more
    except OSError:
        return False
    found = dict(line.split(b": ", 1) for line in said.splitlines() if b": " in line)
    try:
        return int(found[b"CurrConns"]) >= int(found[b"Maxconn"]) > 0
    except (KeyError, ValueError):
        return False


def serves(address: str, path: str, away: str) -> bool:
    """Whether this balancer may have the floating address."""
    return not os.path.exists(away) and (answers(address) or is_full(path))


if __name__ == "__main__":
    sys.exit(0 if serves(*sys.argv[1:4]) else 1)
