# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Vaults that everybody can open: encrypted with the lab's password, which is published with it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret

# inventories/lab/.vault_password says the same; a test holds them equal. The collection comes without the lab.
PASSWORD = b"lab-only: opens nothing outside this lab"
LAB = Path(__file__).resolve().parents[3] / "inventories/lab"
# A file that is a vault, or a value in a file of variables.
_VAULT = re.compile(r"\$ANSIBLE_VAULT;[^\n]*(?:\n[ \t]*[0-9a-f]+[ \t]*(?=\n|\Z))+")
LARGEST = 1 << 20  # bytes of a file of variables; larger ones are something else


def vaults_of_the_lab(sources: Iterable[str]) -> list[str]:
    """Files of these inventories, the lab's own left out, with a vault that the lab's password opens."""
    vault = VaultLib([("default", VaultSecret(PASSWORD))])
    return sorted({str(path) for path in files_of(sources) if _opens(vault, path)})


def files_of(sources: Iterable[str]) -> Iterator[Path]:
    """Those that Ansible reads with these inventories, the lab's own left out."""
    for source in map(Path, sources):
        directory = source if source.is_dir() else source.parent
        beside = [source] if source.is_file() else [path for path in directory.glob("*") if path.is_file()]
        below = [
            path for kind in ("group_vars", "host_vars") for path in (directory / kind).rglob("*") if path.is_file()
        ]
        yield from (path for path in beside + below if LAB not in path.resolve().parents)


def _opens(vault: VaultLib, path: Path) -> bool:
    if path.stat().st_size > LARGEST:
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    return any(_opened(vault, found.group()) for found in _VAULT.finditer(text))


def _opened(vault: VaultLib, text: str) -> bool:
    lines = "\n".join(line.strip() for line in text.splitlines())
    try:
        vault.decrypt(f"{lines}\n".encode())
    except AnsibleError:
        return False
    return True
