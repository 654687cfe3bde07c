"""HAProxy's runtime API, as far as a release needs it."""

from __future__ import annotations

import csv
import fcntl
import io
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..host.durable import write_durably
from ..host.errors import SlipwayError

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


class NotStored(EdgeError):
    """A state is set in the running HAProxy, and its next reload or start would forget it."""


# How the table of `show servers state` begins.
STATES = "# be_id "
# Dumps that are compared with what was set before it is given up; a reload in between takes one.
ATTEMPTS = 5
ANSWER_LIMIT = 16 << 20  # bytes; a host with a thousand servers answers with less than one


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
        expected: Sequence[str] = ("blue", "green"),
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
                while len(answer) < ANSWER_LIMIT and (chunk := connection.recv(65536)):
                    answer += chunk
        except OSError as error:
            raise EdgeError(
                f"HAProxy does not answer on {self.admin_socket} ({error}); "
                "look at `systemctl status haproxy`, then run the provision playbook"
            ) from error
        return answer.decode(errors="replace")

    def servers(self) -> dict[str, Server]:
        """The servers (on a host that serves, both slots) as HAProxy sees them.

        Raises EdgeError when the configuration does not know the app.
        """
        # One connection for both: in a reload two may be answered by two workers, which do not know the same.
        statistics, mark, states = self.ask("show stat;show servers state").partition(STATES)
        found = parse_servers(statistics, mark + states, self.backend)
        if not self.expected <= set(found):
            raise EdgeError(
                f"HAProxy has no backend {self.backend} with the servers {' and '.join(sorted(self.expected))}; "
                "list them in haproxy_apps and run the provision playbook"
            )
        return found

    def set_state(self, slot: str, state: str, beside: str = "") -> None:
        """Set `slot` to ready or drain, and write the states down so that a reload or a reboot keeps them.

        `beside` is a slot that is set to ready over the same connection, before: in a reload the worker that takes a
        slot its requests may be another one than that which was told who gets them instead.

        The dump that is stored says what was set: in a reload the worker that comes may not know it, and is told again.

        Raises EdgeError when HAProxy refuses or does not answer, NotStored when the states cannot be written.
        """
        with self._alone():
            for attempt in range(ATTEMPTS):
                if attempt:
                    time.sleep(0.1 * attempt)
                first = f"set server {self.backend}/{beside} state ready;" if beside else ""
                answer = self.ask(f"{first}set server {self.backend}/{slot} state {state}").strip()
                if answer:
                    raise EdgeError(f"HAProxy refused `set server {self.backend}/{slot} state {state}`: {answer}")
                dump = self.ask("show servers state").lstrip("\n")
                if self._enabled(dump, slot) == (state == "ready"):
                    self._store(dump)
                    return
        raise EdgeError(f"HAProxy did not keep `set server {self.backend}/{slot} state {state}`; is it being reloaded?")

    def save(self) -> None:
        """Write the states of all servers down as they are. Raises EdgeError and NotStored."""
        with self._alone():
            self._store(self.ask("show servers state").lstrip("\n"))

    def _store(self, dump: str) -> None:
        try:
            write_durably(self.state_file, dump, mode=0o644)
        except OSError as error:
            raise NotStored(
                f"{self.state_file} cannot be written ({error.strerror or error}), so a reload would forget which slot "
                "serves; free space or mend the file system"
            ) from error

    def _enabled(self, dump: str, slot: str) -> bool:
        return any(
            row["srv_admin_state"] == "0"
            for row in _rows(dump, " ")
            if (row["be_name"], row["srv_name"]) == (self.backend, slot)
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One process at a time sets, dumps and stores: the dump has the servers of every app of this host.

        The lock is in the directory of the admin socket, which is in memory: a full disk is no reason not to switch.
        That directory may be HAProxy's own, so no link is followed and nothing that is there is written to.
        """
        path = Path(self.admin_socket).parent / ".slipway.lock"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EdgeError(
                f"HAProxy's states cannot be locked ({path}: {error.strerror}); look at `systemctl status haproxy`, "
                "then run the provision playbook"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
