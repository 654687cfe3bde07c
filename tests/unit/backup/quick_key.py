"""Repositories of restic that open at once.

From a password restic makes the key of a repository by half a second of work (scrypt), in every command, so that nobody
tries out passwords. No test is about that. Here the key gets another cover, of the same password and with little work;
what it opens stays as restic has made it (https://restic.readthedocs.io/en/stable/100_references.html#keys-encryption-and-mac).
"""

from __future__ import annotations

import hashlib
import json
import os
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

LITTLE = {"N": 2, "r": 8, "p": 1}
NONCE, MAC = 16, 16
# Bytes that scrypt may take for what restic asks of it.
ROOM = 1 << 28


class Cover:
    """What a password and a salt make of a text, and back: AES-256 in counter mode, and Poly1305-AES."""

    def __init__(self, key: dict[str, Any], password: str) -> None:
        work = {"n": key["N"], "r": key["r"], "p": key["p"]}
        made = hashlib.scrypt(password.encode(), salt=b64decode(key["salt"]), maxmem=ROOM, dklen=64, **work)
        self._cipher, self._mac_key, self._mac_other = made[:32], made[32:48], made[48:]

    def open(self, data: bytes) -> bytes:
        nonce, text, mac = data[:NONCE], data[NONCE:-MAC], data[-MAC:]
        assert self._mac(nonce, text) == mac, "it is another password"
        return self._crypted(nonce, text)

    def close(self, plain: bytes) -> bytes:
        nonce = os.urandom(NONCE)
        text = self._crypted(nonce, plain)
        return nonce + text + self._mac(nonce, text)

    def _crypted(self, nonce: bytes, text: bytes) -> bytes:
        return Cipher(algorithms.AES(self._cipher), modes.CTR(nonce)).encryptor().update(text)

    def _mac(self, nonce: bytes, text: bytes) -> bytes:
        block = Cipher(algorithms.AES(self._mac_key), modes.ECB()).encryptor()  # noqa: S305 - one block, as restic has it
        return Poly1305.generate_tag(self._mac_other + block.update(nonce), text)


def quick(text: str, password: str) -> tuple[str, str]:
    """The file of a key with its other cover: name and text. Files of restic have the hash of their content as name."""
    key = json.loads(text)
    plain = Cover(key, password).open(b64decode(key["data"]))
    key |= LITTLE
    key["data"] = b64encode(Cover(key, password).close(plain)).decode()
    made = json.dumps(key)
    return hashlib.sha256(made.encode()).hexdigest(), made


def make_quick(repository: Path, password: str) -> None:
    """Give the keys of a repository in a directory their other cover."""
    for file in list((repository / "keys").iterdir()):
        name, text = quick(file.read_text(), password)
        file.unlink()
        file.with_name(name).write_text(text)
