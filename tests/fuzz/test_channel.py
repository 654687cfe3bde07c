"""What a host says on a channel: frames, greetings, prompts, answers that are none."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.agent.protocol import Broken, Decoder, encode
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.archive import Agent
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.channel import Channel, Patience, Traffic
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.host import AgentHost
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.opening import Opening
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Unreachable
from hypothesis import strategies as st

from tests.fuzz.hostile import DEEP, JSON, TEXTS, confined, damaged, dumped, given, like, quick
from tests.unit.channel.lines import sudo

ERROR = {"message": "m", "kind": "failed", "details": {"cause": "c"}}
FRAMES = st.one_of(
    like({"id": 1, "result": {"a": 1}}).map(
        lambda frame: encode(frame) if "blob" not in frame else dumped(frame).encode()
    ),
    like({"id": 1, "error": ERROR}).map(lambda frame: dumped(frame).encode() + b"\n"),
    like(ERROR).map(lambda error: dumped({"id": 1, "error": error}).encode() + b"\n"),
    like({"id": 1, "event": {"phase": "x"}}).map(lambda frame: dumped(frame).encode() + b"\n"),
    st.builds(lambda size: dumped({"id": 1, "result": {}, "blob": size}).encode() + b"\n12345", JSON),
    st.integers(-300, 300).map(lambda size: dumped({"id": 1, "result": {}, "blob": size}).encode() + b"\n12345"),
    st.just(encode({"id": 1, "result": {"size": 3}}, b"abc")),
    (DEEP | JSON.map(dumped) | TEXTS).map(lambda text: text.encode("utf-8", "surrogatepass") + b"\n"),
)
STREAMS = damaged(st.lists(FRAMES, max_size=5).map(b"".join))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[begin:end] for begin, end in itertools.pairwise(at)]


@given(STREAMS, st.lists(st.integers(0, 500), max_size=5))
def test_frames(data: bytes, places: list[int]) -> None:
    with quick():
        decoder, found = Decoder(), 0
        try:
            for piece in cut(data, places):
                for header, blob in decoder.feed(piece):
                    assert isinstance(header, dict)
                    assert isinstance(blob, bytes)
                    found += 1
                    assert found <= data.count(b"\n"), "no end"
        except Broken:
            return


def test_a_line_without_an_end_is_no_frame() -> None:
    decoder, fed = Decoder(), 0
    with quick():
        try:
            while fed < 1 << 30:
                assert list(decoder.feed(b"x" * (1 << 20))) == []
                fed += 1 << 20
        except Broken:
            return
    raise AssertionError("it is kept for ever")


def channel() -> Channel:
    """One that is open, over no process."""
    opening = Opening(Agent(b"", "d", ""), "mark", bytearray())
    opening.open = True
    process = SimpleNamespace(kill=lambda: None, poll=lambda: 0)
    return Channel(SimpleNamespace(process=process), opening, Patience(), Traffic())  # type: ignore[arg-type]


@given(STREAMS, st.lists(st.integers(0, 500), max_size=5))
def test_an_answer(data: bytes, places: list[int]) -> None:
    async def asks() -> None:
        one = channel()
        answer = one.ask("verb", {}, b"", lambda event: None)
        for piece in cut(data, places):
            one._hear(piece)
        one._break("the end")
        try:
            result, blob = await answer
        except (Refused, Unreachable):
            return
        assert isinstance(result, dict)
        assert isinstance(blob, bytes)

    with quick():
        asyncio.run(asks())


SAID = st.lists(
    st.one_of(
        st.sampled_from(
            [
                *(b"mark hello \n", b"mark missing \n", b"mark refused \n", b"mark refused {\n", b"mark refused [[\n"),
                *(
                    b"mark \xff \n",
                    b"mark\n",
                    b"[sudo] password:",
                    b"Sorry, try again.\n",
                    b"mark refused " + b"[" * 9999,
                ),
            ]
        ),
        st.binary(max_size=50),
        st.just(b"x" * 10_000),
    ),
    max_size=6,
)


@given(SAID, SAID, st.sampled_from([None, "", "secret"]))
def test_a_greeting(out: list[bytes], err: list[bytes], password: str | None) -> None:
    with quick():
        one = Opening(
            Agent(b"agent", "d", ""), "mark", bytearray(b"{}\n"), None if password is None else sudo(password)
        )
        one.begin()
        try:
            for piece in out:
                list(one.hear(piece))
            for piece in err:
                list(one.hear_error(piece))
        except Refused as error:
            said = str(error)
        else:
            said = ""
        assert "secret" not in said
        assert isinstance(one.failure(1), (Refused, Unreachable))
        assert isinstance(one.last_words(), str)


@given(st.lists(st.tuples(like({"size": 6}), st.binary(max_size=10)), min_size=1, max_size=4))
def test_a_file_that_is_fetched(answers: list[tuple[dict[str, Any], bytes]]) -> None:
    class Line:
        broken = ""
        chunk, window = 4, 2

        def __init__(self) -> None:
            self.left = list(answers)
            self.asked = 0

        async def request(self, verb: str, arguments: Any, blob: bytes = b"") -> tuple[Any, bytes]:
            self.asked += 1
            assert self.asked < 1000
            return self.left.pop(0) if len(self.left) > 1 else self.left[0]

    async def fetches(place: Path) -> None:
        host = AgentHost("web1", None, None)  # type: ignore[arg-type]
        host._line = Line()  # type: ignore[assignment]
        try:
            await host.fetch("/there", place / "here")
        except (Refused, Unreachable):
            assert not list(place.iterdir())

    with confined() as inside, quick():
        asyncio.run(fetches(inside))
