"""The ledger: appended, read once, whole after every crash."""

from __future__ import annotations

import errno
import json
import os
from multiprocessing import get_context
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store


def entry(number: int) -> dict[str, object]:
    return {"release": f"r{number}", "result": "good", "start": str(number)}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path)
    for number in range(3):
        found.record(entry(number))
    return found


@pytest.mark.parametrize("length", range(len(json.dumps(entry(3)))))
def test_a_line_that_a_crash_tore_is_cut_off_by_the_next(tmp_path: Path, store: Store, length: int) -> None:
    torn = json.dumps(entry(3), sort_keys=True)[:length]
    with (tmp_path / "ledger.jsonl").open("a") as stream:
        stream.write(torn)
    assert [line["release"] for line in Store(tmp_path).ledger()] == ["r0", "r1", "r2"]
    store.record(entry(4))
    assert [line["release"] for line in store.ledger()] == ["r0", "r1", "r2", "r4"]
    assert store.damaged_records() == 0


def test_a_whole_line_without_its_end_is_kept(tmp_path: Path, store: Store) -> None:
    with (tmp_path / "ledger.jsonl").open("a") as stream:
        stream.write(json.dumps(entry(3)))
    store.record(entry(4))
    assert [line["release"] for line in store.ledger()] == ["r0", "r1", "r2", "r3", "r4"]


def test_a_damaged_line_hides_no_other(tmp_path: Path, store: Store) -> None:
    with (tmp_path / "ledger.jsonl").open("ab") as stream:
        stream.write(b"\xff\x00 no record\n[1, 2]\n")
    store.record(entry(4))
    assert [line["release"] for line in store.ledger()] == ["r0", "r1", "r2", "r4"]
    assert store.damaged_records() == 2


def test_a_record_for_which_there_is_no_room_leaves_nothing(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (tmp_path / "ledger.jsonl").read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            store.record(entry(3))
    assert (tmp_path / "ledger.jsonl").read_bytes() == before


def test_it_is_read_once(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.ledger()
    reads: list[Path] = []
    read_text = Path.read_text

    def counted(path: Path, *arguments: str, **options: str) -> str:
        reads.append(path)
        return read_text(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", counted)
    for _ in range(5):
        store.good()
        store.last_record("r1")
    assert reads == []
    Store(tmp_path).record(entry(3))
    assert store.good()[-1] == "r3"
    assert len(reads) == 1


def append(root: str, first: int) -> None:
    store = Store(Path(root))
    for number in range(first, first + 20):
        store.record(entry(number))


def test_processes_that_record_at_once_lose_nothing(tmp_path: Path) -> None:
    context = get_context("fork")
    processes = [context.Process(target=append, args=(str(tmp_path), first)) for first in (0, 100, 200)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert len(Store(tmp_path).ledger()) == 60


def test_of_two_records_of_one_transaction_the_later_counts(store: Store) -> None:
    store.record({**entry(2), "result": "failed"})
    assert store.good() == ["r0", "r1"]
    assert [line["result"] for line in store.releases_recorded()] == ["good", "good", "failed"]
    assert len(store.ledger()) == 4
