"""Archives of modules that runs leave to each other: Ansible finds them, and they are never those of something else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible import constants
from ansible.executor import module_common
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller import packing

MODULE = packing.COLLECTION / "plugins/modules/installed.py"
Run = Callable[..., Path]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Begin a run of playbooks; returns where Ansible keeps its archives."""
    monkeypatch.setattr(constants, "ANSIBLE_HOME", str(tmp_path / "home"))
    numbers = iter(range(9))

    def begin(*playbooks: str) -> Path:
        own = tmp_path / f"run-{next(numbers)}"
        own.mkdir()
        monkeypatch.setattr(constants, "DEFAULT_LOCAL_TMP", str(own))
        packing.keep_packed(playbooks or ("slipway.fleet.deploy",))
        return own / packing.ARCHIVES

    return begin


def pack() -> bytes:
    """What Ansible sends for a module of ours."""
    variables: dict[str, Any] = {"ansible_python_interpreter": "/usr/bin/python3"}
    built: bytes = module_common.modify_module(
        module_name="slipway.fleet.installed",
        module_path=str(MODULE),
        module_args={"packages": []},
        templar=Templar(loader=DataLoader(), variables=variables),
        task_vars=variables,
        module_compression="ZIP_DEFLATED",
    ).b_module_data
    return built


def test_what_one_run_has_packed_the_next_one_sends(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    first = pack()

    def refuse(*_: Any) -> None:
        raise AssertionError("packed anew")

    monkeypatch.setattr(module_common, "recursive_finder", refuse)
    run()
    assert pack()[-9999:] == first[-9999:], "before it stands when it was sent"
    run("slipway.fleet.deploy", "/srv/mine.yml")
    with pytest.raises(AssertionError, match="packed anew"):
        pack()


@pytest.mark.parametrize(
    ("playbooks", "kept"),
    [
        (("slipway.fleet.deploy",), True),
        ((str(packing.COLLECTION / "playbooks/site.yml"),), True),
        (("slipway.fleet.deploy", "/srv/site.yml"), False),
        (("slipway.fleetwide.deploy",), False),
        (("/srv/playbooks/deploy.yml",), False),
    ],
)
def test_of_playbooks_of_others_nothing_is_kept(run: Run, playbooks: tuple[str, ...], kept: bool) -> None:
    assert run(*playbooks).is_symlink() == kept


def test_a_run_that_has_packed_already_goes_on_as_it_is(run: Run) -> None:
    archives = run("/srv/mine.yml")
    archives.mkdir()
    packing.keep_packed(["slipway.fleet.deploy"])
    assert not archives.is_symlink()


def test_where_others_can_write_nothing_is_read(run: Run) -> None:
    kept = run().resolve()
    kept.chmod(0o770)
    assert not run().exists()
    kept.chmod(0o700)
    assert run().resolve() == kept


def test_where_nothing_can_be_kept_modules_are_packed_as_ever(run: Run, tmp_path: Path) -> None:
    (tmp_path / "home").write_text("no directory")
    assert not run().exists()
    assert pack()


def test_an_archive_that_is_not_whole_is_made_anew(run: Run) -> None:
    kept = run().resolve()
    first = pack()
    (archive,) = (path for path in kept.iterdir() if path.suffix != ".lock")
    for damaged in (b"", archive.read_bytes()[:-9]):
        archive.write_bytes(damaged)
        (kept / "another-part").write_bytes(b"")
        run()
        assert not archive.exists()
        assert (kept / "another-part").exists(), "another run writes it just now"
        assert len(pack()) == pytest.approx(len(first), rel=0.01)


def test_each_version_of_what_is_packed_has_archives_of_its_own(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "modules"
    own.mkdir()
    (own / "setup.py").write_text("first")
    monkeypatch.setattr(constants, "DEFAULT_MODULE_PATH", [str(own)])
    places = [run().resolve()]
    (own / "setup.py").write_text("another")
    places.append(run().resolve())
    monkeypatch.setattr(packing, "ansible", type("Newer", (), {"__version__": "99", "__file__": packing.__file__}))
    places.append(run().resolve())
    assert len(set(places)) == 3
    before = time.time() - packing.KEPT - 60
    os.utime(places[0], (before, before))
    run()
    assert [place.exists() for place in places] == [False, True, True]
