"""HAProxy's runtime API, as far as a release needs it."""

from __future__ import annotations

import csv
import fcntl
import io
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ..host.durable import write_durably
from ..host.errors import SlipwayError
from . import maps

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


class NoBackend(EdgeError):
    """HAProxy answers, and does not have the servers of this app."""


class NotStored(EdgeError):
    """A state is set in the running HAProxy, and its next reload or start would forget it."""


# What ends each answer of a conversation (HAProxy management guide, section 9.3, `prompt`).
PROMPT = b"\n> "
# What a worker that goes says of anything that is set; the one that has come is asked then.
GOING = "Proxy is disabled."
# What each slot's check asks, as a map of HAProxy beside the file of its states: BACKEND/SLOT PATH|HOST|PROTO.
CHECKS = "health.map"
CHECKS_HEADER = "# How the edge looks at the release in each slot; written when a release is started.\n"
# What HAProxy says where its configuration reads no such map, and where a map has no such entry.
NO_MAP, NO_ENTRY = "unknown map", "entry not found"
# How the table of `show servers state` begins.
STATES = "# be_id "
# The columns of its tables that are read.
STATE = ("be_name", "srv_name", "srv_admin_state")
STATISTICS = ("pxname", "svname", "status", "check_status", "scur")
# What the second door of a slot is called at the edge, after the first: a port on loopback beside the socket.
PORT = "-port"
# That a server is `disabled` in the configuration (srv_admin_state), whatever was set since.
CONFIGURED = 4
UNKNOWN = "No such server."
# Dumps that are compared with what was set before it is given up; a reload in between takes one.
ATTEMPTS = 5
# That with which Ubuntu 22.04 came out; 2.4.0 lacks words of the configuration. A package from elsewhere may be as old.
OLDEST = (2, 4, 14)
_VERSION = re.compile(r"^HA-?Proxy version (\d+)\.(\d+)(?:\.(\d+))?", re.MULTILINE)
ANSWER_LIMIT = 16 << 20  # bytes; a host with a thousand servers answers with less than one


def outdated(said: str) -> str:
    """The version of a HAProxy that is older than the edge can be, by what `haproxy -v` says; empty for any other."""
    found = _VERSION.search(said)
    version = tuple(int(part or 0) for part in found.groups()) if found else OLDEST
    return "" if version >= OLDEST else ".".join(map(str, version))


@dataclass(frozen=True)
class Server:
    """One slot as HAProxy sees it: `enabled` by either door, `answers` behind the one that its release opens.

    `sessions` are requests in flight; kept-alive idle connections do not count. `check` is what its last check got, in
    HAProxy's words, such as `L7STS 404 Not Found`. `shut` is one of which the other door alone is enabled, and nobody
    answers there. `down` is one that HAProxy has given up by its check, `since` the seconds for which it is as it is.
    """

    enabled: bool
    answers: bool
    sessions: int
    check: str = field(default="", compare=False)
    shut: bool = False
    down: bool = field(default=False, compare=False)
    since: int = field(default=0, compare=False)


def rows_of(table: str, delimiter: str, needed: Sequence[str], backend: str = "") -> list[dict[str, str]]:
    """The lines of a table by the names of its columns, with a backend those that begin with it alone.

    The first of the needed columns is that of the backend. Raises EdgeError where a line lacks some.

    In a reload, or at its limit, an answer may end in the middle of a line.
    """
    lines = [line for line in table.replace("\0", "").splitlines() if line.strip()]
    start = next((number for number, line in enumerate(lines) if line.startswith("# ")), 0)
    try:
        rows = list(csv.DictReader(io.StringIO("\n".join(lines[start:])[2:]), delimiter=delimiter))
    except csv.Error as error:
        raise EdgeError(f"HAProxy's answer is no table ({error}); is it being reloaded?") from error
    found = [row for row in rows if not backend or row.get(needed[0]) == backend]
    for row in found:
        if any(not isinstance(row.get(name), str) for name in needed):
            raise EdgeError(
                f"HAProxy's answer was cut off in a line without {', '.join(needed)}; is it being reloaded?"
            )
    return found


def number_in(row: dict[str, str], name: str) -> int:
    """A number in a line; nothing there is none. Raises EdgeError."""
    text = row[name]
    if text and not re.fullmatch("[0-9]{1,18}", text):
        raise EdgeError(f"HAProxy's answer has {text[:40]!r} where {name} is; is it being reloaded?")
    return int(text or 0)


def _answered(connection: socket.socket, command: str) -> str:
    """The answer to one command of a conversation. Raises OSError."""
    connection.sendall(f"{command}\n".encode())
    answer = b""
    while not answer.endswith(PROMPT):
        chunk = connection.recv(65536)
        if not chunk or len(answer) > ANSWER_LIMIT:
            raise OSError("the answer has no end")
        answer += chunk
    return answer[: -len(PROMPT)].decode(errors="replace")


def parse_servers(statistics: str, states: str, backend: str) -> dict[str, Server]:
    """Servers of `backend` by name, from `show stat` (CSV) and `show servers state` (columns).

    The administrative state is read from the second one only, because the first shows a drained server whose check
    fails as plain DOWN (HAProxy management guide, section 9.3, `show servers state`: srv_admin_state 0 is enabled).
    """
    enabled = {row["srv_name"]: _enabled(row) for row in rows_of(states, " ", STATE, backend)}
    return {
        row["svname"]: Server(
            enabled=enabled[row["svname"]],
            answers=row["status"] != "DOWN" and row["check_status"].lstrip("* ").endswith("OK"),
            sessions=number_in(row, "scur"),
            # A star says that the next one is under way.
            check=" ".join(filter(None, map(row.get, ("check_status", "check_code", "last_chk")))).lstrip("* "),
            down=row["status"].startswith("DOWN"),
            since=_seconds(row.get("lastchg")),
        )
        for row in rows_of(statistics, ",", STATISTICS, backend)
        if row["svname"] in enabled
    }


def _seconds(text: Optional[str]) -> int:
    """Of a column that nothing is decided by; nothing where it has no number."""
    return int(text) if text and re.fullmatch("[0-9]{1,18}", text) else 0


def by_slot(doors: Mapping[str, Server], by_port: Callable[[str], bool]) -> dict[str, Server]:
    """The servers of a host that serves, with both doors of a slot as one.

    The slot answers where its release does: somebody else may listen behind the door that it does not open.
    """
    found = dict(doors)
    for name in doors:
        slot = name[: -len(PORT)]
        if name.endswith(PORT) and slot in found:
            both = found[slot], found.pop(name)
            opened, closed = both[by_port(slot)], both[not by_port(slot)]
            found[slot] = Server(
                enabled=any(door.enabled for door in both),
                answers=opened.answers,
                sessions=sum(door.sessions for door in both),
                check=opened.check,
                shut=closed.enabled and not closed.answers and not opened.enabled,
            )
    return found


def _enabled(row: dict[str, str]) -> bool:
    return number_in(row, "srv_admin_state") & ~CONFIGURED == 0


def parse_ports(states: str) -> dict[tuple[str, str], int]:
    """The port of this host behind each backend's slot, from `show servers state`."""
    return {
        (row["be_name"], row["srv_name"][: -len(PORT)]): number_in(row, "srv_port")
        for row in rows_of(states, " ", ("be_name", "srv_name", "srv_addr", "srv_port"))
        if row["srv_name"].endswith(PORT) and row["srv_addr"].startswith("127.")
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
        by_port: Optional[Callable[[str], bool]] = None,
    ) -> None:
        """`by_port` tells whether what is in a slot listens on the slot's port, and not on its socket.

        Without it a server has one door, as the hosts behind a balancer have.
        """
        self.admin_socket = admin_socket
        self.backend = backend
        self.state_file = Path(state_file)
        self.checks = self.state_file.parent / CHECKS
        self.timeout = timeout
        self.expected = set(expected)
        self.by_port = by_port

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
            raise self._silent(error) from error
        return answer.decode(errors="replace")

    def _silent(self, error: OSError) -> EdgeError:
        return EdgeError(
            f"HAProxy does not answer on {self.admin_socket} ({error}); "
            "look at `systemctl status haproxy`, then run slipway.fleet.provision"
        )

    @contextmanager
    def one_worker(self) -> Iterator[Callable[[str], str]]:
        """A conversation: its commands, each alone, are answered by the worker that answers the first one.

        In a reload that may be the one that goes, and what is set there ends with it. Raises EdgeError.
        """
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.settimeout(self.timeout)
                connection.connect(self.admin_socket)
                _answered(connection, "prompt")
                yield lambda command: _answered(connection, command)
        except OSError as error:
            raise self._silent(error) from error

    def servers(self) -> dict[str, Server]:
        """The servers (on a host that serves, both slots) as HAProxy sees them.

        Raises EdgeError when the configuration does not know the app.
        """
        # One connection for both: in a reload two may be answered by two workers, which do not know the same.
        statistics, mark, states = self.ask("show stat;show servers state").partition(STATES)
        return self._parsed(statistics, mark + states)

    def in_flight(self) -> int:
        """Requests of all backends that are under way. Raises EdgeError."""
        return self._current("BACKEND")

    def connections(self) -> int:
        """Connections of clients, those among them that have asked nothing yet. Raises EdgeError."""
        return self._current("FRONTEND")

    def _current(self, side: str) -> int:
        rows = rows_of(self.ask("show stat"), ",", STATISTICS)
        return sum(number_in(row, "scur") for row in rows if row["svname"] == side)

    def ports(self) -> dict[tuple[str, str], int]:
        """The port of this host behind each backend's slot, as the edge has them. Raises EdgeError."""
        return parse_ports(self.ask("show servers state").lstrip("\n"))

    def _parsed(self, statistics: str, states: str) -> dict[str, Server]:
        found = parse_servers(statistics, states, self.backend)
        if self.by_port:
            found = by_slot(found, self.by_port)
        if not self.expected <= set(found):
            raise NoBackend(
                f"HAProxy has no backend {self.backend} with the servers {' and '.join(sorted(self.expected))}; "
                "run slipway.fleet.provision with its inventory"
            )
        return found

    def set_state(self, slot: str, state: str, beside: str = "", checked: bool = False) -> None:
        """Set `slot` to ready or drain, and write the states down so that a reload or a reboot keeps them.

        A third one is maint, see `leave`; with `checked` the server begins as one that did not pass its check.

        Ready is the door that its release opens: whoever else listens behind the other one gets nothing. Drained are
        both, so that the edge sees by its own check what is started there.

        `beside` is the slot that gets the requests instead: it is set to ready before, and a slot that answers loses
        none to one that does not. That is asked and done in one conversation, since in a reload the worker that takes a
        slot its requests may be another one than that which has seen the other slot well.

        The dump that is stored says what was set: in a reload the worker that comes may not know it, and is told again.

        Raises EdgeError when HAProxy refuses or does not answer, and where `beside` does not; NotStored when the states
        cannot be written.
        """
        with self._alone():
            for attempt in range(ATTEMPTS):
                if attempt:
                    time.sleep(0.1 * attempt)
                if beside:
                    with self.one_worker() as ask:
                        self._require_well(ask, beside, slot)
                        self._set(ask, beside, "ready")
                        self._set(ask, slot, state)
                else:
                    self._set(self.ask, slot, state, checked)
                dump = self.ask("show servers state").lstrip("\n")
                if self._is(dump, slot, state) and (not beside or self._is(dump, beside, "ready")):
                    self._store(dump)
                    if beside or state == "ready":
                        self._serve_waiting()
                    return
        raise EdgeError(f"HAProxy did not keep `set server {self.backend}/{slot} state {state}`; is it being reloaded?")

    def sticky(self, server: str) -> bool:
        """Whether clients come back to this server by a cookie, drained or not. Raises EdgeError."""
        rows = rows_of(self.ask("show stat"), ",", STATISTICS, self.backend)
        return any(row.get("cookie") for row in rows if row["svname"] == server)

    def leave(self, server: str) -> None:
        """Have a server get nothing new, not even from clients that have its cookie; what is open there stays.

        It is not checked meanwhile, so `come_back` puts it back. Raises EdgeError and NotStored.
        """
        self.set_state(server, "maint")

    def come_back(self, server: str) -> None:
        """Have it get requests once a check has passed: HAProxy would take it for as well as it was before.

        Raises EdgeError and NotStored.
        """
        self.set_state(server, "ready", checked=True)

    def _serve_waiting(self) -> None:
        """Have the servers take what waits at the edge, where they have a limit (fastapi_app_max_connections).

        HAProxy looks for what waits when a server ended a request, and not when it becomes ready; all that comes lines
        up behind it then. Being told its limit again has a server look, too (server.c of HAProxy 2.4 to 3.0).
        """
        with suppress(EdgeError):
            for row in rows_of(self.ask("show stat"), ",", (*STATISTICS, "slim"), self.backend):
                if row["slim"] and row["svname"] != "BACKEND":
                    self.ask(f"set maxconn server {self.backend}/{row['svname']} {row['slim']}")

    def _require_well(self, ask: Callable[[str], str], beside: str, slot: str) -> None:
        servers = self._parsed(ask("show stat"), ask("show servers state"))
        if servers[slot].enabled and servers[slot].answers and not servers[beside].answers:
            raise EdgeError(f"HAProxy's check of slot {beside} does not pass, so slot {slot} keeps its requests")

    def _set(self, ask: Callable[[str], str], slot: str, state: str, checked: bool = False) -> None:
        for door, its in self._doors(slot, state).items():
            command = f"set server {self.backend}/{door} state {its}"
            if checked:
                command += f";set server {self.backend}/{door} health down"
            # One line of each part of the command that was not done.
            said = [line for line in map(str.strip, ask(command).splitlines()) if line not in ("", GOING)]
            if said == [UNKNOWN] and door != slot and its != "ready":
                continue  # an edge from before slots had ports
            if said:
                raise EdgeError(f"HAProxy refused `{command}`: {' '.join(said)}")

    def _doors(self, slot: str, state: str) -> dict[str, str]:
        """The state of each door of a slot that is to be ready or drained, that of the socket first."""
        if self.by_port is None:
            return {slot: state}
        if state != "ready":
            return {slot: state, slot + PORT: state}
        by_port = self.by_port(slot)
        return {slot: "maint" if by_port else "ready", slot + PORT: "ready" if by_port else "maint"}

    def set_check(self, slot: str, path: str, host: str, proto: str) -> None:
        """Have HAProxy's own check of `slot` ask for `path` as of `host` and `proto`, now and after a reload.

        One that reads no such map (its configuration is older) goes on to ask what it did. Raises EdgeError, and
        NotStored where it is set and a reload would forget it.
        """
        key, value = f"{self.backend}/{slot}", f"{path}|{host}|{proto}"
        with self._alone():
            entries = self._checks()
            trouble: Optional[OSError] = None
            if entries.get(key) != value:
                # Stored first: a worker that comes reads it, whenever it begins.
                try:
                    write_durably(self.checks, maps.render({**entries, key: value}, CHECKS_HEADER), mode=0o644)
                except OSError as error:
                    trouble = error
            self._have_checked({key: value})
        if trouble:
            raise NotStored(
                f"{self.checks} cannot be written ({trouble.strerror or trouble}), so a reload would forget how slot "
                f"{slot} is looked at; free space or mend the file system"
            )

    def keep_checks(self) -> None:
        """Tell HAProxy what is stored of the checks of this backend, where it knows something else. Raises EdgeError.

        In a reload the worker that comes may have read what was stored before.
        """
        wanted = {key: value for key, value in self._checks().items() if key.startswith(f"{self.backend}/")}
        if wanted:
            self._have_checked(wanted)

    def _have_checked(self, wanted: dict[str, str]) -> None:
        shown = self.ask(f"show map {self.checks}")
        known = maps.parse_shown(shown)
        if NO_MAP in shown.lower():
            return
        for key, value in wanted.items():
            if known.get(key) == value:
                continue
            command = f"{'set' if key in known else 'add'} map {self.checks} {key} {value}"
            said = self.ask(command).strip()
            if said and NO_ENTRY not in said and GOING not in said:
                raise EdgeError(f"HAProxy refused `{command}`: {said}")

    def _checks(self) -> dict[str, str]:
        try:
            return maps.read(self.checks)
        except OSError:
            return {}

    def save(self, changed: Callable[[str], str] = str) -> None:
        """Write the states of all servers down as they are, or as `changed` makes them of the dump.

        Raises EdgeError and NotStored.
        """
        with self._alone():
            self._store(changed(self.ask("show servers state").lstrip("\n")))

    def _store(self, dump: str) -> None:
        try:
            write_durably(self.state_file, dump, mode=0o644)
        except OSError as error:
            raise NotStored(
                f"{self.state_file} cannot be written ({error.strerror or error}), so a reload would forget which slot "
                "serves; free space or mend the file system"
            ) from error

    def _is(self, dump: str, slot: str, state: str) -> bool:
        doors = self._doors(slot, state)
        enabled = {
            row["srv_name"]
            for row in rows_of(dump, " ", STATE, self.backend)
            if row["srv_name"] in doors and _enabled(row)
        }
        return enabled == {door for door, its in doors.items() if its == "ready"}

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
                "then run slipway.fleet.provision"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
