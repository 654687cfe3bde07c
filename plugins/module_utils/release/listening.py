"""Where processes listen, from the kernel's tables."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Optional

from ..host import command

# 127.0.0.11, where Docker answers name look-ups inside every container; not the app's.
DOCKER_DNS = "0B00007F"
# What is added to the one port that EXPOSE of an image names, see `exposed`.
EXPOSED = " (EXPOSE of the image)"
_SOCKET = re.compile(r"socket:\[(\d+)\]")
# A line of /proc/net/tcp or tcp6 in state 0A, LISTEN: address, port and, with five columns between, the inode.
_LISTENS = re.compile(r"\s*\d+: ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) \S+ 0A(?:\s+\S+){5}\s+(\d+)\s", re.ASCII)


def parse_listening(tables: str, inodes: Optional[set[str]] = None) -> list[str]:
    """Listening TCP ports and named Unix sockets, from /proc/net/tcp (state 0A) and /proc/net/unix (flag 00010000).

    A port that is listened to on loopback alone says so: `tcp port 8000 on 127.0.0.1`, and one of another address
    alone: `tcp port 8000 at 10.0.0.5`. With `inodes` only these sockets count: on a host the tables are those of all
    processes.
    """
    found = []
    for line in tables.splitlines():
        fields = line.split()
        if match := _LISTENS.match(line):
            host, port, inode = match.groups()
            if host == DOCKER_DNS:
                continue
            address = f"tcp port {int(port, 16)}{_only(host)}"
        elif len(fields) == 8 and fields[3] == "00010000":
            address, inode = f"socket {fields[7]}", fields[6]
        else:
            continue
        if inodes is None or inode in inodes:
            found.append(address)
    return sorted(set(found))


def _only(host: str) -> str:
    """Of which address alone, from the kernel's words of four bytes, the last byte first; empty where it is of all."""
    raw = b"".join(bytes.fromhex(host[at : at + 8])[::-1] for at in range(0, len(host), 8))
    address = ipaddress.ip_address(raw)
    # A socket of IPv6 may be bound to an address of IPv4.
    address = getattr(address, "ipv4_mapped", None) or address
    return "" if address.is_unspecified else f" {'on' if address.is_loopback else 'at'} {address}"


def open_ports(addresses: list[str]) -> list[str]:
    """Those of what `parse_listening` found on a host that others than the host itself reach."""
    return [address for address in addresses if address.startswith("tcp ") and " on " not in address]


def exposed(addresses: list[str], ports: Iterable[str]) -> list[str]:
    """What `parse_listening` found in a container whose image EXPOSEs `ports` (`80/tcp`): said of the one it names.

    Of several nobody knows which one is for requests.
    """
    port = str(the_one(ports))
    return [
        address + EXPOSED if address.startswith("tcp ") and address.split()[2] == port else address
        for address in addresses
    ]


def the_one(ports: Iterable[str]) -> int:
    """The one TCP port among those that an image EXPOSEs (`80/tcp`); 0 where there is none, or more than one."""
    tcp = [port.partition("/")[0] for port in ports if port.endswith("/tcp")]
    return int(tcp[0]) if len(tcp) == 1 else 0


def tables_of(process: Path) -> str:
    """The kernel's tables of the network that a process (/proc/PID) is in; empty when it is gone."""
    tables = []
    for name in ("tcp", "tcp6", "unix"):
        with suppress(OSError):  # without IPv6 there is no tcp6
            tables.append((process / "net" / name).read_text(encoding="utf-8", errors="replace"))
    return "".join(tables)


def holder_of(port: int) -> Optional[str]:
    """Who has a TCP port of this host: the container that Docker publishes it for, or a process that listens.

    The container's name says more than that of the process which passes connections on, and there need not be one.
    None where nobody has it.
    """
    try:
        ran = command.run(["docker", "ps", "--filter", f"publish={port}", "--format", "{{.Names}}"], 30)
    except command.CommandError:
        return listener_of(port)
    names = ran.stdout.split() if ran.returncode == 0 else []
    return f"the container {names[0]}" if names else listener_of(port)


def listener_of(port: int, processes: Path = Path("/proc")) -> Optional[str]:
    """Who listens on a TCP port of this host, on any of its addresses: name and id of a process.

    None where nobody does; that somebody does whose process cannot be seen is said, too.
    """
    inodes = {
        match[3]
        for match in map(_LISTENS.match, tables_of(processes / "self").splitlines())
        if match and int(match[2], 16) == port
    }
    if not inodes:
        return None
    for process in processes.glob("[0-9]*"):
        if sockets_of(process) & inodes:
            with suppress(OSError):
                name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                return f"{name} (pid {process.name})"
    return "a process that cannot be seen"


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
