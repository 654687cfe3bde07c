"""The table of what a host can be asked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.agent import verbs
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import parts

PROMISED = [
    name for names in re.findall(r"^([a-z_, ]+): ", parts.__doc__ or "", re.MULTILINE) for name in names.split(", ")
]


def test_the_agent_knows_every_verb_that_is_promised() -> None:
    assert set(PROMISED) >= {
        "look",
        "hold",
        "renew",
        "stage",
        "run",
        "activate",
        "settle",
        "let_go",
        "image",
        "package",
    }
    for verb in PROMISED:
        assert callable(verbs.find(verb)), verb


@pytest.mark.parametrize("verb", ["", "find", "__name__", "operations"])
def test_another_word_is_refused(verb: str) -> None:
    with pytest.raises(SlipwayError, match=f"does not know '{verb}'"):
        verbs.find(verb)


def test_the_package_that_was_sent_is_gone_when_it_was_refused(tmp_path: Path) -> None:
    archive = tmp_path / "package.tar"
    archive.write_bytes(b"no archive")

    with pytest.raises(Exception, match=r"could not be opened|file header"):
        verbs.find("package")(
            {"operation": "install", "root": str(tmp_path), "archive": str(archive), "content": "c0ffee",
             "python": "/usr/bin/python3"},
            lambda event: None,
        )  # fmt: skip
    assert not archive.exists()
