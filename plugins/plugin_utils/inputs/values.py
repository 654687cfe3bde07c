# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the roles' variables must be beyond their types: rules for a value by itself, and across several of them.

`value_of` gives a variable as Ansible renders it. The rules across values are Python and not templates of the roles,
because Ansible compiles a template anew for every host of the fleet, at about a millisecond each.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import SOURCES

Values = Callable[[str], Any]

_PLACEHOLDERS = {"", "changeme", "change-me", "placeholder", "secret", "password", "todo", "none"}
# Linux takes 31 characters, and the user is slipway-<app>.
_SYSTEMD_NAME = 23
_IMAGE_FILE = "group_vars/web/fastapi_image.yml"


def placeholders(secrets: Mapping[str, Any]) -> list[str]:
    """Names of the secrets that are empty or were never replaced after copying an example."""
    return sorted(str(name) for name, value in secrets.items() if str(value or "").strip().lower() in _PLACEHOLDERS)


def broken_rules(rules: Iterable[Mapping[str, Any]], value_of: Values) -> list[str]:
    """A sentence for each value that breaks its rule.

    A rule has the `name` of a variable and either the `least` that a number may be, the `least_items` that a list must
    have, or what a text must be `like`: a regular expression for all of it, a newline at its end included. `use` says
    what to put there instead. Each item of a list counts by itself, and each key of a dictionary.
    """
    found = []
    for rule in rules:
        name, value = rule["name"], value_of(rule["name"])
        what = f"a key of {name}" if isinstance(value, Mapping) else name
        if "least_items" in rule:
            wrong = [value] if len(value) < rule["least_items"] else []
            advice = rule["use"]
        elif "least" in rule:
            wrong = [value] if float(value) < rule["least"] else []
            advice = f"at least {rule['least']}"
        else:
            items = [value] if isinstance(value, str) or not isinstance(value, Iterable) else value
            wrong = [item for item in items if not re.fullmatch(rule["like"], str(item))]
            advice = rule["use"]
        found += [f"{what} is {json.dumps(item)}; use {advice}." for item in wrong]
    return found


def release(value_of: Values) -> Iterator[str]:
    """A sentence for each rule across the values of a release of slipway.fleet.fastapi_app that is broken."""
    names = ("timeout", "edge_timeout", "graceful_timeout", "stop_grace")
    timeout, edge_timeout, graceful, grace = (int(value_of(f"fastapi_app_{name}")) for name in names)
    if timeout >= edge_timeout or graceful >= grace:
        yield (
            f"The timeouts do not fit each other: fastapi_app_timeout ({timeout}) must be smaller than "
            f"fastapi_app_edge_timeout ({edge_timeout}), and fastapi_app_graceful_timeout ({graceful}) smaller than "
            f"fastapi_app_stop_grace ({grace}). Otherwise requests are cut before the app can end them."
        )
    secrets, environment = value_of("fastapi_app_secrets"), value_of("fastapi_app_environment")
    if names_of := placeholders(secrets):
        yield (
            f"fastapi_app_secrets: {', '.join(names_of)} is empty or a placeholder; set its vault_* variable with "
            "`ansible-vault edit` in vault.yml of this inventory."
        )
    if both := sorted(set(environment) & set(secrets)):
        yield (
            f"{', '.join(both)} stands in fastapi_app_environment and in fastapi_app_secrets; remove it from "
            "fastapi_app_environment, which everybody who may use Docker on the host can read."
        )
    name = value_of("fastapi_app_name")
    if value_of("fastapi_app_runtime") == "systemd" and len(name) > _SYSTEMD_NAME:
        yield (
            f"fastapi_app_name is {name}, {len(name)} characters; with fastapi_app_runtime: systemd at most "
            f"{_SYSTEMD_NAME}, because the app's user is slipway-{name} and Linux takes 31."
        )
    directives = value_of("fastapi_app_hardening")
    if unknown := [one for one in directives if not re.fullmatch("[A-Z][A-Za-z]+", one)]:
        yield (
            f"fastapi_app_hardening: {', '.join(unknown)} is no directive of systemd.exec, such as "
            "MemoryDenyWriteExecute."
        )


def image(value_of: Values) -> Iterator[str]:
    """A sentence for each rule across the values of slipway.fleet.fastapi_image that is broken."""
    source, resolve = value_of("fastapi_image_source"), value_of("fastapi_image_registry_resolve")
    if source == "build_on_host":
        yield (
            "fastapi_image_source is build_on_host, which is gone, since each host built an image of its own. Set "
            f"fastapi_image_source: build, and fastapi_image_build_on: first or the name of a host ({_IMAGE_FILE})."
        )
    elif source not in SOURCES:
        yield f"fastapi_image_source is {source}, but must be one of {', '.join(SOURCES)} ({_IMAGE_FILE})."
    if not value_of("__fastapi_image_name"):
        yield (f"fastapi_image_source is {source}, so fastapi_image_name must name the image to take ({_IMAGE_FILE}).")
    if bool(value_of("fastapi_image_registry_user")) != bool(value_of("fastapi_image_registry_password")):
        yield (
            "Of fastapi_image_registry_user and fastapi_image_registry_password only one is set; set both, the "
            "password by a vault_* variable (`ansible-vault edit` of the inventory's vault.yml), or none."
        )
    if value_of("fastapi_image_cosign_key") and (source, resolve) != ("pull", "controller"):
        yield (
            f"fastapi_image_cosign_key is set, but with fastapi_image_source: {source} and "
            f"fastapi_image_registry_resolve: {resolve} nobody looks for a signature. It takes pull and controller, "
            "since signatures are in the registry and the controller has cosign; or empty the key."
        )
    build_on = value_of("fastapi_image_build_on")
    if build_on not in {"controller", "first", *value_of("groups")["all"]}:
        yield (
            f"fastapi_image_build_on is {build_on}, but must be controller, first, or a host of the inventory "
            f"({_IMAGE_FILE})."
        )


ACROSS: dict[str, Callable[[Values], Iterator[str]]] = {"release": release, "image": image}
