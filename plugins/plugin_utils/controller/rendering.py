# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Templates of roles, rendered in the one way that both names a release and writes its files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.template import trust_as_template


def render(templar: Any, loader: Any, source: str, variables: Mapping[str, Any], **more: Any) -> Any:
    """What ansible.builtin.template makes of the template `source`: search path, ansible_managed, block trimming.

    Without a copy of all variables of the fleet, which is the larger part of its time with many hosts.
    """
    parents = [*variables.get("ansible_search_path", []), loader.get_basedir(), str(Path(source).parent)]
    here = templar.copy_with_new_env(
        searchpath=[path for parent in parents for path in (str(Path(parent, "templates")), parent)],
        available_variables={"ansible_managed": "Ansible managed", **variables, **more},
    )
    return here.template(
        trust_as_template(loader.get_text_file_contents(source)),
        escape_backslashes=False,
        overrides={"trim_blocks": True, "lstrip_blocks": False, "newline_sequence": "\n"},
    )
