"""Killed at any point of a dump, an upload, a prune or a restore: no half a set, nothing live is touched, it goes on.

With a real restic and a real PostgreSQL. What dies leaves its lock in the repository, as a client whose host went.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup import files, restic
from ansible_collections.slipway.fleet.plugins.module_utils.backup.drill import restored
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import Settings
from ansible_collections.slipway.fleet.plugins.module_utils.backup.postgres import Server
from ansible_collections.slipway.fleet.plugins.module_utils.backup.restic import CONTENT, SET, Restic
from ansible_collections.slipway.fleet.plugins.module_utils.backup.restoring import Restore
from ansible_collections.slipway.fleet.plugins.module_utils.backup.saving import MIGRATION, Host, save
from ansible_collections.slipway.fleet.plugins.module_utils.host import command

from tests import real_postgres

# Words that are in the command at which it dies, and which of those commands.
SAVES = (
    ("pg_dump --format", 1),
    ("pg_dumpall", 1),
    (f"--tag {CONTENT}", 1),
    (f"--tag {SET}", 1),
    ("restic forget", 1),  # the manifests of sets that are too old
    ("restic forget", 2),  # what belongs to no set then
    ("prune", 1),
)
RESTORES = (("restic restore", 1), ("pg_restore", 1), ("RENAME TO", 1))
ROWS = "SELECT count(*), sum(id) FROM ballast"


class World:
    """A host with a database, a directory, and a repository that is a directory of its own."""

    def __init__(self, place: Path) -> None:
        self.server = real_postgres.Server(place / "postgres")
        self.server.sql("CREATE DATABASE links")
        self.server.sql("CREATE TABLE ballast AS SELECT g AS id FROM generate_series(1, 20000) g", "links")
        uploads, own = place / "uploads", place / "etc"
        for directory in (uploads, own, place / "state"):
            directory.mkdir()
        (uploads / "a").write_bytes(os.urandom(1 << 20))
        (own / "password").write_text("for-tests-only")
        self.repository = place / "sets"
        self.settings = Settings(
            str(self.repository),
            "h",
            directories=(str(uploads),),
            keep={"daily": 1},
            files=own,
            place=place / "state",
            apps=place / "apps",
        )

    def host(self, run: Callable[..., command.Ran] = command.run) -> Host:
        live = Server(self.server.superuser, "the database server", run)
        # Who is killed is seen to be dead a moment later.
        return Host(self.settings, Restic(self.settings, run=run, sleep=lambda _: time.sleep(0.2)), live)

    def killed(self, words: str, nth: int, act: Callable[[Host], Any]) -> None:
        """Act in a process of its own, which is killed with all that it started while it runs such a command."""
        seen = 0

        def run(asked: Sequence[str], timeout: float, environment: Any = None, **streams: Any) -> command.Ran:
            nonlocal seen
            seen += words in " ".join(asked)
            if words in " ".join(asked) and seen == nth:
                self._die(asked, environment, streams)
            return command.run(asked, timeout, environment, **streams)

        process = multiprocessing.get_context("fork").Process(target=lambda: act(self.host(run)))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL, f"it did not come to {words}"

    def _die(self, asked: Sequence[str], environment: Any, streams: dict[str, Any]) -> None:
        target = streams.get("target") or subprocess.DEVNULL
        before = self.locks()
        started = subprocess.Popen(
            [*asked],
            env=environment,
            stdin=streams.get("source") or subprocess.DEVNULL,
            stdout=target,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        if asked[0] == "restic":  # it is at work when it has its lock
            while started.poll() is None and self.locks() <= before:
                time.sleep(0.005)
        with suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)

    def locks(self) -> set[Path]:
        """Of the repository, without what was killed while it was written and is none."""
        return {path for path in (self.repository / "locks").glob("*") if "-tmp-" not in path.name}

    def sets(self) -> list[str]:
        """Those of the repository, each of them with its content."""
        host = self.host()
        found = host.restic.sets()
        assert all(host.restic.content_of(one) for one in found)
        return [one.short for one in found]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    known = restic.environment
    # PostgreSQL's user comes through, which is not let into the directories of pytest.
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:

        def own(settings: Settings) -> dict[str, str]:
            return {**known(settings), "RESTIC_CACHE_DIR": f"{directory}/cache"}

        patch.setattr(restic, "environment", own)
        Path(directory).chmod(0o755)
        made = World(Path(directory))
        yield made
        made.server.stop()


def test_a_backup_that_is_killed_anywhere_leaves_whole_sets(world: World) -> None:
    save(world.host(), MIGRATION)

    def act(host: Host) -> None:
        host.restic.stale = lambda: [found.id for found in host.restic.sets()[:-1]]  # type: ignore[method-assign]
        save(host, "asked")

    for words, nth in SAVES:
        world.killed(words, nth, act)
        assert world.sets(), f"killed at {words}"
    last = save(world.host(), "asked")["set"]
    host = world.host()
    assert host.restic.find().short == last
    with restored(host, host.restic.find(), "the look at") as (manifest, place):
        files.same(manifest, place)
        assert manifest.database("links").rows == 20000
    contents = host.restic._snapshots(CONTENT)
    assert len(contents) == len(host.restic.sets()), "what was killed is gone"
    assert not world.locks(), "the locks of the dead included"


def test_a_restore_that_is_killed_anywhere_touches_nothing_live(world: World) -> None:
    save(world.host(), MIGRATION)
    world.server.sql("DELETE FROM ballast WHERE id > 10000", "links")
    live = world.server.sql(ROWS, "links")

    def act(host: Host) -> None:
        Restore(host, "latest", ["database:links"]).run("links", safety=False)

    for words, nth in RESTORES:
        world.killed(words, nth, act)
        now = world.server.sql(ROWS, "links")
        assert now == live or (words == "RENAME TO" and now.startswith("20000|")), "all of it or nothing"
    Restore(world.host(), "latest", ["database:links"]).run("links", safety=False)
    assert world.server.sql(ROWS, "links").startswith("20000|")
    assert not [name for name in world.server.databases() if name.startswith("slipway_restoring_")]
