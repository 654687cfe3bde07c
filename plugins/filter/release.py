# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Filters that name a release by its content."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleFilterError
from ansible.utils.display import Display
from ansible_collections.slipway.fleet.plugins.module_utils.host.durable import write_durably
from ansible_collections.slipway.fleet.plugins.module_utils.release.doors import ports_of
from ansible_collections.slipway.fleet.plugins.module_utils.release.words import text_of, told
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.migrations import schema_revision

_ID_LENGTH = 12
_LOGIN_DIGITS, _LONGEST_NAME = 8, 63
_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_KEY = os.urandom(32)  # of this run; `preload` loads this module before the run forks its workers


def release_id(image: str, config: str) -> str:
    """Id of the release made of an image (its content key or id) and its rendered configuration: 12 hexadecimal digits.

    A function of content only: the same on every host and from every controller.
    """
    if not image:
        raise AnsibleFilterError("release_id needs the key of an image; run slipway.fleet.fastapi_image first")
    return hashlib.sha256(json.dumps([image, config]).encode()).hexdigest()[:_ID_LENGTH]


def secrets_digest(secrets: dict[str, Any], salt: str) -> str:
    """A digest that changes with any secret and does not help to guess one: scrypt, about 50 ms a guess.

    A plain hash of a weak secret, in a ledger that many may read, would be an offline test for guesses. The salt (the
    app's name) is fixed, because equal secrets must give equal release ids on all hosts.
    """
    return _scrypt(json.dumps({str(name): _secret(value) for name, value in secrets.items()}, sort_keys=True), salt)


def login_of(user: str, password: str) -> str:
    """A name for a database login that changes with its password, such as `shortlinks_1a2b3c4d`.

    So the former name and password stay good while a release with the new ones rolls, and nobody has to say whose turn
    it is. At most 63 characters, as many as a name of PostgreSQL has. Eight digits of scrypt, by whose cost who reads
    the name learns nothing of a password that was drawn.
    """
    digest = _scrypt(_secret(password), str(user))[:_LOGIN_DIGITS]
    return f"{str(user)[: _LONGEST_NAME - _LOGIN_DIGITS - 1]}_{digest}"


def _secret(value: Any) -> str:
    """What stands in a secret's file: no newline at its end, which no password has, and a vaulted one easily gets."""
    return text_of(value).rstrip("\r\n")


@functools.lru_cache(maxsize=4)
def _scrypt(text: str, salt: str) -> str:
    """Kept for the run, because Ansible renders a variable anew wherever it is used, and each host is a process.

    What it is kept under says nothing to who does not have the key, and that is in the memory of this run alone.
    """
    name = hashlib.blake2b(json.dumps([text, salt]).encode(), key=_KEY).hexdigest()
    kept = Path(constants.DEFAULT_LOCAL_TMP, f"slipway-{name}")
    with contextlib.suppress(OSError):
        return kept.read_text(encoding="ascii")
    digest = hashlib.scrypt(text.encode(), salt=salt.encode(), n=1 << 14, r=8, p=1, dklen=16).hex()
    with contextlib.suppress(OSError):
        write_durably(kept, digest, 0o600)
    return digest


def secret_files(secrets: dict[str, Any], directory: str, owner: int | str = "") -> list[dict[str, Any]]:
    """Entries for slipway.fleet.tree: the directory, and a file for each secret that only `owner` can read.

    Without one it is the user of an app, whom the host alone knows and gives them to.
    """
    whose = {"owner": str(owner), "group": str(owner)} if owner != "" else {}
    if ended := sorted(str(name) for name, value in secrets.items() if _secret(value) != text_of(value)):
        Display().warning(
            f"fastapi_app_secrets: a newline at the end of {', '.join(ended)} is left out; in the vault, write it "
            'in quotes on one line, or with "|-" in place of "|".'
        )
    entries: list[dict[str, Any]] = [{"dest": directory, "state": "directory", **whose, "mode": "0500"}]
    for name, value in sorted(secrets.items()):
        if not _NAME.fullmatch(str(name)):
            raise AnsibleFilterError(
                f"the secret name {str(name)!r} must be letters, digits and underscores, as in an environment variable"
            )
        entries.append(
            {
                "dest": f"{directory}/{name}",
                "content": _secret(value),
                **whose,
                "mode": "0400",
                "secret": True,
            }
        )
    return entries


def processes(
    declared: dict[str, dict[str, Any]], memory_mib: int, cpus: float, stop_grace: float
) -> dict[str, dict[str, Any]]:
    """What runs beside the web process, each with all its settings; those that it does not name are the app's."""
    usual = {"replicas": 1, "singleton": False, "stop_grace": stop_grace, "memory_mib": memory_mib, "cpus": cpus}
    found: dict[str, dict[str, Any]] = {}
    for name, said in sorted(declared.items()):
        process = {**usual, **said}
        found[str(name)] = {
            "command": [str(word) for word in process["command"]],
            "environment": told(process.get("environment") or {}),
            "singleton": bool(process["singleton"]),
            "replicas": int(process["replicas"]),
            "memory_mib": int(process["memory_mib"]),
            "cpus": float(process["cpus"]),
            "stop_grace": int(process["stop_grace"]),
        }
    return found


class FilterModule:
    """Filters of slipway.fleet about one release."""

    def filters(self) -> dict[str, Any]:
        return {
            "release_id": release_id,
            "secrets_digest": secrets_digest,
            "login_of": login_of,
            "secret_files": secret_files,
            "slot_ports": ports_of,
            "processes": processes,
            "schema_revision": schema_revision,
        }
