"""What a host has already of packages and a service, by two quick questions: apt takes seconds to say the same."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from . import command

TIMEOUT = 60.0  # seconds


@dataclass(frozen=True)
class Package:
    """One that is installed; `held` tells whether an upgrade of the system leaves it alone."""

    version: str
    held: bool = False


def packages() -> dict[str, Package]:
    """What is installed, by name. Raises CommandError where dpkg cannot be asked."""
    form = "--showformat=${Package} ${Version} ${db:Status-Want} ${db:Status-Status}\\n"
    rows = (line.split() for line in _asked(["dpkg-query", "--show", form]).splitlines())
    return {
        name: Package(version, want == "hold")
        for name, version, want, status in (row for row in rows if len(row) == 4)
        if status == "installed"
    }


def absent(wanted: Sequence[str], there: Mapping[str, Package]) -> list[str]:
    """Those of the packages (`name` or `name=version`, with wildcards as apt has them) that are not there so."""
    found = []
    for word in wanted:
        name, _, version = word.partition("=")
        if name not in there or not fnmatch.fnmatchcase(there[name].version, version or "*"):
            found.append(word)
    return found


def serves(unit: str) -> bool:
    """Whether a unit runs and starts with the host. Raises CommandError where systemd cannot be asked."""
    said = _asked(["systemctl", "show", "--property=ActiveState,UnitFileState", unit])
    return {"ActiveState=active", "UnitFileState=enabled"} <= set(said.split())


def _asked(words: Sequence[str]) -> str:
    ran = command.run(words, TIMEOUT)
    if ran.returncode:
        raise command.CommandError(f"{words[0]}: {ran.said}")
    return ran.stdout
