"""To which release a fleet goes back, by what its hosts have."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.agreement import NoCommonRelease, common_release

Host = tuple[str, str]  # what it serves, and its good releases: `-x` is one whose image is gone


def answers(*hosts: Host) -> dict[str, dict[str, Any]]:
    return {
        f"web{number}": {
            "serving": {"release": serving} if serving else None,
            "state": {"release": good.split()[-1]} if good and not serving else None,
            "good": [{"release": one.strip("-"), "there": not one.startswith("-")} for one in good.split()],
        }
        for number, (serving, good) in enumerate(hosts, 1)
    }


@pytest.mark.parametrize(
    ("hosts", "release"),
    [
        ([("c", "a b c")], "b"),
        ([("c", "a b c"), ("c", "a b c")], "b"),
        ([("c", "a b c"), ("c", "a c")], "a"),  # one missed a deploy
        ([("c", "a -b c"), ("c", "a b c")], "a"),  # an image is gone
        ([("c", "a b c"), ("b", "a b")], "b"),  # held in the middle: the others are there already
        ([("b", "a b"), ("c", "a b c")], "b"),
        ([("c", "a b c"), ("b", "a b c")], "b"),  # nobody goes forward
        ([("c", "a -b c"), ("b", "a -b")], "a"),  # whoever serves it may, the other cannot return to it
        ([("c", "a c"), ("b", "a b")], "a"),
        ([("", "a b c"), ("c", "a b c")], "b"),  # one is dead; what it should serve counts
        ([("x", "a b"), ("x", "a b")], "b"),  # what serves was never recorded as good
    ],
)
def test_it_is_the_newest_that_all_have_and_to_which_none_goes_forward(hosts: list[Host], release: str) -> None:
    assert common_release(answers(*hosts)) == release


def test_where_there_is_none_it_names_what_was_rolled_back_from_if_all_have_it() -> None:
    hosts = answers(("c", "b c"), ("c", "c"))
    hosts["web1"]["skipped"] = ["e", "d"]
    with pytest.raises(NoCommonRelease, match="lists$"):
        common_release(hosts)
    hosts["web2"]["skipped"] = ["d"]
    said = "; d is on all hosts and was skipped, since it was rolled back from: -e fastapi_app_release=d"
    with pytest.raises(NoCommonRelease) as caught:
        common_release(hosts)
    assert "--limit 'all:!web2', which splits the fleet until a deploy of all, or name another" in str(caught.value)
    assert str(caught.value).endswith(f"lists{said}")
    hosts["web1"]["good"] = [{"release": "c"}]
    with pytest.raises(NoCommonRelease) as caught:
        common_release(hosts)
    assert str(caught.value).endswith(f"(web1 serves c; web2 serves c){said}")


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ([("c", "c")], "no good release to return to before the one that serves (web1 serves c)"),
        ([("", ""), ("", "")], "(web1 serves nothing; web2 serves nothing)"),
        (
            [("c", "b c"), ("", "")],
            "of release b: web2 does not have it; leave it out of this run with --limit 'all:!web2'",
        ),
        (
            [("c", "a b c"), ("c", "c"), ("c", "a -b c"), ("c", "a c")],
            "of release a: web2 does not have it; leave it out of this run",
        ),
        (
            [("c", "b c"), ("c", "c"), ("c", "-b c")],
            "of release b: web2 does not have it, web3 has no longer its image or package; leave them out of this run",
        ),
    ],
)
def test_where_there_is_none_it_says_where_not_and_what_to_do(hosts: list[Host], said: str) -> None:
    with pytest.raises(NoCommonRelease) as caught:
        common_release(answers(*hosts))
    assert said in str(caught.value)
