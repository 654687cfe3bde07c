# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Controller part of slipway.fleet.tree: renders all templates and sends them in one call."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError, AnsibleFileNotFound, AnsibleUndefinedVariable
from ansible.plugins.action import ActionBase
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.rendering import render

# Options of an item that do not leave the controller: what they stand for travels apart.
RENDERED = ("src", "content")


class ActionModule(ActionBase):  # type: ignore[misc]
    """See the module of the same name for the options."""

    _requires_connection = True
    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.validate_argument_spec({"files": {"type": "list", "required": True}})
        files: list[dict[str, Any]] = []
        contents: dict[str, str] = {}
        for position, options in enumerate(self._task.args["files"]):
            where = f"files[{position}]"
            if not isinstance(options, Mapping):
                raise AnsibleActionFail(f"{where} must be a dictionary with dest")
            where = f"{where} ({options.get('dest')})"
            content = self._content(where, options, task_vars)
            if content is not None:
                contents[str(position)] = content
            files.append(self._sent(where, options))
        arguments = {"files": files, "contents": base64.b64encode(json.dumps(contents).encode()).decode()}
        result.update(self._execute_module("slipway.fleet.tree", module_args=arguments, task_vars=task_vars))
        return result

    def _sent(self, where: str, options: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(options.get("mode", ""), str):
            raise AnsibleActionFail(
                f'{where}: mode must be in quotes, like "0644"; YAML reads it as a number otherwise'
            )
        kept = RENDERED if options.get("state") != "link" else RENDERED[1:]
        return {name: value for name, value in options.items() if name not in kept}

    def _content(self, where: str, options: Mapping[str, Any], task_vars: Any) -> str | None:
        if "src" in options and "content" in options:
            raise AnsibleActionFail(f"{where}: src and content exclude each other")
        if "content" in options:
            return _text(where, "content", options["content"])
        if "src" not in options or options.get("state") == "link":
            return None
        try:
            return _text(where, options["src"], self._render(options, task_vars))
        except AnsibleError as error:
            if options.get("secret") and not isinstance(error, (AnsibleFileNotFound, AnsibleUndefinedVariable)):
                reason = "the reason is not shown, because the file is a secret"
                raise AnsibleActionFail(f"{where}: {options['src']} cannot be rendered; {reason}") from None
            raise AnsibleActionFail(f"{where}: {options['src']} cannot be rendered") from error

    def _render(self, options: Mapping[str, Any], task_vars: Any) -> Any:
        source = self._find_needle("templates", options["src"])
        more = {"template_path": options["src"], "template_destpath": options.get("dest")}
        return render(self._templar, self._loader, source, task_vars, **more)


def _text(where: str, what: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    raise AnsibleActionFail(f"{where}: {what} is not text; a filter like to_nice_json makes it text")
