"""What the roles' variables must be beyond their types."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs import values as value_rules
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.values import broken_rules, placeholders


def test_placeholders_are_named_without_their_values() -> None:
    assert placeholders({"A": "", "B": None, "C": " ChangeMe ", "D": "k3v9-real-one"}) == ["A", "B", "C"]


VALUES: dict[str, object] = {
    "one": 1,
    "text": "1",
    "half": 0.5,
    "path": "/a",
    "word": "a",
    "line": "a\n",
    "words": ["/a", "b", "c"],
    "table": {"a": 1, "B": 2},
    "none": [],
}


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"name": "one", "least": 1}, []),
        ({"name": "text", "least": 2}, ['text is "1"; use at least 2.']),
        ({"name": "half", "least": 1}, ["half is 0.5; use at least 1."]),
        ({"name": "path", "like": "^/.*", "use": "a slash"}, []),
        ({"name": "word", "like": "^/.*", "use": "a slash"}, ['word is "a"; use a slash.']),
        ({"name": "words", "like": "^/.*", "use": "it"}, ['words is "b"; use it.', 'words is "c"; use it.']),
        ({"name": "line", "like": "^[a-z]+$", "use": "it"}, ['line is "a\\n"; use it.']),
        ({"name": "table", "like": "^[a-z]+$", "use": "it"}, ['a key of table is "B"; use it.']),
        ({"name": "none", "like": "^/.*", "use": "it"}, []),
        ({"name": "none", "least_items": 1, "use": "a word"}, ["none is []; use a word."]),
        ({"name": "words", "least_items": 3, "use": "a word"}, []),
    ],
)
def test_values_that_break_their_rule_are_named(rule: dict[str, object], said: list[str]) -> None:
    assert broken_rules([rule], VALUES.__getitem__) == said


RELEASE: dict[str, Any] = {
    "fastapi_app_timeout": 30,
    "fastapi_app_edge_timeout": "75",
    "fastapi_app_graceful_timeout": 40,
    "fastapi_app_stop_grace": 45,
    "fastapi_app_secrets": {"KEY": "k3v9-real-one"},
    "fastapi_app_environment": {"LOG": "info"},
    "fastapi_app_name": "links",
    "fastapi_app_runtime": "compose",
    "fastapi_app_hardening": {"MemoryDenyWriteExecute": False},
}
IMAGE: dict[str, Any] = {
    "fastapi_image_source": "pull",
    "fastapi_image_registry_resolve": "controller",
    "__fastapi_image_name": "r.invalid/app:1",
    "fastapi_image_registry_user": "",
    "fastapi_image_registry_password": "",
    "fastapi_image_cosign_key": "key.pub",
    "fastapi_image_build_on": "builder",
    "groups": {"all": ["builder", "web-a"]},
}
CASES: list[tuple[str, dict[str, Any], list[str]]] = [
    ("release", {}, []),
    ("release", {"fastapi_app_timeout": 75}, ["fastapi_app_timeout (75) must be smaller"]),
    ("release", {"fastapi_app_stop_grace": "40"}, ["fastapi_app_graceful_timeout (40) smaller than"]),
    ("release", {"fastapi_app_secrets": {"A": "", "B": "todo"}}, ["A, B is empty or a placeholder"]),
    ("release", {"fastapi_app_environment": {"KEY": "x"}}, ["KEY stands in fastapi_app_environment and"]),
    ("release", {"fastapi_app_name": "a" * 24}, []),
    ("release", {"fastapi_app_name": "a" * 24, "fastapi_app_runtime": "systemd"}, ["24 characters"]),
    ("release", {"fastapi_app_hardening": {"no_new": 1, "UMask": 1}}, ["fastapi_app_hardening: no_new is no"]),
    (
        "release",
        {"fastapi_app_timeout": 75, "fastapi_app_secrets": {"A": ""}},
        ["timeouts do not fit", "A is empty or a placeholder"],
    ),
    ("image", {}, []),
    ("image", {"fastapi_image_build_on": "first"}, []),
    ("image", {"fastapi_image_build_on": "web-z"}, ["fastapi_image_build_on is web-z"]),
    ("image", {"__fastapi_image_name": ""}, ["fastapi_image_name must name the image"]),
    ("image", {"fastapi_image_registry_user": "ann"}, ["only one is set"]),
    ("image", {"fastapi_image_registry_resolve": "host"}, ["nobody looks for a signature"]),
    ("image", {"fastapi_image_source": "build"}, ["nobody looks for a signature"]),
    ("image", {"fastapi_image_source": "build", "fastapi_image_cosign_key": ""}, []),
    (
        "image",
        {"fastapi_image_source": "build_on_host", "fastapi_image_cosign_key": ""},
        ["build_on_host, which is gone"],
    ),
]


@pytest.mark.parametrize(("across", "changed", "said"), CASES, ids=range(len(CASES)))
def test_values_that_do_not_fit_each_other_are_named(across: str, changed: dict[str, Any], said: list[str]) -> None:
    values = {"release": RELEASE, "image": IMAGE}[across] | changed
    found = list(value_rules.ACROSS[across](values.__getitem__))
    assert len(found) == len(said), found
    for sentence, words in zip(found, said, strict=True):
        assert words in sentence
