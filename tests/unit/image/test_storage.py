"""Single layers out of Docker's storage: byte by byte what Docker would save, or nothing."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.image import layers, storage
from ansible_collections.slipway.fleet.plugins.module_utils.image.layers import Saved, chain_ids, packed_in
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError

LAYERS: list[dict[str, bytes]] = [{"usr/a": b"base", "usr/empty": b""}, {"srv/b.py": b"code" * 300_000}]


def keep_layer(root: Path, number: int, files: dict[str, bytes], chain: list[str]) -> str:
    """Put a layer where overlay2 has it, with its tar file taken apart as tar-split does; returns its diff id."""
    raw = io.BytesIO()
    entries = []
    with tarfile.open(fileobj=raw, mode="w") as tar:
        at = 0
        for name, content in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(content)
            tar.addfile(item, io.BytesIO(content))
            head = raw.getvalue()[at : raw.tell() - (len(content) + 511) // 512 * 512]
            entries.append({"type": 2, "payload": base64.b64encode(head).decode()})
            entries.append({"type": 1, "name": name, "size": len(content)} if content else {"type": 1, "name": name})
            at = raw.tell() - (len(content) + 511) // 512 * 512 + len(content)
            path = root / f"overlay2/cache{number}/diff" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    entries.append({"type": 2, "payload": base64.b64encode(raw.getvalue()[at:]).decode()})
    diff_id = f"sha256:{hashlib.sha256(raw.getvalue()).hexdigest()}"
    place = root / "image/overlay2/layerdb/sha256" / chain_ids([*chain, diff_id])[-1].partition(":")[2]
    place.mkdir(parents=True)
    (place / "cache-id").write_text(f"cache{number}")
    with gzip.open(place / "tar-split.json.gz", "wt") as stream:
        stream.write("".join(json.dumps(entry) + "\n" for entry in entries))
    return diff_id


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Saved:
    """An image in a Docker whose storage can be read."""
    root, diff_ids = tmp_path / "docker", list[str]()
    for number, files in enumerate(LAYERS):
        diff_ids.append(keep_layer(root, number, files, diff_ids))
    saved = Saved(json.dumps({"architecture": "amd64", "rootfs": {"diff_ids": diff_ids}}), diff_ids)
    configs = root / "image/overlay2/imagedb/content/sha256"
    configs.mkdir(parents=True)
    (configs / saved.id.partition(":")[2]).write_text(saved.config)
    upper = root / f"overlay2/cache{len(LAYERS) - 1}/diff"
    monkeypatch.setattr(storage, "docker", lambda *_: f"{upper}\n")
    return saved


@pytest.fixture
def into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def saved_whole(*arguments: str, **_: object) -> str:
        raise ImageError(f"asked Docker for the whole image: {arguments[0]}")

    monkeypatch.setattr(layers, "docker", saved_whole)
    directory = tmp_path / "cache"
    directory.mkdir()
    return directory


def test_only_the_wanted_layer_is_read(image: Saved, into: Path) -> None:
    saved = layers.save(image.id, into, [image.layers[1]], size=5)
    assert (saved.config, saved.layers, saved.size) == (image.config, image.layers, 5)
    [packed] = packed_in(into).values()
    with tarfile.open(packed.path) as tar:
        assert {item.name: item.size for item in tar} == {"srv/b.py": len(LAYERS[1]["srv/b.py"])}


def test_all_layers(image: Saved, into: Path) -> None:
    layers.save(image.id, into)
    assert set(packed_in(into)) == set(image.layers)


@pytest.mark.parametrize("damage", ["file", "longer", "gone", "split", "link", "config"])
def test_what_is_not_as_it_should_be_is_asked_of_docker(image: Saved, into: Path, tmp_path: Path, damage: str) -> None:
    """Another version of Docker may keep its layers otherwise."""
    root = tmp_path / "docker"
    file = root / "overlay2/cache1/diff/srv/b.py"
    [split] = [path.parent / "tar-split.json.gz" for path in root.rglob("cache-id") if path.read_text() == "cache1"]
    if damage == "file":
        file.write_bytes(b"other" + file.read_bytes()[5:])
    elif damage == "longer":
        file.write_bytes(file.read_bytes() + b"more")
    elif damage == "gone":
        file.unlink()
    elif damage == "split":
        split.write_bytes(split.read_bytes()[:-20])
    elif damage == "link":
        file.rename(root / "outside")
        file.symlink_to(root / "outside")
    else:
        (root / "image/overlay2/imagedb/content/sha256" / image.id.partition(":")[2]).write_text("{}")
    with pytest.raises(ImageError, match="asked Docker for the whole image"):
        layers.save(image.id, into, [image.layers[1]])
    assert [path for path in into.iterdir() if path.name.startswith(".part")] == []


@pytest.mark.parametrize("told", ["", "<no value>\n", "/nowhere/overlay2/x/diff\n"])
def test_a_storage_that_cannot_be_read_is_none(monkeypatch: pytest.MonkeyPatch, told: str) -> None:
    monkeypatch.setattr(storage, "docker", lambda *_: told)
    assert storage.Storage.of("sha256:1") is None
