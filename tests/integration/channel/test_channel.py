"""Channels to real agents, over shells of this machine."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.agent import keep
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.channel import Patience
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.host import AgentHost
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Unreachable

from tests.unit.channel.lines import Run, Shell, agent, host, sudo


@asynccontextmanager
async def opened(place: Path, **more: Any) -> AsyncIterator[AgentHost]:
    one = host(place, **more)
    try:
        yield one
    finally:
        await one.close()


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a host keeps agents, shared by the tests as by the runs of a host."""
    return tmp_path_factory.mktemp("host") / "agent"


async def until(true: Any) -> None:
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.005)


def agents_process(way: Shell) -> int:
    """The process of the agent; the shell became it."""
    return way.processes[-1].pid


async def test_a_verb_gets_its_arguments_and_its_result_comes_back(tmp_path: Path, place: Path) -> None:
    async with opened(place) as one:
        assert await one.call("echo", {"text": "ü\n", "many": list(range(100_000))}) == {
            "text": "ü\n",
            "many": list(range(100_000)),
        }


async def test_a_host_that_has_the_agent_gets_little_more_than_the_question(tmp_path: Path) -> None:
    place = tmp_path / "agent"
    async with opened(place) as first:
        await first.call("echo", {})
    async with opened(place) as second:
        await second.call("echo", {})

        assert first.traffic.sent > len(agent().data)
        assert second.traffic.sent + second.traffic.received < 400


async def test_events_come_while_it_happens_and_the_lease_is_renewed_meanwhile(tmp_path: Path, place: Path) -> None:
    events: list[Any] = []
    async with opened(place) as one:
        long = asyncio.create_task(
            one.call("phases", {"phases": ["gate", "soak"], "directory": str(tmp_path)}, events.append)
        )
        await until(lambda: events)
        assert events == [{"phase": "gate"}]
        assert await one.call("echo", {"renewed": True}) == {"renewed": True}
        (tmp_path / "gate").touch()
        await until(lambda: len(events) == 2)
        (tmp_path / "soak").touch()
        assert await long == {"ended": True}


async def test_nothing_that_is_printed_stands_between_frames(tmp_path: Path, place: Path) -> None:
    way = Shell(lambda command: f"echo banner; echo motd >&2; {command}")
    async with opened(place, way=way) as one:
        assert await one.call("noisy", {}) == {"quiet": True}
        assert await one.call("echo", {"then": 1}) == {"then": 1}


@pytest.mark.parametrize(
    ("verb", "kind", "details", "text"),
    [
        ("refuse", "held", {"seconds": 80}, "^somebody else has it$"),
        ("die", "failed", {}, r"ended without an answer \(signal 9\)"),
        ("explode", "failed", {"traceback": ...}, "^KeyError: 'nothing'$"),
        ("dance", "failed", {}, "does not know 'dance'"),
    ],
)
async def test_what_goes_wrong_is_said_and_ends_nothing_else(
    tmp_path: Path, place: Path, verb: str, kind: str, details: dict[str, Any], text: str
) -> None:
    async with opened(place) as one:
        with pytest.raises(Refused, match=text) as refused:
            await one.call(verb, {})

        assert refused.value.kind == kind
        assert refused.value.details.keys() == details.keys()
        assert await one.call("echo", {"then": 1}) == {"then": 1}


async def test_a_listener_that_fails_fails_its_own_call(tmp_path: Path, place: Path) -> None:
    def listen(event: Any) -> None:
        raise LookupError(event["phase"])

    async with opened(place) as one:
        with pytest.raises(LookupError, match="gate"):
            await one.call("phases", {"phases": ["gate"], "directory": str(tmp_path)}, listen)
        (tmp_path / "gate").touch()

        assert await one.call("echo", {"then": 1}) == {"then": 1}


async def test_a_verb_runs_in_clean_surroundings(tmp_path: Path, place: Path) -> None:
    way = Shell(lambda command: f"export SECRET=s PYTHONPATH=/nowhere LC_ALL=de_DE; umask 0; {command}")
    async with opened(place, way=way, environment={"https_proxy": "http://proxy:3128"}) as one:
        seen = await one.call("surroundings", {"password": "planted-secret"})

    assert set(seen["environment"]) == {"PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "https_proxy"}
    assert seen["environment"]["LC_ALL"] == "C.UTF-8"
    assert (seen["umask"], seen["directory"], seen["stdin"]) == (0o077, "/", "")
    assert "planted-secret" not in seen["command"]
    assert "proxy" not in seen["command"]


async def test_a_killed_agent_is_told_and_the_next_call_has_another(tmp_path: Path, place: Path) -> None:
    way = Shell()
    async with opened(place, way=way) as one:
        events: list[Any] = []
        asked = [
            asyncio.create_task(one.call("phases", {"phases": [phase], "directory": str(tmp_path)}, events.append))
            for phase in ("a", "b")
        ]
        await until(lambda: len(events) == 2)
        os.kill(agents_process(way), signal.SIGKILL)

        for call in asked:
            with pytest.raises(Unreachable, match="SIGKILL"):
                await call
        assert await one.call("echo", {"again": 1}) == {"again": 1}
        assert way.forgotten == 1

        # What was under way goes on by itself.
        for phase in ("a", "b"):
            (tmp_path / phase).touch()
        await until((tmp_path / "ended").exists)


async def test_a_closed_channel_says_how_it_ended_and_the_connections_last_words(tmp_path: Path, place: Path) -> None:
    way = Shell(lambda command: f"({command}); echo 'Connection to \x1b[1mone\x1b[0m closed by remote host.' >&2")
    async with opened(place, way=way) as one:
        await one.call("echo", {})
        asked = asyncio.create_task(one.call("phases", {"phases": ["a"], "directory": str(tmp_path)}))
        await one.call("echo", {})
        children = Path(f"/proc/{agents_process(way)}/task/{agents_process(way)}/children").read_text(encoding="utf-8")
        os.kill(int(children.split()[0]), signal.SIGKILL)

        with pytest.raises(
            Unreachable,
            match=r"^the channel was closed \(exit code 0\); .*: Connection to one closed by remote host\.$",
        ):
            await asked
    (tmp_path / "a").touch()


async def test_a_host_that_is_silently_gone_is_unreachable_within_the_limit(tmp_path: Path, place: Path) -> None:
    way, patience = Shell(), Patience(0.25, 19)  # a busy machine is silent for a second or two, too
    async with opened(place, way=way, patience=patience) as one:
        events: list[Any] = []
        asked = asyncio.create_task(one.call("phases", {"phases": ["a"], "directory": str(tmp_path)}, events.append))
        await until(lambda: events)
        await asyncio.sleep(patience.limit + 1)
        assert not asked.done(), "a host that answers pings is there, however long a verb takes"
        os.kill(agents_process(way), signal.SIGSTOP)
        began = time.monotonic()

        with pytest.raises(Unreachable, match="no answer for 5 s"):
            await asked
        assert time.monotonic() - began < 10 * patience.limit
    (tmp_path / "a").touch()


# With it an agent takes a controller for gone that has said nothing for some seconds, which one that is there does not
# on a busy machine either.
BRIEF = Patience(0.3, 9)


async def test_an_agent_whose_controller_is_silently_gone_ends(tmp_path: Path, place: Path) -> None:
    way = Shell()
    one = host(place, way=way, patience=BRIEF)
    await one.call("echo", {})
    assert one._line is not None
    timer = one._line._timer  # type: ignore[attr-defined]
    timer.cancel()

    await until(lambda: way.processes[-1].poll() is not None)
    await one.close()


def left(directory: Path) -> list[str]:
    path = directory / "left"
    return path.read_text(encoding="utf-8").split() if path.exists() else []


def leave(one: AgentHost) -> None:
    """Say nothing more, as a controller that is gone."""
    assert one._line is not None
    one._line._timer.cancel()  # type: ignore[attr-defined]


async def test_an_agent_that_is_left_sees_to_what_was_held_once_more_when_its_last_verb_ends(
    tmp_path: Path, place: Path
) -> None:
    way = Shell()
    one = host(place, way=way, patience=BRIEF)
    for name in ("first", "again"):
        await one.call("hold", {"name": name, "directory": str(tmp_path)})
    events: list[Any] = []
    asked = asyncio.create_task(one.call("phases", {"phases": ["a"], "directory": str(tmp_path)}, events.append))
    await until(lambda: events)
    leave(one)

    await until(lambda: left(tmp_path) == ["again"])
    assert way.processes[-1].poll() is None
    (tmp_path / "a").touch()
    await until(lambda: way.processes[-1].poll() is not None)
    assert left(tmp_path) == ["again", "again"]
    assert (tmp_path / "ended").exists()
    await one.close()
    with suppress(Unreachable):
        await asked


async def test_an_agent_that_is_left_and_does_nothing_sees_to_it_once(tmp_path: Path, place: Path) -> None:
    way = Shell()
    one = host(place, way=way, patience=BRIEF)
    await one.call("hold", {"name": "it", "directory": str(tmp_path)})
    leave(one)
    await until(lambda: way.processes[-1].poll() is not None)
    assert left(tmp_path) == ["it"]
    await one.close()


@pytest.mark.parametrize("way", [Shell, Run])
async def test_nobody_is_left_by_a_controller_that_says_it_is_done_or_comes_for_each_request(
    tmp_path: Path, place: Path, way: Any
) -> None:
    chosen = way()
    async with opened(place, way=chosen) as one:
        assert await one.call("hold", {"name": "it", "directory": str(tmp_path)}) == {"held": "it"}
    if way is Shell:
        await until(lambda: chosen.processes[-1].poll() is not None)
    assert left(tmp_path) == []


async def test_a_channel_that_does_not_open_is_given_up(tmp_path: Path, place: Path) -> None:
    way = Shell(lambda command: "echo 'Enter one-time code:' >&2; exec sleep 60", patience=0.5)
    async with opened(place, way=way) as one:
        with pytest.raises(Unreachable, match="no answer within 0 s; its last words: Enter one-time code:"):
            await one.call("echo", {})
        await until(lambda: way.processes[-1].poll() is not None)


@pytest.mark.parametrize("size", [0, 1, 262_144, 5_000_001])
async def test_a_file_goes_there_and_comes_back(tmp_path: Path, place: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "layer").write_bytes(content)
    async with opened(place) as one:
        there = Path(await one.send(tmp_path / "layer"))
        assert there.name == "layer"
        assert there.read_bytes() == content
        assert there.stat().st_mode & 0o777 == 0o600
        assert there.parent.stat().st_mode & 0o777 == 0o700

        await one.fetch(str(there), tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == content
    assert not there.parent.exists(), "it stays until the run is over"


async def test_a_transfer_holds_little_in_memory(tmp_path: Path, place: Path) -> None:
    """Several requests are under way and no more; the rest waits on the disk."""
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(20_000_000)
    async with opened(place) as one:
        await one.call("echo", {})
        most = 0
        sending = asyncio.create_task(one.send(tmp_path / "large"))
        while not sending.done():
            await asyncio.sleep(0.001)
            writer = one._line._writer  # type: ignore[union-attr]
            most = max(most, writer.get_write_buffer_size())
        await sending

    assert 0 < most < 2_000_000


async def test_files_of_one_name_do_not_overwrite_each_other(tmp_path: Path, place: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "wheel").write_text(name, encoding="utf-8")
    async with opened(place) as one:
        first = await one.send(tmp_path / "a/wheel")
        second = await one.send(tmp_path / "b/wheel")
        (tmp_path / "a/wheel").write_text("later", encoding="utf-8")
        third = await one.send(tmp_path / "a/wheel")

        assert first == third != second
        assert [Path(path).read_text(encoding="utf-8") for path in (first, second)] == ["later", "b"]
        assert Path(second).name == "wheel"


async def test_what_is_not_there_cannot_be_fetched(tmp_path: Path, place: Path) -> None:
    async with opened(place) as one:
        with pytest.raises(Refused, match=r"No such file.*nothing"):
            await one.fetch(str(tmp_path / "nothing"), tmp_path / "back")
    assert not list(tmp_path.glob("*back*"))


async def test_sent_files_outlive_a_broken_channel_and_not_an_abandoned_run(
    tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "layer").write_text("content", encoding="utf-8")
    way = Shell()
    one, other = host(place, way=way), host(place)
    there = Path(await one.send(tmp_path / "layer"))
    os.kill(agents_process(way), signal.SIGKILL)
    await other.call("echo", {})
    assert there.exists(), "the run may come back"
    assert await one.call("echo", {"back": 1}) == {"back": 1}

    long_ago = time.time() - keep.RETURN - 10
    os.utime(there.parent, (long_ago, long_ago))
    await other.close()
    await other.call("echo", {})
    assert there.exists(), "its channel is open"
    os.kill(agents_process(way), signal.SIGKILL)
    await until(lambda: way.processes[-1].poll() is not None)
    os.utime(there.parent, (long_ago, long_ago))
    await other.close()
    await other.call("echo", {})
    await until(lambda: not there.parent.exists())
    await other.close()
    await one.close()


async def test_a_call_that_nobody_waits_for_any_more_harms_no_other(tmp_path: Path, place: Path) -> None:
    async with opened(place) as one:
        await one.call("echo", {})
        asked = asyncio.create_task(one.call("phases", {"phases": ["a"], "directory": str(tmp_path)}))
        await asyncio.sleep(0.05)
        asked.cancel()
        (tmp_path / "a").touch()

        assert await one.call("echo", {"then": 1}) == {"then": 1}
        await until((tmp_path / "ended").exists)


async def opening_given_up(place: Path, steps: int, said: list[Any]) -> None:
    """Cancel a call so many steps of the loop after the process of its channel was started."""
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    way = Shell(lambda command: "sleep 60")
    async with opened(place, way=way) as one:
        call = asyncio.create_task(one.call("echo", {}))
        while not way.processes:
            await asyncio.sleep(0)
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call


@pytest.mark.parametrize("steps", range(8))
def test_nobody_is_told_how_an_opening_ended_that_was_given_up(place: Path, steps: int) -> None:
    """Python would print it on the terminal, in the middle of what the run says."""
    said: list[Any] = []
    asyncio.run(opening_given_up(place, steps, said))
    gc.collect()
    assert not said


async def test_many_channels_at_once(tmp_path: Path, place: Path) -> None:
    hosts = [host(place) for _ in range(8)]
    answers = await asyncio.gather(*(one.call("echo", {"number": at}) for at, one in enumerate(hosts)))
    await asyncio.gather(*(one.close() for one in hosts))

    assert [answer["number"] for answer in answers] == list(range(8))


async def test_calls_that_come_together_share_one_channel(tmp_path: Path, place: Path) -> None:
    way = Shell()
    async with opened(place, way=way) as one:
        await asyncio.gather(*(one.call("echo", {}) for _ in range(5)))

        assert len(way.processes) == 1


@pytest.mark.parametrize(("password", "sentence"), [("right", ""), ("wrong", "the become password is wrong for sudo")])
async def test_a_password_is_answered_where_it_is_asked(
    tmp_path: Path, place: Path, password: str, sentence: str
) -> None:
    asking = """printf '[sudo] password:' >&2; read -r given; echo >&2
        [ "$given" = right ] || { echo 'Sorry, try again.' >&2; exit 1; }"""
    way = Shell(lambda command: f"{asking}\n{command}", sudo(password))
    async with opened(place, way=way) as one:
        if not sentence:
            assert await one.call("echo", {"root": True}) == {"root": True}
            return
        with pytest.raises(Refused, match=sentence):
            await one.call("echo", {})


class Raced(Run):
    """A connection that runs commands alone, where another run brings the agent after the first of them."""

    def __init__(self, bring: Any) -> None:
        self._bring = bring

    def run(self, command: str, given: bytes) -> tuple[int, bytes, bytes]:
        done = super().run(command, given)
        self._bring()
        return done


async def test_an_agent_that_came_by_another_run_meanwhile_is_no_trouble(tmp_path: Path) -> None:
    place = tmp_path / "agent"
    brought = [lambda: (place / f"{agent().digest}.pyz").write_bytes(agent().data)]
    async with opened(place, way=Raced(lambda: brought and brought.pop()())) as one:
        assert await one.call("echo", {"asked": 1}) == {"asked": 1}
    assert not brought


async def test_connections_that_run_commands_alone_do_as_well(tmp_path: Path, place: Path) -> None:
    (tmp_path / "a").touch()
    (tmp_path / "layer").write_bytes(os.urandom(100_000))
    events: list[Any] = []
    async with opened(place, way=Run()) as one:
        result = await one.call("phases", {"phases": ["a"], "directory": str(tmp_path)}, events.append)
        assert (result, events) == ({"ended": True}, [{"phase": "a"}])
        with pytest.raises(Refused, match="somebody else has it"):
            await one.call("refuse", {})
        there = Path(await one.send(tmp_path / "layer"))
        await one.fetch(str(there), tmp_path / "back")
        assert (tmp_path / "back").read_bytes() == (tmp_path / "layer").read_bytes()
    assert not there.exists()
