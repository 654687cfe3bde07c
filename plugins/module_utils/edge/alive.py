"""Whether this balancer may have a floating address, which keepalived asks each second: so it imports little.

    python3 -I -S alive.py ADDRESS:PORT SOCKET AWAY [OWN PEER:PORT...]
    python3 -I -S alive.py stopped FILE BALANCER:PORT...

It ends with 0 where the edge answers for itself through its own frontend, and where it has as many connections as it
takes: another balancer would have them, too. It ends with 1 where HAProxy is dead, hangs or answers nothing and a peer
does answer: an address that nobody has would help nobody. And it ends with 1 where the file AWAY says that an operator
has taken this balancer out. Without peers it tells how the HAProxy of this host is. Peers are asked from the address
OWN, by which they know this balancer: they answer nobody else, and a host may have several in their network.

The second line is what systemd runs where HAProxy has ended, so that nobody waits for the next question: where another
balancer answers, keepalived reads in FILE that this one is down, until HAProxy has started again.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from time import monotonic

# What the edge answers itself, to the balancers alone.
PAGE = "/.well-known/slipway-edge"
# Seconds.
PATIENCE, FOR_OPERATORS = 1.0, 0.5
# The same where HAProxy is to start again as soon as that is known.
HURRIED = 0.3
# What a file says to keepalived of one that is down (keepalived.conf(5), track_file).
DOWN = "-254\n"
LIMIT = 65536


def _asked(where: str, own: str, patience: float) -> socket.socket:
    """A new connection to the frontend, ADDRESS:PORT, that was asked for its page. Raises OSError."""
    address, _, port = where.rpartition(":")
    connection = socket.create_connection((address, int(port)), patience, (own, 0) if own else None)
    connection.sendall(f"GET {PAGE} HTTP/1.0\r\nHost: slipway-edge\r\n\r\n".encode())
    return connection


def _good(connection: socket.socket, patience: float) -> bool:
    """Raises OSError, of which socket.timeout is one."""
    connection.settimeout(patience)
    return connection.recv(64).split()[1:2] == [b"200"]


def answers(where: str, own: str = "", patience: float = PATIENCE) -> bool:
    """Whether a new connection to the frontend is taken, and asked for its page, answered."""
    try:
        with _asked(where, own, patience) as connection:
            return _good(connection, patience)
    except OSError:
        return False


def serves(where: str, path: str) -> bool:
    """Whether the edge of this host answers, or says that it has as many connections as it takes.

    It is asked for that while its page does not come yet, so one that hangs has a second for both.
    """
    began, silent = monotonic(), False
    try:
        with _asked(where, "", PATIENCE) as connection:
            with suppress(socket.timeout):  # before Python 3.10 this is no TimeoutError
                if _good(connection, PATIENCE - FOR_OPERATORS):
                    return True
            silent = not is_full(path)
            return not silent or _good(connection, max(began + PATIENCE - monotonic(), 0.01))
    except OSError:
        return not silent and is_full(path)


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


def may_have_it(where: str, path: str, away: str, own: str = "", *peers: str) -> bool:
    """Whether this balancer may have the floating address."""
    if os.path.exists(away):
        return False
    return serves(where, path) or (bool(peers) and not any(answers(peer, own) for peer in peers))


def stopped(path: str, *balancers: str) -> None:
    """Have another balancer take the addresses at once, where there is one that answers. Raises OSError.

    Nobody connects from an address that another machine has, so which of the balancers this one is need not be said.
    """
    every = [(one, own.rpartition(":")[0]) for one in balancers for own in balancers if own != one]
    if os.path.exists(path) and any(answers(one, own, HURRIED) for one, own in every):
        with open(path, "w", encoding="ascii") as file:
            file.write(DOWN)


if __name__ == "__main__":
    if sys.argv[1] == "stopped":
        stopped(*sys.argv[2:])
        sys.exit()
    sys.exit(0 if may_have_it(*sys.argv[1:]) else 1)
