"""Frames, wherever a stream is cut."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.agent.protocol import Broken, Decoder, encode

FRAMES: list[tuple[dict[str, Any], bytes]] = [
    ({"id": 1, "verb": "look", "arguments": {"name": "fünf\n\ud800"}}, b""),
    ({"id": 2}, b"\n{\x00\n\n"),
    ({"id": 3, "result": {}}, b""),
    ({"id": 4}, b"x" * 300),
]
STREAM = b"".join(encode(header, blob) for header, blob in FRAMES)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, len(STREAM)])
def test_frames_are_read_wherever_the_stream_was_cut(size: int) -> None:
    decoder = Decoder()
    pieces = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]

    assert [frame for piece in pieces for frame in decoder.feed(piece)] == FRAMES


def test_a_frame_comes_with_its_last_byte_and_not_before() -> None:
    decoder = Decoder()
    data = encode({"id": 1}, b"four")

    assert list(decoder.feed(data[:-1])) == []
    assert list(decoder.feed(data[-1:])) == [({"id": 1}, b"four")]


@pytest.mark.parametrize("line", [b"Segmentation fault\n", b"[1]\n", b'{"blob": "4"}\n', b"\xff\n"])
def test_what_is_no_frame_is_shown(line: bytes) -> None:
    with pytest.raises(Broken, match="no frame of the agent"):
        list(Decoder().feed(line))
