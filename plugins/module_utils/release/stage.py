"""Where a release that is started aside finds what stands there in place of the real, and how one looks there."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional, TypeVar

from ..host.errors import SlipwayError

# What it has in place of a slot's name.
SLOT = "drill"
# setns(2): only for a network.
_NEWNET = 0x40000000

# Names for a directory of the host what is mounted in its place.
Mounts = Callable[[str], str]
Answer = TypeVar("Answer")


class Unfit(SlipwayError):
    """A release cannot be started aside on this host; the text says why."""


@dataclass(frozen=True)
class Stage:
    """What leads to the servers that stand in.

    `network` is one of Docker's, `namespace` the file of a network namespace in which they answer at every address of
    this host, and `server` the container whose network that is; each is empty where there is none. `sockets` are
    directories of the host in which servers have their sockets, with what is mounted in their place. `lacks` says why
    what knows the servers by an address does not come to them.
    """

    network: str = ""
    namespace: str = ""
    sockets: Mapping[str, Path] = field(default_factory=dict)
    lacks: str = ""
    server: str = ""

    @property
    def shared(self) -> str:
        """The container whose network others share, in which servers answer at addresses; empty where they do not."""
        return "" if self.lacks else self.server

    def socket(self, source: str) -> Optional[Path]:
        """What is mounted in place of a directory with sockets, by whichever name it is called."""
        real = os.path.realpath(source)
        return next((own for live, own in self.sockets.items() if os.path.realpath(live) == real), None)


def within(namespace: str, ask: Callable[[], Answer]) -> Answer:
    """What is answered where that network is. A thread goes there, and ends there. Raises OSError."""

    def there() -> Answer:
        with open(namespace, "rb") as stream:
            if ctypes.CDLL(None, use_errno=True).setns(stream.fileno(), _NEWNET):
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number), namespace)
        return ask()

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(there).result()
