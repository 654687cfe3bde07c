"""What a variable of a role can be asked for beyond its type."""

from __future__ import annotations

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.values import (
    Least,
    Like,
    NotEmpty,
    Rule,
    password,
    placeholders,
    published,
)


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
        (Least("one", 1), []),
        (Least("text", 2), ['text is "1"; use at least 2.']),
        (Least("half", 1), ["half is 0.5; use at least 1."]),
        (Like("path", "/.*", "a slash"), []),
        (Like("word", "/.*", "a slash"), ['word is "a"; use a slash.']),
        (Like("words", "/.*", "it"), ['words is "b"; use it.', 'words is "c"; use it.']),
        (Like("line", "[a-z]+", "it"), ['line is "a\\n"; use it.']),
        (Like("table", "[a-z]+", "it"), ['a key of table is "B"; use it.']),
        (Like("none", "/.*", "it"), []),
        (NotEmpty("none", "a word"), ["none is []; use a word."]),
        (NotEmpty("words", "a word"), []),
    ],
)
def test_values_that_break_their_rule_are_named(rule: Rule, said: list[str]) -> None:
    assert list(rule.broken(VALUES.__getitem__)) == said


@pytest.mark.parametrize(
    ("value", "usable"),
    [
        ("k3v9-and-13-more", True),
        ("'\"\\:%$`-0123456789", True),
        ("fifteen-letters", False),
        ("", False),
        ("changeme", False),
        ("with a space 0123456789", False),
        ("with-a-line\n0123456789", False),
        ("0123456789abcdef\n", False),
        ("pässword-0123456789", False),
    ],
)
def test_which_passwords_are_taken(value: str, usable: bool) -> None:
    said = list(password("redis_password", {"redis_password": value}.__getitem__))
    assert [sentence.startswith("redis_password is a placeholder") for sentence in said] == ([] if usable else [True])
    assert not value or value not in "".join(said), "a secret is not shown"


@pytest.mark.parametrize(
    ("value", "right"),
    [
        ("", True),
        ("10.0.0.5:5432", True),
        ("[fd00::5]:5432", True),
        ("10.0.0.5", False),
        ("db.example.com:5432", False),
        ("0.0.0.0:5432", False),
        ("[::]:5432", False),
        ("10.0.0.5:5432\n", False),
    ],
)
def test_where_a_service_can_be_published(value: str, right: bool) -> None:
    said = list(published("publish", "10.0.0.5:1", {"publish": value}.__getitem__))
    assert [sentence.startswith(f"publish is {value}; name one address") for sentence in said] == [True] * (not right)
