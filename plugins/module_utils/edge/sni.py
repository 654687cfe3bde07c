"""The certificates that the running HAProxy has, changed without a reload (management guide, 9.3, `set ssl cert`)."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Optional

from .haproxy import EdgeError

_SERIAL = re.compile(r"^Serial: ([0-9A-Fa-f]+)", re.MULTILINE)
_DONE = "Success!"


class Served:
    """What HAProxy serves of a directory of certificates; `ask` sends one command to its admin socket."""

    def __init__(self, ask: Callable[[str], str], directory: Path) -> None:
        self._ask = ask
        self._directory = directory

    def serial(self, path: Path) -> Optional[str]:
        """The serial number of what is served from this file, None where it is not known. Raises EdgeError."""
        found = _SERIAL.search(self._ask(f"show ssl cert {path}"))
        return found[1].lstrip("0").upper() if found else None

    def put(self, path: Path, text: str) -> None:
        """Serve this certificate from now on, in place of what is served from the file or beside all others.

        Connections that are open keep what they began with. Raises EdgeError with HAProxy's words.
        """
        new = str(path) not in self._ask("show ssl cert").splitlines()
        if new:
            self._tell(f"new ssl cert {path}", "New empty certificate store")
        try:
            self._tell(f"set ssl cert {path} <<\n{text.strip()}\n", "Transaction")
            self._tell(f"commit ssl cert {path}", _DONE)
            if new:
                self._tell(f"add ssl crt-list {self._directory} {path}", _DONE)
        except EdgeError:
            self._ask(f"abort ssl cert {path}")
            if new:
                self._ask(f"del ssl cert {path}")
            raise

    def _tell(self, command: str, good: str) -> None:
        said = self._ask(command).strip()
        if good not in said:
            words = " ".join(command.partition("<<")[0].split())
            raise EdgeError(f"HAProxy refused `{words}`: {' '.join(said.split()) or 'no answer'}")
