"""How a module of Ansible ends with its result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def answer(module: Any, result: Mapping[str, Any]) -> None:
    """End an AnsibleModule. What is to be warned of is no part of a result, so Ansible wants to have it before."""
    told = dict(result)
    for words in told.pop("warnings", None) or ():
        module.warn(str(words))
    module.exit_json(**told)
