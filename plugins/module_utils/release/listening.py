"""Where processes listen, from the kernel's tables."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Optional

# 127.0.0.11, where Docker answers name look-ups inside every container; not the app's.
DOCKER_DNS = "0B00007F:"
_SOCKET = re.compile(r"socket:\[(\d+)\]")


def parse_listening(tables: str, inodes: Optional[set[str]] = None) -> list[str]:
    """Listening TCP ports and named Unix sockets, from /proc/net/tcp (state 0A) and /proc/net/unix (flag 00010000).

    With `inodes` only these sockets count: on a host the tables are those of all processes.
    """
    found = []
    for line in tables.splitlines():
        fields = line.split()
        if len(fields) > 9 and fields[3] == "0A" and not fields[1].startswith(DOCKER_DNS):
            address, inode = f"tcp port {int(fields[1].rpartition(':')[2], 16)}", fields[9]
        elif len(fields) == 8 and fields[3] == "00010000":
            address, inode = f"socket {fields[7]}", fields[6]
        else:
            continue
        if inodes is None or inode in inodes:
            found.append(address)
    return sorted(set(found))


def sockets_of(process: Path) -> set[str]:
    """Inodes of the sockets that a process (/proc/PID) has open; none when it is gone."""
    found = set()
    try:
        for descriptor in (process / "fd").iterdir():
            if match := _SOCKET.match(os.readlink(descriptor)):
                found.add(match.group(1))
    except OSError:
        pass
    return found
