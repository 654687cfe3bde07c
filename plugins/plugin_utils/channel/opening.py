# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The beginning of a channel, up to the agent's first frame: noise, passwords, an agent that is missing, refusals.

A state machine without a connection: it gets what the host says and tells what is to be sent.
"""

from __future__ import annotations

import secrets
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from ansible_collections.slipway.fleet.plugins.module_utils.agent.protocol import HELLO, MISSING, REFUSED
from ansible_collections.slipway.fleet.plugins.module_utils.host.reading import json_of
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.archive import Agent
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.way import Become, last_line, plain
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Unreachable

# Where a host keeps agents.
PLACE = "/var/lib/slipway/agent"
# Bytes of what a host said that are kept for a message.
MEMORY = 4096
NO_COMMAND = 127


def new_mark() -> str:
    """A word that no banner has."""
    return f"slipway-{secrets.token_hex(8)}"


def command(agent: Agent, mark: str, python: str, place: str = PLACE, sent: bool = False) -> str:
    """The command of the host's shell that runs the agent. `python` is a path or a word of the shell.

    With `sent` the agent's bytes come in any case, also where another run has brought them meanwhile.
    """
    # Isolated: neither the user's directory nor the environment says what root imports. Nothing of the host's Python
    # is needed but the standard library.
    arguments = (agent.bootstrap, mark, agent.digest, str(len(agent.data)), place, *(["sent"] if sent else []))
    return f"exec {python} -IS -c {' '.join(map(shlex.quote, arguments))}"


@dataclass
class Opening:
    """How far a channel is. `early` is what may be sent at once where no password is asked for."""

    agent: Agent
    mark: str
    early: bytearray
    become: Become | None = None
    noise: bytearray = field(default_factory=bytearray)  # last words on stdout
    errors: bytearray = field(default_factory=bytearray)  # last words on stderr
    open: bool = False
    _line: bytearray = field(default_factory=bytearray)
    _greeted: bool = False
    _identified: bool = False

    def begin(self) -> bytes:
        """What to send before the host said anything."""
        return b"" if self.become and self.become.password else self._greeting()

    def _greeting(self) -> bytes:
        greeting = b"" if self._greeted else bytes(self.early)
        self._greeted = True
        return greeting

    def hear(self, data: bytes) -> Iterator[bytes]:
        """Take from stdout; yields what is to be sent, and stops when the channel is open. Raises Refused."""
        self._line += data
        while not self.open and (end := self._line.find(b"\n")) >= 0:
            line = bytes(self._line[:end])
            del self._line[: end + 1]
            word = line.split()
            if word[:1] == [self.mark.encode()] and len(word) > 1:
                yield from self._told(word[1].decode(errors="replace"), line)
            else:
                _remember(self.noise, line + b"\n")
                self._require_right_password(line)
        if not self.open:
            del self._line[:-MEMORY]  # a greeting is shorter, and so is a prompt
            yield from self._identify(self._line)

    def rest(self) -> bytes:
        """What came after the line with which the channel opened."""
        rest = bytes(self._line)
        self._line.clear()
        return rest

    def hear_error(self, data: bytes) -> Iterator[bytes]:
        """Take from stderr; yields what is to be sent. Raises Refused."""
        _remember(self.errors, data)
        if not self.open:
            self._require_right_password(bytes(self.errors))
            yield from self._identify(self.errors)

    def _told(self, word: str, line: bytes) -> Iterator[bytes]:
        if word == HELLO:
            self.open = True
            yield self._greeting()
        elif word == MISSING:
            yield self._greeting()
            yield f"{self.mark}\n".encode() + self.agent.data
        elif word == REFUSED:
            raise Refused(_said(b"".join(line.split(maxsplit=2)[2:])))

    def _identify(self, said: bytearray) -> Iterator[bytes]:
        """Answer once who asks for a password: with a line that is not ended."""
        prompt = bytes(said).rsplit(b"\n", 1)[-1].strip()
        if not prompt or self.become is None or not self.become.asks(prompt):
            return
        if not self.become.password:
            raise Refused(self._without_password())
        if self._identified:
            raise Refused(self._wrong_password())
        self._identified = True
        said.clear()
        yield self.become.password + b"\n"

    def _require_right_password(self, said: bytes) -> None:
        if self._identified and self.become and self.become.wrong(said):
            raise Refused(self._wrong_password())

    def _wrong_password(self) -> str:
        name = self.become.name if self.become else ""
        return f"the become password is wrong for {name} on the host; it comes from -K or ansible_become_password"

    def _without_password(self) -> str:
        name = self.become.name if self.become else ""
        return (
            f"{name} on the host wants a password and has none; give it with -K or ansible_become_password, or let the "
            "remote user become root without one"
        )

    def failure(self, code: int | None) -> Exception:
        """Why the process ended before the channel was open. `code` is its exit code."""
        said = last_line(bytes(self.errors)) or last_line(bytes(self.noise + self._line))
        name = self.become.name if self.become else ""
        if self.become and self.become.missing(bytes(self.errors + self.noise)):
            return Refused(self._without_password())
        if name and f"{name}: " in said:
            return Refused(f"cannot become root on the host: {said}")
        if code == NO_COMMAND:
            return Refused(
                f"there is no Python on the host ({said}); install python3, or say in ansible_python_interpreter where "
                "it is"
            )
        return Unreachable(said or f"the connection ended before the host said anything (exit code {code})")

    def last_words(self) -> str:
        """What the connection said last, for the message of a channel that broke."""
        return last_line(bytes(self.errors))


def _remember(memory: bytearray, said: bytes) -> None:
    memory += said
    del memory[:-MEMORY]


def _said(text: bytes) -> str:
    try:
        return str(json_of(text))
    except ValueError:
        return plain(text)
