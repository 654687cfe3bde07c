"""The agent as a host keeps it: sent once, verified each time, never run from where somebody else could write."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.agent import keep
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.archive import Agent
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.channel import Traffic
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused

from tests.unit.channel.lines import Run, agent, host


async def asked(place: Path, of: Agent | None = None) -> Traffic:
    """Ask once, to the end of the agent, which is when it tidies."""
    one = host(place, way=Run(), of=of)
    assert await one.call("echo", {"here": True}) == {"here": True}
    return one.traffic


async def test_it_is_sent_once_and_compiled_for_the_next_time(tmp_path: Path) -> None:
    place = tmp_path / "lib/agent"
    first, second = await asked(place), await asked(place)

    assert first.sent > len(agent().data) > 10 * second.sent
    assert sorted(path.name.count(".") for path in place.iterdir()) == [1, 3]
    assert place.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {0o600}
    assert place.parent.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("damage", [lambda data: data[:-10], lambda data: data.replace(b"PK", b"KP", 1), lambda _: b""])
async def test_a_damaged_one_is_not_run_but_sent_again(tmp_path: Path, damage: object) -> None:
    place = tmp_path / "agent"
    await asked(place)
    for path in place.iterdir():
        path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]

    again = await asked(place)

    assert again.sent > len(agent().data)
    assert (place / f"{agent().digest}.pyz").read_bytes() == agent().data
    assert (await asked(place)).sent < 1000


async def test_where_others_may_write_nothing_is_run(tmp_path: Path) -> None:
    place = tmp_path / "lib/agent"
    await asked(place)
    for directory, mode in ((place, 0o770), (place.parent, 0o777)):
        before = directory.stat().st_mode
        directory.chmod(mode)

        with pytest.raises(
            Refused, match=f"{directory} may be changed by others.*correct its owner and mode.*{mode:o}"
        ):
            await asked(place)
        directory.chmod(before)
    await asked(place)


async def test_a_link_to_where_others_may_write_is_followed_before_it_is_judged(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "agent").symlink_to(tmp_path / "open")

    with pytest.raises(Refused, match="open may be changed by others"):
        await asked(tmp_path / "agent")


async def test_a_place_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(Refused, match=r"file/agent|file'"):
        await asked(tmp_path / "file/agent")


async def test_few_agents_of_other_versions_stay(tmp_path: Path) -> None:
    place = tmp_path / "agent"
    await asked(place)
    for age in range(5):
        for name in (f"{age}a.pyz", f"{age}a.cpython-311.0f.pyz"):
            (place / name).write_bytes(b"old")
            then = time.time() - 60 * (age + 1)
            os.utime(place / name, (then, then))

    await asked(place)

    assert {path.name.split(".")[0] for path in place.glob("*.pyz")} == {agent().digest, "0a", "1a"}
    assert keep.AGENTS == 3


def test_the_compiled_one_has_no_source_and_is_made_the_same_way(tmp_path: Path) -> None:
    (tmp_path / "a.pyz").write_bytes(agent().data)

    made = keep.compiled(tmp_path / "a.pyz")

    assert made == keep.compiled(tmp_path / "a.pyz")
    assert b"somebody else has it" in made
    assert b"def refuse(arguments" not in made


@pytest.mark.parametrize("name", ["../x", "a/../b", "/etc/passwd", "", ".", "a/b/c", "a\0b", "a//b"])
def test_what_is_sent_stays_in_its_directory(tmp_path: Path, name: str) -> None:
    files = keep.Files(tmp_path / "runs")
    files.open("run")

    with pytest.raises(OSError, match="no name of a file of the run"):
        files.write(name, 0, b"x")
    assert not list(tmp_path.rglob("*x*"))


@pytest.mark.parametrize("run", ["..", "a/b", "", "/tmp"])
def test_a_run_is_a_directory_below_the_runs(tmp_path: Path, run: str) -> None:
    with pytest.raises(OSError, match="no name of a run"):
        keep.Files(tmp_path / "runs").open(run)
