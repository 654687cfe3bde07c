"""What the lab tells the person in front of it: whole lines, each with the name of the thing it is about."""

from __future__ import annotations

import time
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_SUBJECT_WIDTH = 28
_printing = Lock()


def say(subject: str, message: str) -> None:
    """Print one line; lines of threads that work at the same time do not mix."""
    with _printing:
        print(f"  {subject:<{_SUBJECT_WIDTH}} {message}", flush=True)


@contextmanager
def step(subject: str, doing: str) -> Iterator[list[str]]:
    """Say what begins, and when it has ended well how long it took.

    Yields a list to which the block may add what there is to say about the result.
    """
    say(subject, f"{doing} ...")
    began = time.monotonic()
    result: list[str] = []
    yield result
    say(subject, ", ".join([f"done in {time.monotonic() - began:.1f} s", *result]))
