# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Whether a bundle may be used: by whom it is signed, for which fleet, and that it is not older than the last one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ansible_collections.slipway.fleet.plugins.module_utils.host.durable import write_durably
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle import signature
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle.archive import (
    SIGNATURE,
    STATEMENT,
    Bundle,
    BundleError,
)


def signed(sums: bytes, fleet: str, key: Path) -> tuple[bytes, bytes]:
    """Statement and signature for the sums of a bundle. Raises SignatureError."""
    text = signature.stated(fleet, sums).text()
    return text, signature.sign(text, key)


def trusted(bundle: Bundle, signers: str, fleet: str, oldest: str) -> None:
    """Raise BundleError or SignatureError where a bundle is not to be used; without `signers` every one is.

    Args:
        bundle: is opened, and was not read yet
        signers: the file of those who may make bundles; empty for everybody
        fleet: the name of the inventory
        oldest: when the bundle was made at the earliest, as ISO 8601 in UTC; empty for when the last one was
    """
    signature.require_moment(oldest)
    if not signers:
        return
    text, of_it = bundle.about(STATEMENT), bundle.about(SIGNATURE)
    if not text or not of_it:
        raise BundleError(
            f"{bundle.path} is not signed, and {signature.SIGNERS} names who may make bundles, so nothing was done; "
            f"make it with {signature.KEY}"
        )
    signature.signer(text, of_it, Path(signers))
    statement = signature.read(text)
    used = _newest(fleet)
    signature.require(statement, bundle.listed, fleet, oldest or _read(used))
    latest = statement.made if oldest else signature.newer(statement.made, _read(used))
    if latest != _read(used):
        write_durably(used, latest + "\n", mode=0o600)


def _newest(fleet: str) -> Path:
    """Where it is kept when the newest bundle was made that was used for a fleet: no cache, which anybody may empty."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    directory = Path(home) / "slipway" / "bundles"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory / hashlib.sha256(fleet.encode()).hexdigest()[:24]


def _read(path: Path) -> str:
    try:
        found = path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
    try:
        signature.require_moment(found)
    except signature.SignatureError as error:
        raise BundleError(
            f"{path} is damaged, which has when the newest bundle was made; remove it: {found[:50]!r}"
        ) from error
    return found
