"""The first words to a host: run the agent that it keeps, or take it from stdin, keep it and run it.

The text of this file is what `python3 -c` gets (without comments and docstrings), so it uses nothing but the standard
library, and nothing that Python 3.6 cannot read: it is what says that a Python is too old.

Arguments: the mark of the channel, the SHA-256 of the agent, its bytes, the directory where agents are kept, and a word
more where the agent comes in any case (for a connection that cannot be asked first). That
directory and those above it may be written by nobody else, since root runs what is in it. What is kept there is
compared with its hash before it is run.

While the agent is missing at most one request comes before its bytes; it is handed on to the agent.
"""

import hashlib
import json
import os
import stat
import sys
import tempfile
from typing import NoReturn

mark, digest, size, place = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]


def say(word: str, about: str = "") -> None:
    text = about and json.dumps(about)
    os.write(1, f"\n{mark} {word} {text}\n".encode())


def refuse(why: str) -> NoReturn:
    say("refused", why)
    sys.exit(3)


def have_place() -> None:
    """The directory, made where there is none. Refuses one that somebody else could change."""
    os.umask(0o022)
    os.makedirs(os.path.dirname(place), exist_ok=True)
    os.makedirs(place, 0o700, exist_ok=True)  # another run may make it at the same moment
    os.umask(0o077)
    part = os.path.realpath(place)
    forbidden = 0o077
    while True:
        seen = os.stat(part)
        free = seen.st_mode & forbidden and not (forbidden == 0o022 and seen.st_mode & stat.S_ISVTX)
        if seen.st_uid not in (0, os.geteuid()) or free:
            refuse(
                f"{part} may be changed by others than root, so the agent is not run from below it; "
                f"correct its owner and mode ({stat.S_IMODE(seen.st_mode):o} now)"
            )
        if part == "/":
            return
        part, forbidden = os.path.dirname(part), 0o022


def whole(name: str, expected: str) -> bool:
    """Whether the file of that name is there and has the hash."""
    try:
        with open(os.path.join(place, name), "rb") as stream:
            return hashlib.sha256(stream.read()).hexdigest() == expected
    except OSError:
        return False


def kept() -> str:
    """The name of the agent as it is kept: compiled by this Python, as it was sent, or none."""
    compiled = f"{digest}.{sys.implementation.cache_tag}."
    for name in os.listdir(place):
        if name.startswith(compiled) and name.endswith(".pyz") and whole(name, name[len(compiled) : -4]):
            return name
    name = digest + ".pyz"
    return name if whole(name, digest) else ""


def receive() -> bytes:
    """Take the agent from stdin; returns what came before it."""
    say("missing")
    with open(0, "rb", 0, closefd=False) as stream:
        before, line = b"", stream.readline()
        while line and not line.startswith(mark.encode()):
            before, line = before + line, stream.readline()
        if not line:
            sys.exit(3)  # nobody is there
        data = b""
        while len(data) < size:
            piece = stream.read(size - len(data))
            if not piece:
                break
            data += piece
    if hashlib.sha256(data).hexdigest() != digest:
        refuse(f"the agent did not arrive as it was sent ({len(data)} of {size} bytes)")
    descriptor, temporary = tempfile.mkstemp(dir=place)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, os.path.join(place, digest + ".pyz"))
    return before


if sys.version_info < (3, 9):
    refuse(
        f"its Python ({sys.executable}, {sys.version.split()[0]}) is too old: 3.9 is the oldest that works; name a "
        "newer one in ansible_python_interpreter"
    )
if os.isatty(0):
    import tty

    tty.setraw(0)
try:
    have_place()
    name = "" if sys.argv[5:] else kept()
    before = b"" if name else receive()
except OSError as error:
    refuse(
        str(error)
        if os.geteuid() == 0
        else f"the tasks do not run as root here ({error}); set become: true, and give the remote user sudo"
    )
sys.path.insert(0, os.path.join(place, name or digest + ".pyz"))
from ansible_collections.slipway.fleet.plugins.module_utils.agent.program import main

main(mark, place, digest, before)
