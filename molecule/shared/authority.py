"""An authority for certificates with its own DNS: Debian's pebble and BIND, on a host of its own."""

from __future__ import annotations

import json
import ssl
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from contract import ANSWER, until
from fleet import on

AUTHORITY, AT = "slipway-authority", "172.29.89.20"
# By the key of its intermediate certificate, which pebble gives to whoever asks.
OLD = """set -eu
cd "$(mktemp -d)"
curl -sSko signer.key https://127.0.0.1:15000/intermediate-keys/0
curl -sSko signer.crt https://127.0.0.1:15000/intermediates/0
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=NAME -keyout old.key -out old.csr 2>&-
echo subjectAltName=DNS:NAME > names
openssl x509 -req -in old.csr -CA signer.crt -CAkey signer.key -extfile names -out old.crt 2>&- \\
  -not_before "$(date -u -d '-80 days' +%Y%m%d%H%M%SZ)" -not_after "$(date -u -d '+10 days' +%Y%m%d%H%M%SZ)"
cat old.crt signer.crt old.key
"""


def _logged(unit: str) -> str:
    """What it has said so far: the journal may have some of it to be written yet."""
    return on(AUTHORITY, f"journalctl --sync && journalctl -u {unit} --no-pager")


@dataclass(frozen=True)
class Authority:
    """Pebble with its DNS. `file` has who signs its own HTTPS, and who signs what it issues."""

    file: Path

    @staticmethod
    def says(name: str, *addresses: str) -> None:
        """Have its DNS answer so for a name, instead of what it answered."""
        lines = [f"update delete {name} A", *(f"update add {name} 0 A {address}" for address in addresses), "send"]
        on(AUTHORITY, f"nsupdate <<END\nserver 127.0.0.1\nzone example.org\n{chr(10).join(lines)}\nEND")

    @staticmethod
    def binding() -> dict[str, str]:
        """What it gave to whom it knows."""
        ((kid, key),) = json.loads(on(AUTHORITY, "cat /etc/pebble.json"))["pebble"]["externalAccountMACKeys"].items()
        return {"kid": kid, "hmac": key}

    @staticmethod
    def orders() -> int:
        """How many orders were taken so far; it turns requests away by chance, and they come again."""
        return _logged("pebble").count("Added order ")

    @staticmethod
    def rehearsals() -> int:
        """How many were placed where nothing counts."""
        return _logged("pebble-staging").count("Added order ")

    @staticmethod
    def lets_rehearse() -> None:
        """Have the one for trying ask where an edge answers. It knows nobody any more."""
        on(AUTHORITY, "sed -i s/4711/80/ /etc/pebble-staging.json && systemctl restart pebble-staging")

    def says_of(self, serial: str) -> str:
        """Whether a certificate is to be believed, in its own word."""
        url = f"https://{AT}:15000/cert-status-by-serial/{serial.lower().lstrip('0')}"
        trusted = ssl.create_default_context(cafile=str(self.file))
        with urllib.request.urlopen(url, timeout=ANSWER, context=trusted) as answer:
            return str(json.load(answer)["Status"])

    @staticmethod
    def old(name: str) -> str:
        """Chain and key for a name, of a life of 90 days of which 80 are over: as the authority gave it then."""
        return on(AUTHORITY, OLD.replace("NAME", name))

    @staticmethod
    def stop() -> None:
        on(AUTHORITY, "systemctl stop pebble")

    def start(self) -> None:
        """Have it back, with nothing that it knew before: accounts and its own root are new ones."""
        on(AUTHORITY, "systemctl start pebble")
        until(lambda: bool(self._root()), "the authority answers")
        self.file.write_text(on(AUTHORITY, "cat /etc/pebble.crt") + self._root())

    @staticmethod
    def _root() -> str:
        """Who signs what it issues; empty where it does not answer."""
        trusted = ssl.create_default_context(cadata=on(AUTHORITY, "cat /etc/pebble.crt"))
        try:
            with urllib.request.urlopen(f"https://{AT}:15000/roots/0", timeout=ANSWER, context=trusted) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""
