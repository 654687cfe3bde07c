"""A release that is started aside reaches nothing of what is live, and says why it does not get ready."""

from __future__ import annotations

import json
import os
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.release.aside import Aside
from ansible_collections.slipway.fleet.plugins.module_utils.release.aside_compose import aside
from ansible_collections.slipway.fleet.plugins.module_utils.release.compose import Compose
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtimes import Runtimes
from ansible_collections.slipway.fleet.plugins.module_utils.release.slots import SlotDirectories
from ansible_collections.slipway.fleet.plugins.module_utils.release.stage import Stage, Unfit
from ansible_collections.slipway.fleet.plugins.module_utils.release.systemd import Systemd
from ansible_collections.slipway.fleet.plugins.module_utils.release.volumes import Volumes

WEB: dict[str, Any] = {
    "image": "app:1",
    "command": ["serve"],
    "environment": {"A": "$$b"},
    "labels": {"slipway.release": "r1"},
    "networks": {"slipway": None},
    "ports": [{"published": "20010", "target": 8000}],
    "restart": "unless-stopped",
    "mem_limit": "104857600",
    "volumes": [{"type": "bind", "source": "/run/slipway/links/drill", "target": "/run/slipway/links/drill"}],
}


class Containers(Compose):
    """Compose without Docker: every image is here, and what it makes of a release is known."""

    def there(self, releases: list[str]) -> list[str]:
        return [release for release in releases if release != "gone"]

    def owner(self, release: str) -> None:
        return None

    def resolved(self, slot: str, release: str) -> dict[str, Any]:
        sources = {
            "slot": self.sockets / slot,
            "secrets": self.releases / release / "secrets",
            "postgres": self.sockets.parent / "postgresql",
            "neighbour": self.releases / f"{release}0/secrets",
            "media": self.releases.parents[1] / "volumes/links/volumes/media",
        }
        mounts = [{"type": "bind", "source": str(path), "target": f"/{name}"} for name, path in sources.items()]
        return {"services": {"web": {**WEB, "volumes": mounts}}}


class Docker:
    """What Docker is asked; a container runs from `up` until it is removed, unless it ends by itself."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.runs = False
        self.ends = False
        self.refuses = ""
        self.file: dict[str, Any] = {}

    def __call__(self, words: list[str], timeout: float, *_: Any, **__: Any) -> Ran:
        said = " ".join(words)
        self.asked.append(said)
        if "--file" in words:
            self.file = json.loads(Path(words[words.index("--file") + 1]).read_text(encoding="utf-8"))
        if " up " in said:
            if self.refuses:
                return Ran((), 1, "", self.refuses)
            self.runs = True
        if " rm --force" in said:
            self.runs = False
        if " ps " in said:
            there = self.runs and not (self.ends and "--all" not in words)
            return Ran((), 0, "abc\n" if there else "")
        if "logs" in words:
            return Ran((), 0, "the last words\n")
        if words[-1] == "twin":
            return Ran((), 0, '["postgres"]\n')
        return Ran((), 0, f"{os.getpid()} 127.0.0.1\n")


@pytest.fixture
def docker() -> Docker:
    return Docker()


@pytest.fixture
def started(tmp_path: Path, docker: Docker) -> Aside:
    """The releases of an app on a host."""
    root, sockets = tmp_path / "apps/links", tmp_path / "run/links"
    for directory in (
        root / "releases/r1",
        root / "releases/gone",
        root / "releases/unit",
        sockets,
        tmp_path / "place",
    ):
        directory.mkdir(parents=True)
    for release in ("r1", "gone"):
        (root / "releases" / release / "compose.yaml").write_text("services: {}\n")
    (root / "releases/unit/unit.service").write_text("[Service]\n")
    releases = root / "releases"
    directories = SlotDirectories(sockets)
    runtimes = Runtimes(
        "links",
        releases,
        {"compose": Containers("links", releases, sockets), "systemd": Systemd("links", releases, sockets)},
        directories,
    )
    runtimes.there = lambda releases: [one for one in releases if one == "r1"]  # type: ignore[method-assign]
    runtimes.volumes = Volumes("links", tmp_path / "apps/volumes")
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemAvailable:   200000 kB\n")
    place = tmp_path / "place"
    return Aside("links", root, Stage("aside"), place, lambda path: Path(f"{place}{path}"), runtimes, docker, meminfo)


def test_it_is_in_that_network_alone_and_behind_no_port() -> None:
    made = aside(WEB, lambda source: f"/copy{source}", Stage("aside"))
    assert {"ports", "labels"}.isdisjoint(made)
    assert (made["networks"], made["restart"]) == ({"aside": {}}, "no")
    assert made["volumes"][0]["source"] == "/copy/run/slipway/links/drill"
    assert (made["image"], made["command"], made["environment"]) == ("app:1", ["serve"], {"A": "$$b"})
    without = aside(WEB, str, Stage())
    assert without["network_mode"] == "none"
    assert "networks" not in without


def test_it_shares_the_network_of_a_server_that_answers_at_addresses() -> None:
    """Those are in the network of that container alone, and a container of another one never sees them."""
    stage = Stage("aside", "/run/netns/aside", server="twin")
    made = aside(WEB, str, stage)
    assert made["network_mode"] == "container:twin"
    assert "networks" not in made
    by_name = aside(WEB, str, replace(stage, lacks="published nowhere"))
    assert by_name["networks"] == {"aside": {}}
    assert "network_mode" not in by_name


@pytest.mark.parametrize(
    ("release", "why"),
    [("r9", "is not on this host"), ("gone", "the image of release gone"), ("unit", "the package of release unit")],
)
def test_a_release_that_cannot_be_started_here(started: Aside, release: str, why: str) -> None:
    with pytest.raises(Unfit, match=why):
        started.refusal(release, 1.0)


def test_a_host_without_the_memory(started: Aside, tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable:   1000 kB\n")
    with pytest.raises(Unfit, match="release r1 may take 100 MiB, and 0 MiB of memory are available"):
        started.refusal("r1", 1.0)


def test_a_command_runs_with_copies_of_the_volumes(started: Aside, docker: Docker, tmp_path: Path) -> None:
    assert started.run("r1", ["migrate"], 10).stdout == f"{os.getpid()} 127.0.0.1\n"
    assert any(said.endswith("run --rm --no-deps -T web migrate") for said in docker.asked)
    media = mounted(docker)["/media"]
    assert media == f"{tmp_path}/place{tmp_path}/apps/volumes/links/volumes/media"
    assert Path(media).is_dir(), "one that the set has not is empty"
    assert docker.file["networks"] == {"aside": {"external": True, "name": "aside"}}
    assert not (tmp_path / "run/links/drill").exists()


def mounted(docker: Docker) -> dict[str, str]:
    """What is mounted, by where the container has it."""
    return {one["target"]: one["source"] for one in docker.file["services"]["web"]["volumes"]}


def test_nothing_of_the_host_is_mounted_but_its_own_files_and_its_own_socket(
    started: Aside, docker: Docker, tmp_path: Path
) -> None:
    """Sockets of live servers would be reached through their directories."""
    started.run("r1", ["migrate"], 10)
    there = mounted(docker)
    assert there["/slot"] == f"{tmp_path}/run/links/drill"
    assert there["/secrets"] == f"{tmp_path}/apps/links/releases/r1/secrets"
    for target, source in (
        ("/postgres", tmp_path / "run/postgresql"),
        ("/neighbour", tmp_path / "apps/links/releases/r10/secrets"),
    ):
        assert there[target] == f"{tmp_path}/place{source}"
        assert list(Path(there[target]).iterdir()) == []


def test_beside_a_native_server_a_container_has_its_socket_and_no_network(
    tmp_path: Path, started: Aside, docker: Docker
) -> None:
    sockets = {str(tmp_path / "run/postgresql"): tmp_path / "socket"}
    beside = Aside("links", started.store.root, Stage(sockets=sockets), tmp_path, Path, started.runtimes, docker)
    beside.run("r1", ["migrate"], 10)
    assert docker.file["services"]["web"]["network_mode"] == "none"
    assert mounted(docker)["/postgres"] == str(tmp_path / "socket")
    elsewhere = Aside("links", started.store.root, Stage(), tmp_path, Path, started.runtimes, docker)
    with pytest.raises(Unfit, match="no fastapi_app_socket_directories with the database's socket"):
        elsewhere.run("r1", ["migrate"], 10)


@pytest.fixture
def app(started: Aside) -> Iterator[list[int]]:
    """Answers on a port with the statuses of the list, the last one again and again."""
    statuses = [200]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
            self.end_headers()
            self.wfile.write(b"words of the app")

        def log_message(self, *_: Any) -> None:
            pass

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        gate = {"path": "/readyz", "port": server.server_address[1]}
        (started.store.releases / "r1/gate.json").write_text(json.dumps(gate))
        yield statuses
        server.shutdown()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)


def test_one_that_answers_well_three_times_in_a_row_passes(started: Aside, docker: Docker, app: list[int]) -> None:
    app[:] = [200, 200, 200]
    assert started.refusal("r1", 0.0) == "", "once it answers, its looks are waited for"
    assert not docker.runs, "it is gone afterwards"


def test_a_look_that_fails_begins_them_anew(started: Aside, app: list[int]) -> None:
    app[:] = [200, 200, 503, 200]
    assert started.refusal("r1", 30.0) == ""


def test_one_that_does_not_is_told_with_what_it_said(started: Aside, docker: Docker, app: list[int]) -> None:
    app[:] = [503]
    said = started.refusal("r1", 0.0)
    assert said.startswith("not ready within 0 s: GET /readyz answered 503: words of the app")
    assert said.endswith("\nthe last words")
    docker.ends = True
    assert started.refusal("r1", 30.0) == "it ended by itself\nthe last words"
    assert not docker.runs


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("postgresql+psycopg://app:word@192.0.2.20:5432/app", "by its address 192.0.2.20, and published nowhere"),
        ("postgresql://app:word@data1/app", "under the name data1, and in a drill it is postgres$"),
        ("postgresql://app:word@postgres/app", ""),
        ("postgresql:///app?host=/run/postgresql", ""),
        ("redis://:word@192.0.2.20/0", ""),
    ],
)
def test_one_that_does_not_find_the_database_in_its_place_is_no_fault_of_the_set(
    started: Aside, docker: Docker, app: list[int], url: str, why: str
) -> None:
    """What is not ready for another reason is one."""
    secrets = started.store.releases / "r1/secrets"
    secrets.mkdir()
    (secrets / "database_url").write_text(url)
    app[:] = [503]
    stage = Stage("aside", lacks="published nowhere", server="twin")
    beside = Aside("links", started.store.root, stage, started.store.root, Path, started.runtimes, docker)
    if why:
        with pytest.raises(Unfit, match=f"release r1 does not get ready in a drill: .*{why}"):
            beside.refusal("r1", 0.0)
    else:
        assert beside.refusal("r1", 0.0).startswith("not ready within 0 s")
    assert not docker.runs


def test_one_that_docker_does_not_start(started: Aside, docker: Docker, app: list[int]) -> None:
    docker.refuses = "no such command"
    assert started.refusal("r1", 30.0) == "it does not start: no such command"


@pytest.mark.parametrize("text", [None, "{", '{"port": "http"}'])
def test_one_that_does_not_say_where_it_listens_is_looked_for_behind_its_socket(
    started: Aside, tmp_path: Path, text: str | None
) -> None:
    """As a deploy does: one from before there was such a file does, and a damaged one is no reason to break off."""
    if text is not None:
        (started.store.releases / "r1/gate.json").write_text(text)
    assert f"{tmp_path}/run/links/drill/app.sock" in started.refusal("r1", 0.0)
