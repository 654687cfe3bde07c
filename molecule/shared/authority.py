"""An authority for certificates with its own DNS: Debian's pebble, on a host of its own."""

from __future__ import annotations

import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from fleet import on

AUTHORITY, AT = "slipway-authority", "172.29.89.20"


@dataclass(frozen=True)
class Authority:
    """Pebble with its DNS. `file` has who signs its own HTTPS, and who signs what it issues."""

    file: Path

    def says(self, name: str, *addresses: str) -> None:
        """Have its DNS answer so for a name, instead of what it answered."""
        for word, body in (("clear-a", {"host": name}), ("add-a", {"host": name, "addresses": addresses})):
            request = urllib.request.Request(f"http://{AT}:8055/{word}", json.dumps(body).encode())
            with urllib.request.urlopen(request, timeout=10):  # noqa: S310 - http
                pass

    @staticmethod
    def orders() -> int:
        """How many orders were taken so far; it turns requests away by chance, and they come again."""
        return on(AUTHORITY, "journalctl -u pebble --no-pager").count("Added order ")

    @staticmethod
    def stop() -> None:
        on(AUTHORITY, "systemctl stop pebble")
