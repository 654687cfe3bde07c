"""What a host is asked about images: the operations of the module `image`, as the verb `image` has them, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

from . import build, inventory, load
from .local import look
from .pull import ask, pull

Options = dict[str, Any]
Result = dict[str, Any]

# What the operations read, and what they get where nothing is said.
DEFAULTS: Options = {
    **dict.fromkeys(("archive", "content", "saved", "incoming", "chunks", "packed", "layers", "build_cache_mib")),
    **dict.fromkeys(("registry_user", "registry_password", "registry_authorities")),
    "dockerfile": "Dockerfile",
    "build_args": {},
    "build_secrets": {},
    "expected": "",
    "operation": "find",
}
# Each takes the options and whether it is a dry run, in which the later ones are not asked for.
OPERATIONS: dict[str, Callable[[Options, bool], Result]] = {
    "find": lambda options, check_mode: look(options["name"], check_mode),
    "look": lambda options, check_mode: load.look(options["name"], options["expected"], check_mode),
    "pull": pull,
    "ask": lambda options, _: ask(options),
    "load": lambda options, _: load.load(options),
    "build": lambda options, _: build.build_for_fleet(options),
    "export": lambda options, _: build.export(options),
    "forget_export": lambda options, _: build.forget_export(options),
    "inventory": lambda options, _: {"changed": False, "inventory": inventory.take(options["name"])},
}


def perform(options: Options, check_mode: bool) -> Result:
    """The result of an operation; an archive that was sent for it is gone afterwards. Raises SlipwayError."""
    try:
        return OPERATIONS[options["operation"]](options, check_mode)
    finally:
        if options["archive"]:
            Path(options["archive"]).unlink(missing_ok=True)


def image(arguments: dict[str, Any], tell: Callable[[Result], None]) -> Result:
    """The verb: operation and options as the module has them, and check_mode."""
    return perform({**DEFAULTS, **arguments}, bool(arguments.get("check_mode")))


VERBS = {"image": image}
