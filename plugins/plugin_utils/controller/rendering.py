# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Templates of roles, rendered in the one way that both names a release and writes its files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.template import trust_as_template


class Renderer:
    """Makes what ansible.builtin.template makes of a template: search path, ansible_managed, block trimming.

    Without a copy of all variables of the fleet, which is the larger part of its time with many hosts, and with Jinja's
    plugins loaded once for all templates of a directory.

    Args:
        templar: the action's or the lookup's
        loader: of files, likewise
    """

    def __init__(self, templar: Any, loader: Any) -> None:
        self._templar, self._loader = templar, loader
        self._of_paths: dict[tuple[str, ...], Any] = {}

    def found(self, name: str, variables: Mapping[str, Any]) -> str:
        """The file of a template, below `templates` where the variable `ansible_search_path` says.

        Raises AnsibleFileNotFound.
        """
        return str(self._loader.path_dwim_relative_stack(variables["ansible_search_path"], "templates", name))

    def text(self, source: str, variables: Mapping[str, Any], **more: Any) -> Any:
        """What a file becomes with these variables; `more` are those that it alone has."""
        parents = [*variables.get("ansible_search_path", []), self._loader.get_basedir(), str(Path(source).parent)]
        paths = tuple(path for parent in parents for path in (str(Path(parent, "templates")), parent))
        if paths not in self._of_paths:
            self._of_paths[paths] = self._templar.copy_with_new_env(searchpath=list(paths))
        here = self._of_paths[paths]
        here.available_variables = {"ansible_managed": "Ansible managed", **variables, **more}
        return here.template(
            trust_as_template(self._loader.get_text_file_contents(source)),
            escape_backslashes=False,
            overrides={"trim_blocks": True, "lstrip_blocks": False, "newline_sequence": "\n"},
        )
