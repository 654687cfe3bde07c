# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Vaults that are none: files of that name whose secrets everybody can read who has the file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.published_vault import LARGEST, files_of

_NAME = re.compile(r"(.*[._-])?vaults?([._-].*)?", re.IGNORECASE)
# Below them what has no directory of its own is called as a group or a host.
VARIABLES = ("group_vars", "host_vars")
_KINDS = ("", ".yml", ".yaml", ".json")
# What a whole file and a single value begin with that are encrypted.
_ENCRYPTED = re.compile(r"\A\s*\$ANSIBLE_VAULT;|!vault\b")


class _Loader(yaml.SafeLoader):
    """Tags of Ansible are read as what they stand before."""


_Loader.add_multi_constructor("", lambda loader, _, node: _value(loader, node))


def _value(loader: yaml.SafeLoader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return node.value


def plain_vaults(sources: Iterable[str]) -> list[str]:
    """Files of these inventories, the lab's own left out, that are called vault and have values that are not encrypted.

    One whose values are all templates has its secrets from somewhere else.
    """
    return sorted({str(path) for path in files_of(sources) if _is_called_so(path) and _is_plain(path)})


def _is_called_so(path: Path) -> bool:
    """Whether Ansible reads it, and it or its directory has the name, which is not that of a group or a host."""
    named = [one.stem for one in (path, path.parent) if one.parent.name not in VARIABLES]
    return path.suffix in _KINDS and any(map(_NAME.fullmatch, named))


def _is_plain(path: Path) -> bool:
    if path.stat().st_size > LARGEST:
        return False
    text = path.read_text(encoding="utf-8", errors="replace")
    if _ENCRYPTED.search(text):
        return False
    try:
        return _has_values(yaml.load(text, _Loader))  # noqa: S506 - a kind of SafeLoader
    except yaml.YAMLError:
        return False  # Ansible says it


def _has_values(found: Any) -> bool:
    """Whether there is anything but templates and what is empty."""
    if isinstance(found, dict):
        return any(map(_has_values, found.values()))
    if isinstance(found, list):
        return any(map(_has_values, found))
    return found not in (None, "") and "{{" not in str(found)


def readable_by_everybody(path: str) -> str:
    """What to do about one."""
    return (
        f"{path} is not encrypted: whoever gets that file, a copy or its Git history has the secrets in it. Encrypt it "
        f"(ansible-vault encrypt --vault-id NAME@prompt {path}), and change what was committed or sent before that "
        "(docs/rotation.md)."
    )
