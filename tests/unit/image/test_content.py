"""The image of a release as the coordinator has it, over hosts in memory that do what real ones do with layers."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.image import build as docker_build
from ansible_collections.slipway.fleet.plugins.module_utils.image.layers import Saved, chain_ids, pack
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import Image, ImageError
from ansible_collections.slipway.fleet.plugins.module_utils.image.registry import Resolved
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import (
    Content,
    ContentError,
    Refused,
    Unreachable,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.image import build as image_build
from ansible_collections.slipway.fleet.plugins.plugin_utils.image import pull as image_pull
from ansible_collections.slipway.fleet.plugins.plugin_utils.image import sbom as image_sbom
from ansible_collections.slipway.fleet.plugins.plugin_utils.image import ship as image_ship
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.content import image_content
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.context import BuildContext
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.layers import LayerCache
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import ImageRequest

MIB = 1 << 20
DIGEST = "sha256:" + "d" * 64


def layer(text: str) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        item = tarfile.TarInfo("file")
        item.size = len(text)
        archive.addfile(item, io.BytesIO(text.encode()))
    return target.getvalue()


def diff_id(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class Docker:
    """The controller's Docker: how often it built, and what its images are made of."""

    def __init__(self) -> None:
        self.images: dict[str, tuple[Image, Saved]] = {}
        self.contents: dict[str, bytes] = {}
        self.built: list[str] = []
        self.exported: list[str] = []

    def add(self, name: str, contents: list[bytes], content: str | None = None) -> Image:
        diff_ids = [diff_id(one) for one in contents]
        self.contents.update(zip(diff_ids, contents, strict=True))
        text = {"architecture": "amd64", "created": "2026-01-01T00:00:00Z", "rootfs": {"diff_ids": diff_ids}}
        saved = Saved(json.dumps(text), diff_ids, 7)
        image = Image(saved.id, [name], [], content, "amd64", 7, diff_ids, {})
        self.images[name] = self.images[saved.id] = image, saved
        return image

    def find(self, name: str) -> Image | None:
        return self.images[name][0] if name in self.images else None

    def build(self, archive: Path, reference: str, content: str, *_: Any) -> Image:
        self.built.append(reference)
        with tarfile.open(archive) as context:
            code = context.extractfile("app.py")
            assert code
            return self.add(reference, [layer("base"), layer(code.read().decode())], content)

    def save(self, image: str, into: Path, wanted: Any, size: int) -> Saved:
        for one in wanted:
            self.exported.append(one)
            pack(io.BytesIO(self.contents[one]), one, into)
        return self.images[image][1]


@dataclass
class Machine:
    """A host of the coordinator with a Docker of its own."""

    name: str
    directory: Path
    docker: Docker = field(default_factory=Docker)
    free: int = 10_000 * MIB
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    sent: int = 0
    breaks: Exception | None = None

    async def call(
        self, verb: str, arguments: Mapping[str, Any], on_event: Callable[[dict[str, Any]], None] | None = None
    ) -> dict[str, Any]:
        assert verb == "image"
        options = json.loads(json.dumps(arguments))
        operation = options.pop("operation")
        self.calls.append((operation, options))
        return getattr(self, f"_{operation}")(**options)  # type: ignore[no-any-return]

    async def send(self, file: Path) -> str:
        if self.breaks:
            raise self.breaks
        return await asyncio.to_thread(self._take, file)

    async def fetch(self, remote: str, local: Path) -> None:
        await asyncio.to_thread(shutil.copyfile, remote, local)

    async def close(self) -> None: ...

    def _take(self, file: Path) -> str:
        self.sent += file.stat().st_size
        target = self.directory / f"{self.name}-{len(self.calls)}"
        return str(shutil.copyfile(file, target))

    def operations(self) -> list[str]:
        return [operation for operation, _ in self.calls]

    def _look(self, name: str, expected: str, check_mode: bool = False) -> dict[str, Any]:
        there = self.docker.find(name)
        if there and expected in ("", there.id):
            return {"image": there.as_dict()}
        disks = {"root": "/r", "root_free": self.free, "spool": "/r", "spool_free": self.free, "one": True}
        chains = {chain for image, _ in self.docker.images.values() for chain in chain_ids(image.layers)}
        incoming = {} if check_mode else {"incoming": str(self.directory / f"in-{self.name}"), "chunks": []}
        more = {"machine": "x86_64", "store": "graph", "chains": sorted(chains), "disks": disks, **incoming}
        return {"image": there.as_dict() if there else None, **more}

    def _keep(self, archive: str, target: str) -> dict[str, Any]:
        Path(target).parent.mkdir(exist_ok=True)
        Path(archive).rename(target)
        return {"changed": True}

    def _load(
        self, name: str, saved: dict[str, Any], incoming: str, chunks: list[str], packed: dict[str, int]
    ) -> dict[str, Any]:
        stream = io.BytesIO(b"".join((Path(incoming) / chunk).read_bytes() for chunk in chunks))
        for one, size in packed.items():
            content = gzip.decompress(stream.read(size))
            assert diff_id(content) == one
            self.docker.contents[one] = content
        image = self.docker.add(name, [self.docker.contents[one] for one in saved["layers"]])
        return {"changed": True, "image": image.as_dict()}

    def _find(self, name: str, check_mode: bool = False) -> dict[str, Any]:
        there = self.docker.find(name)
        return {"image": there.as_dict() if there else None}

    def _pull(self, name: str, check_mode: bool = False, **_: str) -> dict[str, Any]:
        there = self.docker.find(name)
        if check_mode and not there:
            return {"changed": True, "image": None}
        return {"changed": not there, "image": (there or self.docker.add(name, [layer("pulled")])).as_dict()}

    def _ask(self, name: str, **_: str) -> dict[str, Any]:
        return {"image": None, "resolved": {"digest": DIGEST, "sizes": {"amd64": 5}}}

    def _build(self, archive: str, name: str, content: str, **_: Any) -> dict[str, Any]:
        image = self.docker.build(Path(archive), name, content)
        return {"changed": True, "image": image.as_dict()}

    def _export(self, name: str, layers: list[str]) -> dict[str, Any]:
        outgoing = self.directory / f"out-{self.name}"
        outgoing.mkdir()
        image, saved = self.docker.images[name]
        self.docker.save(image.id, outgoing, layers, 7)
        return {
            "saved": saved.as_dict(),
            "outgoing": str(outgoing),
            "files": [path.name for path in outgoing.iterdir()],
        }

    def _forget_export(self, name: str) -> dict[str, Any]:
        return {}

    def _refuse(self, **_: Any) -> dict[str, Any]:
        raise Refused("`docker build` failed: it printed t0ken")


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    here = Docker()
    monkeypatch.setattr(image_build, "find", here.find)
    monkeypatch.setattr(image_ship, "find", here.find)
    monkeypatch.setattr(image_sbom, "find", here.find)
    monkeypatch.setattr(docker_build, "build", here.build)
    monkeypatch.setattr(docker_build, "prune_tags", lambda _: None)
    monkeypatch.setattr("ansible_collections.slipway.fleet.plugins.plugin_utils.image.layers.save", here.save)
    return here


@pytest.fixture
def source(tmp_path: Path) -> Path:
    directory = tmp_path / "source"
    directory.mkdir()
    (directory / "Dockerfile").touch()
    (directory / "app.py").write_text("one")
    return directory


@pytest.fixture
def fleet(tmp_path: Path) -> dict[str, Machine]:
    (tmp_path / "hosts").mkdir()
    return {name: Machine(name, tmp_path / "hosts") for name in ("web1", "web2", "web3")}


def build(source: Path, **more: Any) -> ImageRequest:
    return ImageRequest.of({"name": "slipway/app", "source": "build", "context": source, "sbom": True, **more})


async def deploy(content: Content, fleet: dict[str, Machine]) -> tuple[bool, list[tuple[str, bool]]]:
    """As the coordinator goes: whether something was made, and for each host the content and whether it changed."""
    seen = dict(zip(fleet, await asyncio.gather(*(content.look(host) for host in fleet.values())), strict=True))
    made = await content.prepare(seen, fleet)
    put = await asyncio.gather(*(content.put(host, seen[name]) for name, host in fleet.items()))
    return made, [(identity.content, changed) for identity, changed in put]


async def test_built_once_for_all_and_sent_to_each(docker: Docker, source: Path, fleet: dict[str, Machine]) -> None:
    content = image_content(build(source), "run", check_mode=False)
    identity = await content.identify()
    made, put = await deploy(content, fleet)
    assert made
    assert put == [(identity.content, True)] * 3
    assert docker.built == [identity.reference]
    assert {host.docker.images[identity.reference][0].id for host in fleet.values()} == {
        docker.images[identity.reference][0].id
    }
    bill = await content.bill()
    assert bill is not None
    assert json.loads(bill.read_text())["metadata"]["component"]["name"] == "slipway/app"


async def test_nothing_changed_makes_and_sends_nothing(docker: Docker, source: Path, fleet: dict[str, Machine]) -> None:
    await deploy(image_content(build(source), "run", check_mode=False), fleet)
    before = {name: (host.sent, len(host.calls)) for name, host in fleet.items()}
    made, put = await deploy(image_content(build(source), "next", check_mode=False), fleet)
    assert not made
    assert not any(changed for _, changed in put)
    assert {name: (host.sent, len(host.calls)) for name, host in fleet.items()} == {
        name: (sent, calls + 1) for name, (sent, calls) in before.items()
    }
    assert len(docker.built) == 1


async def test_a_change_of_code_exports_and_moves_its_layer_alone(
    docker: Docker, source: Path, fleet: dict[str, Machine]
) -> None:
    await deploy(image_content(build(source), "run", check_mode=False), fleet)
    docker.exported.clear()
    (source / "app.py").write_text("two!")
    await deploy(image_content(build(source), "next", check_mode=False), fleet)
    assert docker.exported == [diff_id(layer("two!"))]
    assert [options["packed"].keys() for operation, options in fleet["web2"].calls if operation == "load"][-1] == {
        diff_id(layer("two!"))
    }


async def test_the_context_is_read_once_for_all_hosts(
    docker: Docker, source: Path, fleet: dict[str, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    walked: list[Path] = []
    usual = BuildContext._ignored

    def counted(self: BuildContext) -> list[str]:
        walked.append(self.root)
        return usual(self)

    monkeypatch.setattr(BuildContext, "_ignored", counted)
    content = image_content(build(source), "run", check_mode=False)
    await content.identify()
    await deploy(content, fleet)
    assert len(walked) == 1


@pytest.mark.parametrize("where", ["first", "web2"])
async def test_built_on_a_host_of_the_fleet(
    docker: Docker, source: Path, fleet: dict[str, Machine], where: str
) -> None:
    made, put = await deploy(image_content(build(source, build_on=where), "run", check_mode=False), fleet)
    builder = "web1" if where == "first" else where
    assert made
    assert [changed for _, changed in put] == [True] * 3
    assert {name for name, host in fleet.items() if "build" in host.operations()} == {builder}
    assert {name for name, host in fleet.items() if "load" in host.operations()} == set(fleet) - {builder}
    assert docker.built == []


async def test_a_build_host_that_is_none_is_refused(docker: Docker, source: Path, fleet: dict[str, Machine]) -> None:
    with pytest.raises(ContentError, match="fastapi_image_build_on is web9, which is no host of this run; name one of"):
        await deploy(image_content(build(source, build_on="web9"), "run", check_mode=False), fleet)


async def test_a_host_without_room_is_refused_before_a_byte_moves(
    docker: Docker, source: Path, fleet: dict[str, Machine]
) -> None:
    fleet["web3"].free = 10 * MIB
    with pytest.raises(ContentError, match="nothing was sent to any host, the disk is too small: web3 has 10 MiB"):
        await deploy(image_content(build(source), "run", check_mode=False), fleet)
    assert [host.sent for host in fleet.values()] == [0, 0, 0]


async def test_a_dry_run_makes_and_moves_nothing(docker: Docker, source: Path, fleet: dict[str, Machine]) -> None:
    content = image_content(build(source), "run", check_mode=True)
    made, put = await deploy(content, fleet)
    assert (made, [changed for _, changed in put]) == (True, [True] * 3)
    assert docker.built == []
    assert {operation for host in fleet.values() for operation in host.operations()} == {"look"}
    assert all(options["check_mode"] for host in fleet.values() for _, options in host.calls)
    assert await content.bill() is None


async def test_a_channel_that_breaks_says_how_it_goes_on(
    docker: Docker, source: Path, fleet: dict[str, Machine]
) -> None:
    fleet["web1"].breaks = Unreachable("broken pipe")
    with pytest.raises(Unreachable, match=r"broke off after 0 MiB: broken pipe.*what has arrived is not sent again"):
        await deploy(image_content(build(source), "run", check_mode=False), fleet)


async def test_a_refusal_has_no_secret_of_the_build(
    docker: Docker, source: Path, fleet: dict[str, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Machine, "_build", Machine._refuse)
    request = build(source, build_on="first", build_secrets={"TOKEN": "t0ken"})
    with pytest.raises(Refused, match=r"it printed \*{8}"):
        await deploy(image_content(request, "run", check_mode=False), fleet)


async def test_shipped(docker: Docker, fleet: dict[str, Machine]) -> None:
    docker.add("app:1", [layer("base"), layer("code")])
    request = ImageRequest.of({"name": "app:1", "source": "ship"})
    content = image_content(request, "run", check_mode=False)
    assert (await deploy(content, fleet))[1] == [(docker.images["app:1"][0].id, True)] * 3
    assert await content.bill() is None, "none is wanted"


@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("app:2", r"no image app:2, as fastapi_image_name says and fastapi_image_source: ship needs; mend the name"),
        (f"app@{DIGEST}", r"fastapi_image_name is app@sha256:d+, and .* or set fastapi_image_source to pull"),
    ],
)
async def test_what_cannot_be_shipped_is_refused_before_any_host_is_asked(
    docker: Docker, name: str, said: str, check_mode: bool
) -> None:
    with pytest.raises(ContentError, match=said):
        await image_content(ImageRequest(name, "ship"), "run", check_mode).identify()


async def test_a_layer_that_was_damaged_here_is_named_and_dropped(
    docker: Docker, fleet: dict[str, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    docker.add("app:1", [layer("base")])

    def refused(*_: Any, **__: Any) -> dict[str, Any]:
        for packed in LayerCache().layers().values():
            packed.path.write_bytes(b"other")
        raise Refused("Docker did not take the layers")

    monkeypatch.setattr(Machine, "_load", refused)
    content = image_content(ImageRequest("app:1", "ship"), "run", check_mode=False)
    with pytest.raises(ContentError, match=r"did not take the layers\. The controller's copy of 1 layers was dam"):
        await deploy(content, {"web1": fleet["web1"]})
    assert LayerCache().layers() == {}


@pytest.mark.parametrize("resolve", ["controller", "host"])
async def test_pulled_by_one_digest(
    docker: Docker, fleet: dict[str, Machine], monkeypatch: pytest.MonkeyPatch, resolve: str
) -> None:
    asked: list[int] = []

    def by_controller(_: object) -> tuple[Resolved, str]:
        asked.append(1)
        return Resolved(DIGEST, {"amd64": 5, "arm64": 6}), "a warning"

    monkeypatch.setattr(image_pull, "_by_controller", by_controller)
    request = ImageRequest.of({"name": "r.example/app:1", "registry_resolve": resolve})
    content = image_content(request, "run", check_mode=False)
    identity = await content.identify()
    made, put = await deploy(content, fleet)
    assert not made
    assert put == [(DIGEST, True)] * 3
    if resolve == "controller":
        assert (identity.content, identity.architectures, identity.size) == (DIGEST, ("amd64", "arm64"), 6)
        assert identity.warnings == ("a warning",)
        assert asked == [1]
    else:
        assert (identity.content, asked) == ("", [])
    assert {name for host in fleet.values() for name in host.docker.images if "@" in name} == {
        f"r.example/app@{DIGEST}"
    }
    assert not any(changed for _, changed in (await deploy(content, fleet))[1])


async def test_what_hosts_have_under_a_name_stays(docker: Docker, fleet: dict[str, Machine]) -> None:
    request = ImageRequest("r.example/db:17", registry_resolve="nobody")
    content = image_content(request, "run", check_mode=False)
    assert (await content.identify()).content == ""
    await deploy(content, fleet)
    assert not any(changed for _, changed in (await deploy(content, fleet))[1])


async def test_why_there_is_no_bill_is_said(
    docker: Docker, source: Path, fleet: dict[str, Machine], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> None:
        raise ImageError("the disk is full")

    content = image_content(build(source), "run", check_mode=False)
    await deploy(content, fleet)
    monkeypatch.setattr(image_sbom, "_made", failing)
    with pytest.raises(ContentError, match="the disk is full"):
        await content.bill()
