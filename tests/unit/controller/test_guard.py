"""A run that could only do nothing is refused by name."""

from __future__ import annotations

import pytest
from ansible_collections.slipway.fleet.plugins.action.guard import no_hosts, no_tasks

GROUPS = {"web": ["web1", "web2"], "data": ["data1"], "all": ["web1", "web2", "data1"]}


@pytest.mark.parametrize(
    ("over", "chosen", "limit", "words"),
    [
        (["web"], ["localhost", "web1", "web2", "data1"], "", ""),
        (["web"], ["web2"], "web2", ""),
        (["web", "data"], ["data1"], "data1", ""),
        (["web"], ["data1"], "data1", "--limit data1 leaves none of them. They are: web1, web2."),
        (["load_balancer"], ["localhost"], "", "has no hosts in the group load_balancer, so nothing was done"),
    ],
)
def test_no_hosts(over: list[str], chosen: list[str], limit: str, words: str) -> None:
    said = no_hosts(over, GROUPS, chosen, "hosts.yml", limit)
    assert words in said
    assert bool(said) == bool(words)


@pytest.mark.parametrize(
    ("own", "named", "refused"),
    [
        (["always"], ["all"], False),
        (["always"], ["untagged"], False),
        (["always"], ["deploy"], True),
        (["always"], ["always"], True),
        (["always", "app"], ["app"], False),
        (["always", "app"], ["other"], True),
    ],
)
def test_tags_that_leave_no_task(own: list[str], named: list[str], refused: bool) -> None:
    assert bool(no_tasks(own, named)) == refused
