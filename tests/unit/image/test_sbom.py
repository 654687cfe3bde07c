"""The bill of materials of an image: made once, from layers where they are at hand, and the same from wherever."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.image import inventory
from ansible_collections.slipway.fleet.plugins.module_utils.image.layers import Saved, pack, sha256_of
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.image import sbom as image_sbom
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.layers import LayerCache
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import ImageRequest
from ansible_collections.slipway.fleet.plugins.plugin_utils.sbom import components
from ansible_collections.slipway.fleet.plugins.plugin_utils.sbom import document as sbom

IMAGE = "sha256:" + "ab" * 32
BASE = {
    "usr/lib/os-release": 'ID=debian\nVERSION_ID="13"\n',
    "var/lib/dpkg/status": "Package: tool\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n",
    "usr/share/doc/tool/copyright": "Format: x\n\nFiles: *\nLicense: Expat\n",
    "v/lib/old-1.dist-info/METADATA": "Name: old\nVersion: 1\n",
    "w/lib/other-1.dist-info/METADATA": "Name: other\nVersion: 1\n",
    "x/lib/linked-1.dist-info/METADATA": "Name: linked\nVersion: 1\n",
}
CODE = {"v/lib/new-2.dist-info/METADATA": "Name: new\nVersion: 2\nLicense-Expression: MIT\n"}


def layer(files: dict[str, str], links: dict[str, str] | None = None) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, text in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(text.encode())
            archive.addfile(item, io.BytesIO(text.encode()))
        for name, target_name in (links or {}).items():
            item = tarfile.TarInfo(name)
            item.type, item.linkname = tarfile.SYMTYPE, target_name
            archive.addfile(item)
    return target.getvalue()


def names(layers: list[bytes]) -> list[str]:
    found = inventory.of_layers(
        {"created": "", "architecture": ""}, [inventory.read_layer(io.BytesIO(one)) for one in layers]
    )
    return [item["name"] for item in (*found["debian"], *found["python"])]


@pytest.mark.parametrize(
    ("above", "left"),
    [
        (layer({}), ["tool", "linked", "old", "other"]),
        (layer(CODE), ["tool", "linked", "new", "old", "other"]),
        (layer({"v/lib/.wh.old-1.dist-info": ""}), ["tool", "linked", "other"]),
        (layer({".wh.v": ""}), ["tool", "linked", "other"]),
        (layer({"v/lib/.wh..wh..opq": ""} | CODE), ["tool", "linked", "new", "other"]),
        (layer({}, {"x": "w"}), ["tool", "old", "other"]),
        (layer({"v/lib/old-1.dist-info/METADATA": "x" * (5 << 20)}), ["tool", "linked", "other"]),
        (
            layer({"./v/lib/old-1.dist-info/METADATA": "Name: older\nVersion: 0\n"}),
            ["tool", "linked", "older", "other"],
        ),
    ],
    ids=["nothing", "more", "a file gone", "a tree gone", "emptied", "a link instead", "too large", "replaced"],
)
def test_layers_over_one_another(above: bytes, left: list[str]) -> None:
    assert names([layer(BASE), above]) == left


def test_layers_and_the_whole_file_system_tell_the_same() -> None:
    whole = inventory.read(io.BytesIO(layer(BASE | CODE)))
    config = {"created": "c", "architecture": "amd64", "config": {"Labels": {"a": "b"}}}
    layered = inventory.of_layers(config, [inventory.read_layer(io.BytesIO(layer(one))) for one in (BASE, CODE)])
    assert layered == {"created": "c", "architecture": "amd64", "base": {"a": "b"}, **whole}


class Source:
    """An image that came through the cache, or did not."""

    def __init__(self, saved: Saved | None = None) -> None:
        self.request = ImageRequest("app", sbom=True)
        self._saved = saved

    def kept(self) -> Saved | None:
        return self._saved


class Host:
    """What it is asked for, and its inventory where it may be asked."""

    name = "web1"

    def __init__(self, found: dict[str, Any] | None = None) -> None:
        self._found = found

    def call(self, operation: str, **options: Any) -> dict[str, Any]:
        assert (operation, options) == ("inventory", {"name": IMAGE})
        assert self._found, "this host must not be asked"
        return {"inventory": self._found}


def whole() -> dict[str, Any]:
    found = inventory.read(io.BytesIO(layer(BASE)))
    return {"id": IMAGE, "created": "2026-01-02T03:04:05.123456789Z", "architecture": "amd64", **found}


def of(source: Source, host: Host) -> Path:
    return image_sbom.of(source, IMAGE, host)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(image_sbom, "find", lambda _: None)
    return tmp_path


def kept(tmp_path: Path, *contents: bytes) -> Saved:
    """An image whose layers are in the cache."""
    diff_ids = []
    for content in contents:
        (tmp_path / "layer").write_bytes(content)
        diff_ids.append(f"sha256:{sha256_of(tmp_path / 'layer')}")
        pack(io.BytesIO(content), diff_ids[-1], LayerCache().directory)
    config = {"created": "2026-01-02T03:04:05Z", "architecture": "amd64", "rootfs": {"diff_ids": diff_ids}}
    return Saved(json.dumps(config), diff_ids)


def test_only_the_layer_that_changed_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    usual = inventory.read_layer

    def counted(stream: Any) -> Any:
        read.append(1)
        return usual(stream)

    monkeypatch.setattr(inventory, "read_layer", counted)
    first = kept(tmp_path, layer(BASE), layer(CODE))
    assert len(json.loads(of(Source(first), Host()).read_text())["components"]) == 5
    assert len(read) == 2
    sbom.cached(IMAGE).unlink()
    second = kept(tmp_path, layer(BASE), layer({"y/three-3.dist-info/METADATA": "Name: three\nVersion: 3\n"}))
    found = json.loads(of(Source(second), Host()).read_text())
    assert len(read) == 3
    assert {item["name"] for item in found["components"]} == {"tool", "old", "other", "linked", "three"}


def test_one_content_is_looked_at_once() -> None:
    first = of(Source(), Host(whole()))
    assert of(Source(), Host()) == first


def test_the_controllers_docker_is_asked_before_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_sbom, "find", lambda image: image)
    monkeypatch.setattr(inventory, "take", lambda _: whole())
    assert of(Source(), Host()).is_file()


def test_a_layer_that_is_nowhere_here_has_the_host_asked(tmp_path: Path) -> None:
    saved = kept(tmp_path, layer(BASE), layer(CODE))
    for packed in LayerCache().layers().values():
        packed.path.unlink()
    assert of(Source(saved), Host(whole())).is_file()


def test_no_docker_here_is_no_reason_to_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_docker(_: str) -> None:
        raise ImageError("there is no `docker` here")

    monkeypatch.setattr(image_sbom, "find", no_docker)
    assert of(Source(), Host(whole())).is_file()


def test_what_is_in_the_way_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "AVAILABLE", False)
    with pytest.raises(image_sbom.ERRORS, match="install it there with pip"):
        of(Source(), Host(whole()))
