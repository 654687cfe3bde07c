"""Templates that are compiled once: which are, and that nothing else differs."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ansible import constants
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


PUBLIC = "{{ a }} of a role"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ansible's own directory of a user who has none yet."""
    monkeypatch.setattr(constants, "ANSIBLE_HOME", str(tmp_path / ".ansible"))
    return tmp_path


def kept_in(home: Path) -> Path:
    [found] = (home / ".ansible/slipway").iterdir()
    return found


def of_a_run(value_of_a: str, *more: str) -> list[Any]:
    with compiled_once([PUBLIC]):
        return [value(text, a=value_of_a) for text in (PUBLIC, *more)]


def test_a_text_of_a_role_is_compiled_once_for_many_runs(compiled: Counter[str], home: Path) -> None:
    assert [of_a_run("1"), of_a_run("2")] == [["1 of a role"], ["2 of a role"]]
    assert compiled[PUBLIC] == 1


def test_no_value_and_no_text_of_an_inventory_is_kept(compiled: Counter[str], home: Path) -> None:
    own = "secret-in-a-template:{{ a }}"
    for _ in range(2):
        assert of_a_run("secret-value", own)[1] == "secret-in-a-template:secret-value"
    assert compiled[own] == 2
    assert b" of a role" in kept_in(home).read_bytes()
    assert b"secret" not in kept_in(home).read_bytes()


@pytest.mark.parametrize("damage", [lambda _: b"", lambda kept: kept[:-40], lambda kept: kept[:99] + b"0" + kept[100:]])
def test_what_is_kept_and_damaged_is_made_anew(compiled: Counter[str], home: Path, damage: Any) -> None:
    of_a_run("1")
    good = kept_in(home).read_bytes()
    kept_in(home).write_bytes(damage(good))
    assert of_a_run("2") == ["2 of a role"]
    assert compiled[PUBLIC] == 2
    assert kept_in(home).read_bytes() == good


@pytest.mark.parametrize("whose", ["file", "directory"])
def test_what_others_can_write_is_not_run(compiled: Counter[str], home: Path, whose: str) -> None:
    of_a_run("1")
    path = kept_in(home)
    assert path.stat().st_mode & 0o777 == 0o600
    (path if whose == "file" else path.parent).chmod(0o777)
    assert of_a_run("2") == ["2 of a role"]
    assert compiled[PUBLIC] == 2


def test_what_is_of_another_user_is_not_run(compiled: Counter[str], home: Path) -> None:
    of_a_run("1")
    os.chown(kept_in(home), 65534, 65534)
    assert of_a_run("2") == ["2 of a role"]
    assert compiled[PUBLIC] == 2


def test_what_nothing_was_made_of_for_a_month_goes(compiled: Counter[str], home: Path) -> None:
    of_a_run("1")
    old = kept_in(home).with_name("templates-of-before")
    old.write_text("")
    os.utime(old, (0, 0))
    with compiled_once([PUBLIC, "{{ a }} more"]):
        value(PUBLIC, a="1")
    assert not old.exists()
    assert len(list(old.parent.iterdir())) == 2


def test_another_version_makes_its_own(compiled: Counter[str], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    of_a_run("1")
    monkeypatch.setattr("jinja2.__version__", "99")
    assert of_a_run("2") == ["2 of a role"]
    assert compiled[PUBLIC] == 2


def test_where_nothing_can_be_kept_a_run_goes_on(compiled: Counter[str], home: Path) -> None:
    (home / ".ansible").write_text("")
    assert [of_a_run("1"), of_a_run("2")] == [["1 of a role"], ["2 of a role"]]
    assert compiled[PUBLIC] == 2
