# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What a host does for an image, by name: for the module slipway.fleet.image_host, and for the agent."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable

from . import build, inventory, load, local, pull
from .registry import RegistryError

# The text of these is for the operator; nothing is half done.
ERRORS = (local.ImageError, RegistryError)

# Each takes the options and whether it is a dry run, in which the later ones are not asked for.
OPERATIONS: dict[str, Callable[[dict[str, Any], bool], dict[str, Any]]] = {
    "find": lambda options, check_mode: local.look(options["name"], check_mode),
    "look": lambda options, check_mode: load.look(options["name"], options["expected"], check_mode),
    "ask": lambda options, _: pull.ask(options),
    "pull": pull.pull,
    "keep": lambda options, _: load.keep(Path(options["archive"]), Path(options["target"])),
    "load": lambda options, _: load.load(options),
    "build": lambda options, _: build.build_for_fleet(options),
    "export": lambda options, _: build.export(options),
    "forget_export": lambda options, _: build.forget_export(options),
    "inventory": lambda options, _: {"changed": False, "inventory": inventory.take(options["name"])},
}
# What an operation may take, as the argument specification of a module says it.
OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str"},
    "expected": {"type": "str", "default": ""},
    "registry_user": {"type": "str", "default": ""},
    "registry_password": {"type": "str", "default": "", "no_log": True},
    "registry_authorities": {"type": "str", "default": ""},
    "archive": {"type": "path"},
    "target": {"type": "path"},
    "saved": {"type": "dict"},
    "incoming": {"type": "path"},
    "chunks": {"type": "list", "elements": "str"},
    "packed": {"type": "dict"},
    "content": {"type": "str"},
    "dockerfile": {"type": "str"},
    "build_args": {"type": "dict", "default": {}},
    "build_target": {"type": "str", "default": ""},
    "build_secrets": {"type": "dict", "default": {}, "no_log": True},
    "build_ssh": {"type": "bool", "default": False},
    "build_ssh_key": {"type": "str", "default": "", "no_log": True},
    "build_cache_mib": {"type": "int"},
    "layers": {"type": "list", "elements": "str"},
}


def perform(operation: str, options: Mapping[str, Any], check_mode: bool = False) -> dict[str, Any]:
    """The result of an operation. An archive that came with it is gone afterwards. Raises ERRORS."""
    if operation not in OPERATIONS:
        raise local.ImageError(f"a host knows no operation {operation!r} of images; there are {', '.join(OPERATIONS)}")
    given = {name: options.get(name, kind.get("default")) for name, kind in OPTIONS.items()}
    try:
        return OPERATIONS[operation](given, check_mode)
    finally:
        if given["archive"]:
            Path(given["archive"]).unlink(missing_ok=True)


def image(arguments: dict[str, Any], tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """The verb of the agent: operation, its options, and check_mode. Raises ERRORS."""
    return perform(str(arguments["operation"]), arguments, bool(arguments.get("check_mode")))


VERBS = {"image": image}
