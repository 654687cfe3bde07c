from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.files import text_of


def test_a_file_is_read_whatever_bytes_it_has(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"#!/bin/sh\xff")
    assert text_of(str(tmp_path / "one")) == "#!/bin/sh\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("path", ["", "\0", "a\0b", "nowhere", "x" * 5000, "\ud800", ".", "/dev/zero"])
def test_what_is_no_file_has_no_text(path: str) -> None:
    assert text_of(path) is None


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert text_of(str(tmp_path / "pipe")) is None
