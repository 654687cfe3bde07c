"""What the controller and the agent of a host say to each other.

A frame is one line of JSON, an object. With `blob` in it that many bytes follow the line. The controller asks
{id, verb, arguments}; the agent answers {id, event} any number of times and then {id, result} or
{id, error: {message, kind, details}}. Requests are answered in whatever order they end.

Before the first frame of the agent comes a line that begins with a word of this channel's own (the mark), so that
whatever the host says first (a banner, a message of the day) is told from it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ..host.reading import object_of

Header = dict[str, Any]

# What the agent, or what brings it, says in the line with the mark.
HELLO = "hello"
MISSING = "missing"  # the host does not have this agent; its bytes are to follow a line with the mark
REFUSED = "refused"  # with the reason, as JSON

# Bytes of a file that travel in one frame.
CHUNK = 1 << 18
# Bytes of a line, and of what follows it: answers with the logs of all processes have some.
LONGEST = 64 << 20


class Broken(Exception):
    """What arrived is no frame; the text shows its beginning."""


def encode(header: Header, blob: bytes = b"") -> bytes:
    """A frame. Text that is no Unicode (a name of a file, output of a program) travels as it is."""
    if blob:
        header = {**header, "blob": len(blob)}
    return json.dumps(header, separators=(",", ":")).encode() + b"\n" + blob


class Decoder:
    """Makes frames of pieces of a stream, wherever it was cut."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._seen = 0  # bytes of `_pending` that have no end of a line

    def feed(self, data: bytes) -> Iterator[tuple[Header, bytes]]:
        """The frames that are whole now. Raises Broken; nothing can be read from the stream after that."""
        self._pending += data
        while (end := self._pending.find(b"\n", self._seen)) >= 0:
            self._seen = end
            header = self._header(bytes(self._pending[:end]))
            size = header.pop("blob", 0)
            if len(self._pending) < end + 1 + size:
                return
            blob = bytes(self._pending[end + 1 : end + 1 + size])
            del self._pending[: end + 1 + size]
            self._seen = 0
            yield header, blob
        self._seen = len(self._pending)
        if self._seen > LONGEST:
            beginning = self._pending[:100].decode(errors="replace")
            raise Broken(f"no frame of the agent, a line of more than {LONGEST >> 20} MiB: {beginning}")

    def _header(self, line: bytes) -> Header:
        try:
            header = object_of(line)
        except ValueError:
            header = {"blob": None}
        blob = header.get("blob", 0)
        if type(blob) is not int or not 0 <= blob <= LONGEST:
            raise Broken(f"no frame of the agent: {line[:100].decode(errors='replace')}")
        return header
