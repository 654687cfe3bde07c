"""What is said of variables of a wrong type, and of those that are made of what is undefined."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.refusals import (
    EDIT,
    of_containers,
    of_types,
    of_undefined,
)

SPEC: dict[str, Any] = {
    "volumes": {"type": "dict"},
    "names": {"type": "list", "elements": "str"},
    "workers": {"type": "int", "default": 2},
    "overlap": {"type": "bool", "default": True},
    "pools": {"type": "list", "elements": "dict", "options": {"size": {"type": "int"}, "name": {"required": True}}},
    "counts": {"type": "list", "elements": "int"},
    "kind": {"type": "str", "choices": ["one", "two"]},
}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"volumes": ["/data"]}, "volumes is a list and must be a mapping, such as `volumes: {name: value}`"),
        ({"names": {"a": 1}}, "names is a mapping and must be a list, such as `names: [value]`"),
        ({"workers": "many"}, "workers is text and must be a whole number, such as `workers: 2`"),
        ({"overlap": "perhaps"}, "overlap is text and must be true or false, such as `overlap: true`"),
        ({"counts": ["few"]}, "an entry of counts is text and must be a whole number, such as `counts: [3]`"),
        (
            {"pools": [{"name": "a", "size": "big"}]},
            "size in pools is text and must be a whole number, such as `size: 3`",
        ),
    ],
)
def test_a_wrong_type_is_told_in_plain_words(given: dict[str, Any], said: str) -> None:
    errors = ArgumentSpecValidator(SPEC).validate(given).error_messages
    assert of_types(errors, SPEC) == [said]


def test_what_is_none_of_its_choices_is_told_with_those_that_there_are() -> None:
    spec: dict[str, dict[str, Any]] = {
        "kind": {"choices": ["one", "two"]},
        "several": {"type": "list", "elements": "str", "choices": ["a", "b"]},
        "pools": {"type": "list", "elements": "dict", "options": {"mode": {"choices": ["fast"]}}},
    }
    given = {"kind": "three", "several": ["a", "c"], "pools": [{"mode": "slow, got: odd"}]}
    errors = ArgumentSpecValidator(spec).validate(given).error_messages
    assert of_types(errors, spec) == [
        'kind is "three"; it can be one, two',
        'several is "c"; it can be a, b',
        'mode in pools is "slow, got: odd"; it can be fast',
    ]


def test_all_else_is_told_as_it_was() -> None:
    errors = ArgumentSpecValidator(SPEC).validate({"pools": [{}]}).error_messages
    assert len(errors) == 1
    assert of_types(errors, SPEC) == errors


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"names": "a.example"}, "names is text and must be a list, such as `names: [value]`"),
        ({"names": ""}, "names is text and must be a list, such as `names: [value]`"),
        ({"volumes": "data=/data"}, "volumes is text and must be a mapping, such as `volumes: {name: value}`"),
        ({"words": "a,b"}, 'words is text and must be a list, such as `words: ["a", "b"]`'),
        (
            {"pools": [{"name": "a", "paths": "/a"}]},
            "paths in pools is text and must be a list, such as `paths: [value]`",
        ),
        ({"names": ["a"], "volumes": {"data": "/data"}, "pools": [{"name": "a", "paths": ["/a"]}], "kind": "one"}, ""),
    ],
)
def test_a_text_that_is_taken_for_a_list_is_refused(given: dict[str, Any], said: str) -> None:
    """A validation takes it; the variable stays the text, and its letters were the list."""
    spec = SPEC | {"words": {"type": "list", "elements": "str", "default": ["a", "b"]}}
    spec["pools"] = {"type": "list", "elements": "dict", "options": {"name": {}, "paths": {"type": "list"}}}
    assert not ArgumentSpecValidator(spec).validate(given).error_messages
    assert list(of_containers(given, spec)) == ([said] if said else [])


VARIABLES = {
    "vault_secret_key": "x",
    "fastapi_app_secrets": {"SECRET_KEY": "{{ vault_secretkey }}", "OTHER": "{{ vault_other | default('nowhere') }}"},
    "fastapi_app_arguments": ["--a", "{{ 'b' if debugging else 'c' }}"],
    "of_mine": "{% if debugging %}on{% endif %}",
    "fastapi_app_environment": {"TEXT": "vault_secretkey and debugging"},
    "__fastapi_app_made": "{{ vault_secretkey }}",
}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            "Error: 'vault_secretkey' is undefined",
            (
                "'vault_secretkey' is undefined, which fastapi_app_secrets.SECRET_KEY uses; did you mean "
                f"vault_secret_key? If not, add it to the vault: {EDIT}"
            ),
        ),
        ("'debugging' is undefined", "'debugging' is undefined, which fastapi_app_arguments and of_mine use"),
        ("'nobody' is undefined", "'nobody' is undefined"),
        ("object of type 'dict' has no attribute 'a'", "object of type 'dict' has no attribute 'a'"),
    ],
)
def test_what_is_undefined_is_told_with_its_place(error: str, said: str) -> None:
    assert of_undefined(error, VARIABLES) == said


def test_a_vault_that_is_not_there_is_told() -> None:
    variables = {"fastapi_app_secrets": {"A": "{{ vault_a }}", "B": "{{ vault_a }}"}}
    said = of_undefined("'vault_a' is undefined", variables)
    assert said.startswith("'vault_a' is undefined, which fastapi_app_secrets.A and fastapi_app_secrets.B use; no ")
    assert "group_vars/all/vault.yml is not there" in said
    said = of_undefined("'vault_a' is undefined", {**variables, "vault_other": "x"})
    assert said.endswith(f"use; add vault_a to the vault: {EDIT}")


def test_what_is_made_of_an_undefined_variable_is_not_what_is_meant() -> None:
    variables = {
        "backup_password": "{{ vault_backup_password }}",
        "vault_backup_passwords": ["{{ backup_password }}"],
        "vault_other": "x",
    }
    said = of_undefined("'vault_backup_password' is undefined", variables)
    assert said == (
        "'vault_backup_password' is undefined, which backup_password uses; add vault_backup_password to the vault: "
        f"{EDIT}"
    )


def test_an_input_that_is_not_set_is_told_as_that() -> None:
    """No other one is meant by it."""
    said = of_undefined("'debugging' is undefined", {**VARIABLES, "debuging": 1}, {"debugging": {"type": "bool"}})
    assert said == "debugging is not set, which fastapi_app_arguments and of_mine use"


class OfAll(dict[str, Any]):
    """Stands in for those of Ansible's own, which render whatever is looked at."""

    def values(self) -> Any:
        raise AssertionError("rendered")


def test_what_ansible_renders_is_not_looked_at_for_the_place() -> None:
    """A task has them beside its own variables, and the words were lost in the same error once more."""
    variables = {**VARIABLES, "hostvars": OfAll(web1={}), "vars": OfAll(VARIABLES)}
    assert of_undefined("'nobody' is undefined", variables) == "'nobody' is undefined"
