# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What a fleet is made again from when all of its hosts are lost: whether the controller has it somewhere else, too."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable, Optional

from ansible import constants, context

# Seconds for a question to Git, which asks nobody else.
LIMIT = 30.0
# What a run says in place of a file when it asks for the vault's password.
ASKED = ("prompt", "prompt_ask_vault_pass")

# What of a directory of Ansible is the inventory, though Git ignores it.
VARIABLES = ("group_vars", "host_vars")

Git = Callable[[Path, Sequence[str]], Optional[str]]


def git(place: Path, words: Sequence[str]) -> Optional[str]:
    """What Git says in a directory; None where that is in no repository, or there is no Git."""
    try:
        words = ["git", "-C", str(place), *words]
        ran = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=False)  # noqa: S603 - own words
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout if ran.returncode == 0 else None


def password_files() -> list[Path]:
    """The files, or programs, that open the vault in this run."""
    named = [str(one).rpartition("@")[2] for one in context.CLIARGS.get("vault_ids") or ()]
    named += [*map(str, context.CLIARGS.get("vault_password_files") or ()), constants.DEFAULT_VAULT_PASSWORD_FILE or ""]
    return list(dict.fromkeys(Path(one).expanduser().absolute() for one in named if one and one not in ASKED))


def kept(inventories: Sequence[str], passwords: Sequence[Path], ask: Git = git) -> Iterator[str]:
    """A sentence for each inventory, and for what opens its vault."""
    tops, own = [], {password.resolve() for password in passwords}
    for inventory in dict.fromkeys(one for one in inventories if "," not in one):  # no list of hosts
        path = Path(inventory).absolute()
        place = path if path.is_dir() else path.parent
        top = ask(place, ["rev-parse", "--show-toplevel"])
        if top is None:
            yield f"inventory {path}: in no Git repository here; keep a copy of it, with its vault, on another machine"
            continue
        tops.append(Path(top.strip()))
        left = [one for one in _uncommitted(place, path, Path(top.strip()), ask) if one not in own]
        lacks = [
            *([f"{_are(len(left), 'files')} not committed"] if left else []),
            *([] if (ask(place, ["remote"]) or "").strip() else ["its Git repository has no remote"]),
        ]
        ahead = ask(place, ["log", "--oneline", "@{upstream}..", "--", "."])
        lacks += [f"{_are(len(ahead.splitlines()), 'commits')} not pushed"] if ahead and ahead.strip() else []
        yield f"inventory {path}: {', '.join(lacks) if lacks else 'in Git, and pushed'}"
    for password in passwords:
        known = any(
            ask(top, ["ls-files", "--error-unmatch", "--", str(password)]) is not None
            for top in tops
            if password.is_relative_to(top)
        )
        if known:
            yield f"the vault's password: {password} is in Git, beside what it opens; whoever reads that has all of it"
        else:
            yield f"the vault's password: {password}; have it where a fire does not reach both that and the vault"
    if not passwords:
        yield "the vault's password: no file of this run has it; know where else it is written down"


def _uncommitted(place: Path, inventory: Path, top: Path, ask: Git) -> Iterator[Path]:
    """What is not in Git as it is now; of what Git ignores the inventory alone, and not all that lies beside it."""
    # Each file of a new directory, but not each of one that is ignored, which may be a virtual environment.
    each = ["--untracked-files=all", "--ignored=matching"]
    said = ask(place, ["status", "--porcelain", "-z", "--no-renames", *each, "--", "."]) or ""
    for line in filter(None, said.split("\0")):
        found = top / line[3:]
        if line[:2] != "!!":
            yield found
        elif _of_the_inventory(found, place.resolve(), inventory.resolve()):
            yield from (one for one in found.rglob("*") if one.is_file()) if found.is_dir() else [found]


def _are(count: int, what: str) -> str:
    return f"{count} of its {what} {'is' if count == 1 else 'are'}"


def _of_the_inventory(found: Path, place: Path, inventory: Path) -> bool:
    """Whether Ansible reads it with the inventory: of a directory its files, but no hidden ones and none of a retry."""
    if found in (place, inventory):
        return True
    own = found.parent == inventory and found.is_file() and found.suffix != ".retry" and found.name[0] != "."
    return own or found.relative_to(place).parts[0] in VARIABLES
