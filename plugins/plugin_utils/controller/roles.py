# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Variables of this collection's roles, for an action that needs nothing else of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROLES = Path(__file__).resolve().parents[3] / "roles"


class RoleVariables:
    """What `defaults` and `vars` of some roles say, read once for all hosts.

    A play that imports a role has Ansible read its specification, tasks and handlers as well, which takes a tenth of
    the controller's processor time of a deploy with nothing to do.

    Args:
        loader: of files, as the action has it
        names: of roles, such as `fastapi_app`
    """

    def __init__(self, loader: Any, names: Sequence[str]) -> None:
        self._names = names
        self._defaults: dict[str, Any] = {}
        self._vars: dict[str, Any] = {}
        for name in names:
            self._defaults |= _read(loader, name, "defaults")
            self._vars |= _read(loader, name, "vars")

    def beside(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """With a host's own variables, which a role's defaults give way to, and its `vars` do not."""
        return {**self._defaults, **variables, **self._vars}

    def texts(self) -> Iterator[str]:
        """Every text in them, and of their templates."""
        yield from _texts([self._defaults, self._vars])
        for name in self._names:
            yield from (path.read_text(encoding="utf-8") for path in (ROLES / name / "templates").glob("*.j2"))


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield str(value)
    elif isinstance(value, Mapping):
        yield from _texts([*value, *value.values()])
    elif isinstance(value, Sequence):
        for one in value:
            yield from _texts(one)


def _read(loader: Any, role: str, kind: str) -> Mapping[str, Any]:
    path = str(ROLES / role / kind / "main.yml")
    # Nobody else has it, so it need not be copied, which takes longer than to read it.
    read: Mapping[str, Any] = loader.load_from_file(path, cache="none", unsafe=True, trusted_as_template=True)
    return read
