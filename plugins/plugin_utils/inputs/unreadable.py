# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What is said of variables that cannot be read: broken YAML, or a vault that does not open."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible.parsing.vault import AnsibleVaultError

# What Ansible says of a vault with something else after its text, for which no password is asked.
UNHEXLIFY = "unhexlify error"


def unreadable(error: BaseException) -> str:
    """Which file cannot be read, where in it, and what to do about it: a password is no help with broken YAML."""
    chain = list(chain_of(error))
    place = next(filter(None, map(place_of, chain)), "")
    said = " ".join(str(error).split()).rstrip(".")
    told = f"The variables of this inventory cannot be read: {f'{place}: ' if place else ''}{said}. Nothing was done."
    if UNHEXLIFY in said:
        return f"{told} The file is not all encrypted text; was something added to it without ansible-vault edit?"
    if any(isinstance(one, AnsibleVaultError) for one in chain):
        return f"{told} Give the password of the vault with --vault-id NAME@prompt or --vault-password-file FILE."
    return told


def chain_of(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from: Ansible's plugin for group_vars raises one of its own with the text alone."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def place_of(error: BaseException) -> str:
    """File, line and column that an error of Ansible is about, as far as it knows; empty where it knows none."""
    found = re.match("Origin: (/.+)", str(getattr(error, "_formatted_source_context", None) or ""))
    return found[1] if found else ""
