"""Options of a task become what a request says they are, or are refused by the name of their variable."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.options import OptionError, typed


@dataclass(frozen=True)
class Request:
    name: str
    size: int = 5
    limit: int | None = None
    wanted: bool = False
    place: Path | None = None
    files: tuple[str, ...] = ()
    more: dict[str, str] = field(default_factory=dict)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ({}, Request("a")),
        ({"size": None, "place": None}, Request("a")),
        ({"size": "7", "limit": "8", "wanted": "yes"}, Request("a", 7, 8, True)),
        ({"wanted": "False", "name": 5}, Request("5")),
        ({"place": "", "files": ["x", 1]}, Request("a", files=("x", "1"))),
        ({"place": "/x", "more": {"A": 1}}, Request("a", place=Path("/x"), more={"A": "1"})),
        ({"place": "~/x"}, Request("a", place=Path.home() / "x")),
    ],
)
def test_what_a_template_made_of_it_is_taken(given: dict[str, Any], taken: Request) -> None:
    assert typed(Request, {"name": "a"} | given, "role") == taken


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"size": "much"}, "role_size is 'much', and takes a whole number"),
        ({"size": True}, "role_size is of type bool, and takes a whole number"),
        ({"wanted": "perhaps"}, "role_wanted is of type str, and takes true or false"),
        ({"files": "x"}, "role_files is of type str, and takes a list"),
        ({"more": ["x"]}, "role_more is of type list, and takes a dictionary of names and values"),
        ({"name": ["x"]}, "role_name is of type list, and takes text"),
        ({"place": 3}, "role_place is of type int, and takes a path"),
        ({"name": None}, "role_name is missing"),
        ({"nonsense": 1}, "there is no option nonsense; there are name, size"),
    ],
)
def test_what_is_wrong_is_refused_by_its_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(OptionError) as refused:
        typed(Request, {"name": "a"} | given, "role")
    assert said in str(refused.value)
