"""HAProxy's runtime API, as far as a release needs it."""

from __future__ import annotations

import csv
import io
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..host.durable import write_durably
from ..host.errors import SlipwayError
from ..release.model import SLOTS

# How a module is told where the edge is; the fields are the arguments of Edge.
EDGE_ARGUMENT: dict[str, Any] = {
    "type": "dict",
    "required": True,
    "options": {
        "socket": {"type": "path", "required": True},
        "backend": {"type": "str", "required": True},
        "state_file": {"type": "path", "required": True},
    },
}


class EdgeError(SlipwayError):
    """HAProxy did not do what it was told; the text says what and what to look at."""


@dataclass(frozen=True)
class Server:
    """One slot as HAProxy sees it. `sessions` are requests in flight; kept-alive idle connections do not count."""

    enabled: bool
    answers: bool
    sessions: int


def _rows(table: str, delimiter: str) -> list[dict[str, str]]:
    lines = [line for line in table.splitlines() if line.strip()]
    start = next((number for number, line in enumerate(lines) if line.startswith("# ")), 0)
    return list(csv.DictReader(io.StringIO("\n".join(lines[start:])[2:]), delimiter=delimiter))


def parse_servers(statistics: str, states: str, backend: str) -> dict[str, Server]:
    """Servers of `backend` by name, from `show stat` (CSV) and `show servers state` (columns).

    The administrative state is read from the second one only, because the first shows a drained server whose check
    fails as plain DOWN (HAProxy management guide, section 9.3, `show servers state`: srv_admin_state 0 is enabled).
    """
    enabled = {
        row["srv_name"]: row["srv_admin_state"] == "0" for row in _rows(states, " ") if row["be_name"] == backend
    }
    return {
        row["svname"]: Server(
            enabled=enabled[row["svname"]],
            answers=row["status"] != "DOWN" and row["check_status"].lstrip("* ").endswith("OK"),
            sessions=int(row["scur"] or 0),
        )
        for row in _rows(statistics, ",")
        if row["pxname"] == backend and row["svname"] in enabled
    }


class Edge:
    """One backend behind HAProxy's admin socket."""

    def __init__(
        self,
        admin_socket: str,
        backend: str,
        state_file: str,
        timeout: float = 5.0,
        expected: Sequence[str] = SLOTS,
    ) -> None:
        self.admin_socket = admin_socket
        self.backend = backend
        self.state_file = Path(state_file)
        self.timeout = timeout
        self.expected = set(expected)

    def ask(self, command: str) -> str:
        """HAProxy's answer to one command. Raises EdgeError when nothing answers."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(self.timeout)
                connection.connect(self.admin_socket)
                connection.sendall(f"{command}\n".encode())
                answer = b""
                while chunk := connection.recv(65536):
                    answer += chunk
        except OSError as error:
            raise EdgeError(
                f"HAProxy does not answer on {self.admin_socket} ({error}); "
                "look at `systemctl status haproxy`, then run the provision playbook"
            ) from error
        return answer.decode()

    def servers(self) -> dict[str, Server]:
        """The servers (on a host that serves, both slots) as HAProxy sees them.

        Raises EdgeError when the configuration does not know the app.
        """
        found = parse_servers(self.ask("show stat"), self.ask("show servers state"), self.backend)
        if not self.expected <= set(found):
            raise EdgeError(
                f"HAProxy has no backend {self.backend} with the servers {' and '.join(sorted(self.expected))}; "
                "list them in haproxy_apps and run the provision playbook"
            )
        return found

    def set_state(self, slot: str, state: str) -> None:
        """Set `slot` to ready or drain, and write the states down so that a reload or a reboot keeps them."""
        answer = self.ask(f"set server {self.backend}/{slot} state {state}").strip()
        if answer:
            raise EdgeError(f"HAProxy refused `set server {self.backend}/{slot} state {state}`: {answer}")
        self.save()

    def save(self) -> None:
        write_durably(self.state_file, self.ask("show servers state").lstrip("\n"), mode=0o644)
