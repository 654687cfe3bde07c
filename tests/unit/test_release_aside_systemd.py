"""A unit that is started aside has its own sandbox, and of the host nothing that is live."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.release.aside_systemd import Units, aside
from ansible_collections.slipway.fleet.plugins.module_utils.release.stage import Stage, Unfit
from ansible_collections.slipway.fleet.plugins.module_utils.release.systemd import Systemd

UNIT = """\
[Unit]
Description=links, release @RELEASE@ (@SLOT@)
RequiresMountsFor=/var/lib/slipway/links/volumes/media
[Service]
Type=exec
BindReadOnlyPaths=/opt/slipway/links/packages/1/srv:/srv
ExecStart=gunicorn --bind 127.0.0.1:@PORT@
Restart=always
MemoryMax=256M
TemporaryFileSystem=/run/slipway:ro
BindPaths=-/run/slipway/links/@SLOT@
BindPaths=/var/lib/slipway/links/volumes/media:/srv/media
BindPaths=/srv/one -/srv/two:/two:norbind
PrivateNetwork=yes
[Install]
WantedBy=multi-user.target
"""


def stage(tmp_path: Path) -> Stage:
    (tmp_path / "network").touch()
    return Stage(namespace=str(tmp_path / "network"), sockets={"/run/postgresql": Path("/drill/socket")})


def own(source: str) -> str:
    return source if source.startswith(("/opt", "/run/slipway")) else f"/copy{source}"


def test_directories_of_the_host_are_copies_and_all_else_is_as_it_was(tmp_path: Path) -> None:
    lines = aside(UNIT, own, stage(tmp_path), 600).splitlines()
    assert [line for line in lines if line.startswith("Bind")] == [
        "BindReadOnlyPaths=/opt/slipway/links/packages/1/srv:/srv",
        "BindPaths=-/run/slipway/links/@SLOT@:/run/slipway/links/@SLOT@",
        "BindPaths=/copy/var/lib/slipway/links/volumes/media:/srv/media",
        "BindPaths=/copy/srv/one:/srv/one",
        "BindPaths=-/copy/srv/two:/two:norbind",
        "BindPaths=/drill/socket:/run/postgresql",
    ]
    kept = [line for line in UNIT.splitlines() if not line.startswith(("Bind", "RequiresMountsFor", "WantedBy"))]
    assert [line for line in lines if line in kept][: len(kept)] == kept


def test_it_comes_to_nothing_that_is_live_and_does_not_come_back(tmp_path: Path) -> None:
    made = aside(UNIT, own, stage(tmp_path), 600)
    added = made[made.rindex("[Service]") :].splitlines()
    assert {
        "Restart=no",
        "RuntimeMaxSec=600",
        f"NetworkNamespacePath={tmp_path}/network",
        "TemporaryFileSystem=/run:ro",
        "ProtectSystem=strict",
    } <= set(added), "after what the release says, so that it counts"


class Systemctl:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.state = "active"

    def __call__(self, words: list[str], *_: Any, **__: Any) -> Ran:
        self.asked.append(" ".join(words))
        return Ran((), 0, f"ActiveState={self.state}\n" if "show" in words else "the last words\n")


@pytest.fixture
def units(tmp_path: Path) -> Units:
    releases, sockets = tmp_path / "releases", tmp_path / "run/links"
    (releases / "r1").mkdir(parents=True)
    (releases / "r1/unit.service").write_text(UNIT)
    (releases / "r1/gate.json").write_text('{"port": 8000}')
    systemd = Systemd("links", releases, sockets, transient=tmp_path / "transient")
    return Units(systemd, stage(tmp_path), Systemctl())


def test_it_runs_under_a_name_of_its_own_until_it_is_removed(units: Units, tmp_path: Path) -> None:
    assert units.make("r1", own, 600) == 256 << 20
    units.start()
    unit = tmp_path / "transient/slipway-links@drill.service"
    text = unit.read_text()
    assert "links, release r1 (drill)" in text
    assert "--bind 127.0.0.1:8000" in text, "in a network of its own each port is free"
    assert units.runs()
    assert units.log(20) == "the last words\n"
    asked = units._run
    assert isinstance(asked, Systemctl)
    asked.state = "failed"
    assert not units.runs()
    Path(f"{unit}.d").mkdir()
    units.remove()
    assert not list(unit.parent.iterdir()), "what a command that was killed has left included"
    assert "systemctl stop slipway-links@drill.service" in asked.asked


@pytest.mark.parametrize("line", ["ReadWritePaths=/srv/data", "StateDirectory=links", "RootDirectory=/srv"])
def test_a_unit_that_is_let_at_what_is_live_is_not_started(units: Units, tmp_path: Path, line: str) -> None:
    (tmp_path / "releases/r1/unit.service").write_text(f"{UNIT}[Service]\n{line}\n")
    with pytest.raises(Unfit, match=f"the unit of release r1 has {line.partition('=')[0]}="):
        units.make("r1", own, 600)


def test_a_host_without_a_network_for_it(units: Units, tmp_path: Path) -> None:
    (tmp_path / "network").unlink()
    with pytest.raises(Unfit, match="this host has no network"):
        units.make("r1", own, 600)
    units._stage = Stage(namespace="/", lacks="the database's container is published nowhere")
    with pytest.raises(Unfit, match="is published nowhere"):
        units.make("r1", own, 600)
