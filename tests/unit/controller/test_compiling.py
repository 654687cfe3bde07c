"""Templates that are compiled once: which are, and that nothing else differs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from ansible.template import Templar, trust_as_template
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.compiling import compiled_once
from jinja2 import Environment


def value(text: str, overrides: Any = None, **variables: Any) -> Any:
    """What Ansible makes of a text for one host."""
    variables = {name: trust_as_template(given) for name, given in variables.items()}
    return Templar(variables=variables).template(trust_as_template(text), overrides=overrides)


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a text was compiled."""
    found: Counter[str] = Counter()
    anew = Environment.compile

    def compile_counted(self: Environment, source: Any, *more: Any, **others: Any) -> Any:
        found[str(source)] += 1
        return anew(self, source, *more, **others)

    monkeypatch.setattr(Environment, "compile", compile_counted)
    return found


def test_a_text_is_compiled_once_for_all_hosts_and_has_the_values_of_each(compiled: Counter[str]) -> None:
    with compiled_once():
        found = [value("{{ a }}-{{ b }}", a="{{ b * 2 }}", b=name) for name in ("x", "y", "z")]
    assert found == ["xx-x", "yy-y", "zz-z"]
    assert compiled == {"{{ a }}-{{ b }}": 1, "{{ b * 2 }}": 1}


def test_a_text_in_another_syntax_is_another_one(compiled: Counter[str]) -> None:
    text = "{% if a %}\n{{ a }}{% endif %}"
    with compiled_once():
        found = [value(text, {"trim_blocks": trim}, a="1") for trim in (True, False, True, False)]
    assert found == ["1", "\n1", "1", "\n1"]
    assert compiled[text] == 2


def test_a_text_with_a_backslash_is_compiled_as_ever(compiled: Counter[str]) -> None:
    text = "{{ 'a\\n' }}{{ b }}"
    expected = value(text, b="1")
    with compiled_once():
        assert [value(text, b="1"), value(text, b="1")] == [expected, expected]
    assert compiled[text] == 3


def test_a_text_that_is_no_template_says_so_each_time() -> None:
    errors = []
    with compiled_once():
        for _ in range(2):
            with pytest.raises(Exception, match="Syntax error in template") as raised:
                value("{{ a +}}", a="1")
            errors.append(str(raised.value))
    assert errors[0] == errors[1]


def test_afterwards_everything_is_as_before() -> None:
    before = Environment.compile
    with pytest.raises(KeyError), compiled_once():
        raise KeyError
    assert Environment.compile is before
