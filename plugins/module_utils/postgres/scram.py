"""Passwords as PostgreSQL keeps them: SCRAM-SHA-256 verifiers (RFC 5802, RFC 7677).

A server takes a verifier in place of a password (documentation of PostgreSQL, CREATE ROLE, PASSWORD), so the password
itself is never sent to it, and whether a role has it can be told without a login. Passwords are printable ASCII, which
SASLprep leaves as it is.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import re

# As a server of PostgreSQL makes its own.
ITERATIONS, SALT = 4096, 16

_VERIFIER = re.compile(r"^SCRAM-SHA-256\$(\d+):([A-Za-z0-9+/=]+)\$[A-Za-z0-9+/=]+:[A-Za-z0-9+/=]+$")


def verifier(password: str, salt: bytes = b"", iterations: int = ITERATIONS) -> str:
    """What a server keeps of a password; with a salt of its own where none is given."""
    salt = salt or os.urandom(SALT)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client, server = (hmac.new(salted, name, "sha256").digest() for name in (b"Client Key", b"Server Key"))
    parts = (salt, hashlib.sha256(client).digest(), server)
    in_text, stored, servers = (base64.b64encode(part).decode() for part in parts)
    return f"SCRAM-SHA-256${iterations}:{in_text}${stored}:{servers}"


def fits(password: str, kept: str) -> bool:
    """Whether what a server keeps is of this password; false for a verifier of another kind."""
    found = _VERIFIER.match(kept)
    if not found:
        return False
    try:
        salt = base64.b64decode(found[2], validate=True)
    except binascii.Error:
        return False
    return hmac.compare_digest(verifier(password, salt, int(found[1])), kept)
