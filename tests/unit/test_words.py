"""What an app is told, as the text of a variable, and how it is quoted for a unit and for Compose."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.module_utils.release.words import (
    compose_word,
    told,
    unit_assignment,
    unit_word,
)

from tests.values import VALUES


def test_there_are_fifty_values() -> None:
    assert len(VALUES) >= 50


@pytest.mark.parametrize("name", VALUES)
def test_a_value_as_text_and_through_a_compose_file(name: str) -> None:
    value, text = VALUES[name]
    assert told({name: value}) == {name: text}
    assert yaml.safe_load(compose_word(text)).replace("$$", "$") == text
    assert compose_word(text).isascii() or compose_word(text).isprintable()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (dt.date(2026, 11, 26), "2026-11-26"),
        ([dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC)], '["2026-01-02T03:04:00+00:00"]'),
        ((1, "a"), '[1, "a"]'),
        ({1: None}, '{"1": null}'),
    ],
)
def test_other_values(value: Any, text: str) -> None:
    assert told({"A": value}) == {"A": text}


def test_what_is_null_is_left_out() -> None:
    assert told({"A": None, "B": ""}) == {"B": ""}


def test_compose_replaces_its_marks_and_no_other_dollar() -> None:
    assert compose_word("${SLIPWAY_SLOT} $a", ["${SLIPWAY_SLOT}"]) == '"${SLIPWAY_SLOT} $$a"'
    assert compose_word("${SLIPWAY_SLOT}") == '"$${SLIPWAY_SLOT}"'


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("plain", '"plain"'),
        ('a "b" \\', '"a \\"b\\" \\\\"'),
        ("100% of $HOME", '"100%% of $$HOME"'),
        ("two\nlines\r", '"two\\x0alines\\x0d"'),
        ("@SLOT@", '"\\x40SLOT\\x40"'),
    ],
)
def test_words_of_a_command_reach_the_process_as_they_are(word: str, quoted: str) -> None:
    assert unit_word(word) == quoted


def test_an_assignment_of_a_unit_keeps_its_dollar_and_its_marks() -> None:
    assert unit_assignment("PRICE", "$5 100%") == '"PRICE=$5 100%%"'
    assert unit_assignment("SLOT", "@SLOT@", ["@SLOT@"]) == '"SLOT=@SLOT@"'
    assert unit_assignment("SLOT", "@SLOT@", ["@RELEASE@"]) == '"SLOT=\\x40SLOT\\x40"'
