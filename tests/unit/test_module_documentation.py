"""The documentation of each module that takes arguments itself has its options as it takes them, fragments included."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.module_utils.release.preflight import HOST

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
COLLECTION = "ansible_collections.slipway.fleet.plugins"


def modules() -> dict[str, Any]:
    """Those with a part on the host."""
    names = [path.stem for path in sorted((PLUGINS / "modules").glob("*.py"))]
    found = {name: importlib.import_module(f"{COLLECTION}.modules.{name}") for name in names}
    return {name: module for name, module in found.items() if hasattr(module, "ARGUMENTS")}


MODULES = modules()
# What the action plugin takes out before the host is asked.
OF_THE_ACTION = {
    "doctor": {"specification", "wrong_from", "place_from", "release_from", "sought_from"},
    "tree": {"content"},
}


def documented(module: Any) -> dict[str, Any]:
    """The options of a module with those of its fragments."""
    said = yaml.safe_load(module.DOCUMENTATION)
    options = dict(said["options"])
    for fragment in said.get("extends_documentation_fragment", []):
        name = fragment.removeprefix("slipway.fleet.")
        doc = importlib.import_module(f"{COLLECTION}.doc_fragments.{name}").ModuleDocFragment.DOCUMENTATION
        options |= yaml.safe_load(doc)["options"]
    return options


def test_the_doctor_takes_all_that_a_preflight_needs_to_know() -> None:
    assert HOST.keys() <= MODULES["doctor"].ARGUMENTS.keys()


def test_the_doctor_of_the_role_looks_for_what_a_deploy_looks_for() -> None:
    role = PLUGINS.parent / "roles/fastapi_app"
    (task,) = yaml.safe_load((role / "tasks/preflight.yml").read_text())
    variables = yaml.safe_load((role / "vars/main.yml").read_text())
    sought = task["slipway.fleet.doctor"]["sought_from"]
    assert variables["__fastapi_app_target_new"]["look"] == f"{{{{ {sought} }}}}"
    asked = variables["__fastapi_app_sought"].keys() | variables["__fastapi_app_needs"].keys()
    assert asked == HOST.keys() - {"controller_time", "clock_tolerance"}, "the rest has its default, or is asked now"


KEYS = {"description", "type", "elements", "required", "default", "choices", "suboptions"}


def plain(options: Mapping[str, Any], below: str) -> dict[str, Any]:
    """What a caller has to know of options; `below` is the key under which an option has options of its own."""
    if below == "suboptions":  # a comma within braces makes a key of what follows it
        assert not {(name, key) for name, option in options.items() for key in option.keys() - KEYS}
    return {
        name: {
            **{key: option.get(key) for key in ("default", "choices", "elements")},
            "type": option.get("type", "str"),
            "required": option.get("required", False),
            "options": plain(option.get(below) or {}, below),
        }
        for name, option in options.items()
    }


@pytest.mark.parametrize("name", MODULES)
def test_options_are_documented_as_they_are_taken(name: str) -> None:
    module = MODULES[name]
    stated = plain(documented(module), "suboptions")
    for options in (stated, *(option["options"] for option in stated.values())):
        for option in OF_THE_ACTION.get(name, set()) & options.keys():
            del options[option]
    assert stated == plain(module.ARGUMENTS, "options")


def test_there_are_such_modules_and_fragments() -> None:
    assert {"release", "doctor", "balancer", "oneoff"} <= MODULES.keys()
    assert "place" in documented(MODULES["release"])
