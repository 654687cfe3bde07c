# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Files as tasks list them (see slipway.fleet.tree), rendered on the controller for a host that only writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError, AnsibleFileNotFound, AnsibleUndefinedVariable
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.rendering import Renderer

# Options of an item that do not leave the controller: what they stand for travels apart.
RENDERED = ("src", "content")


def rendered(
    renderer: Renderer, items: Sequence[Any], variables: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The items without their contents, and the text of each that has one by its position.

    Raises AnsibleActionFail that names the item; the text of a secret is in no message.
    """
    files: list[dict[str, Any]] = []
    contents: dict[str, str] = {}
    for position, options in enumerate(items):
        where = f"files[{position}]"
        if not isinstance(options, Mapping):
            raise AnsibleActionFail(f"{where} must be a dictionary with dest")
        where = f"{where} ({options.get('dest')})"
        content = _content(renderer, where, options, variables)
        if content is not None:
            contents[str(position)] = content
        files.append(_sent(where, options))
    return files, contents


def _sent(where: str, options: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(options.get("mode", ""), str):
        raise AnsibleActionFail(f'{where}: mode must be in quotes, like "0644"; YAML reads it as a number otherwise')
    kept = RENDERED if options.get("state") != "link" else RENDERED[1:]
    return {name: value for name, value in options.items() if name not in kept}


def _content(renderer: Renderer, where: str, options: Mapping[str, Any], variables: Mapping[str, Any]) -> str | None:
    if "src" in options and "content" in options:
        raise AnsibleActionFail(f"{where}: src and content exclude each other")
    if "content" in options:
        return _text(where, "content", options["content"])
    if "src" not in options or options.get("state") == "link":
        return None
    try:
        source = renderer.found(options["src"], variables)
        more = {"template_path": options["src"], "template_destpath": options.get("dest")}
        return _text(where, options["src"], renderer.text(source, variables, **more))
    except AnsibleError as error:
        if options.get("secret") and not isinstance(error, (AnsibleFileNotFound, AnsibleUndefinedVariable)):
            reason = "the reason is not shown, because the file is a secret"
            raise AnsibleActionFail(f"{where}: {options['src']} cannot be rendered; {reason}") from None
        raise AnsibleActionFail(f"{where}: {options['src']} cannot be rendered") from error


def _text(where: str, what: str, value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    raise AnsibleActionFail(f"{where}: {what} is not text; a filter like to_nice_json makes it text")
