"""What two names of one host have in common, and two hosts have not."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host import machine as module
from ansible_collections.slipway.fleet.plugins.module_utils.host.machine import machine


@pytest.fixture
def boot(tmp_path: Path) -> Path:
    found = tmp_path / "boot_id"
    found.write_text("b28c72b1-7bd1-4d0e-8c09-2fb8be2ad0a9\n")
    return found


def test_it_is_the_same_each_time(boot: Path, tmp_path: Path) -> None:
    assert machine(boot, tmp_path) == machine(boot, tmp_path) != ""
    assert machine() == machine() != ""


def test_containers_of_one_kernel_are_hosts_of_their_own(boot: Path, tmp_path: Path) -> None:
    roots = [tmp_path / name for name in ("one", "two")]
    for root in roots:
        root.mkdir()
    assert machine(boot, roots[0]) != machine(boot, roots[1])


def test_a_cloned_machine_is_another_one(boot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = machine(boot, tmp_path)
    (tmp_path / "other_boot").write_text("0c5f2d0e-5a64-44d7-9d8f-3f7a2b8f1c55\n")
    assert machine(tmp_path / "other_boot", tmp_path) != before, "started by itself"
    monkeypatch.setattr(module, "os", SimpleNamespace(uname=lambda: SimpleNamespace(nodename="a-copy")))
    assert machine(boot, tmp_path) != before, "copied while it ran, and renamed"


def test_one_that_does_not_say_is_taken_for_no_other(tmp_path: Path) -> None:
    assert machine(tmp_path / "nothing", tmp_path) == ""
    (tmp_path / "empty").write_text("")
    assert machine(tmp_path / "empty", tmp_path) == ""
