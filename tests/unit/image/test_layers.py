"""Layers apart from their images: what is lacking, how it is cut and put together again, and what the cache keeps."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.image.layers import (
    CHUNK,
    Chunks,
    Packed,
    Saved,
    chain_ids,
    chunks_of,
    is_whole,
    lacking,
    pack,
    packed_in,
    place_of,
    repository_of,
    unpack_save,
    write_archive,
)
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.layers import (
    IN_USE,
    MIB,
    LayerCache,
    lacks,
    require_room,
    room_problem,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.shipped import require_architecture


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def put_in(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    item = tarfile.TarInfo(name)
    item.size = len(content)
    tar.addfile(item, io.BytesIO(content))


def config_of(layers: list[bytes]) -> str:
    return json.dumps({"architecture": "amd64", "rootfs": {"diff_ids": [digest(layer) for layer in layers]}})


def saved_by_docker(path: Path, layers: list[bytes], written: list[bytes] | None = None) -> None:
    """An archive as `docker save` writes it; `written` are the bytes that are in it instead."""
    with tarfile.open(path, "w") as tar:
        names = [f"{number}/layer.tar" for number in range(len(layers))]
        for name, layer in zip(names, written or layers, strict=True):
            put_in(tar, name, layer)
        put_in(tar, "config.json", config_of(layers).encode())
        put_in(tar, "manifest.json", json.dumps([{"Config": "config.json", "Layers": names}]).encode())


def test_the_chain_of_a_layer_names_those_below_it() -> None:
    """By the rule of the image specification: the digest of the chain below, a space, and the layer."""
    a, b = digest(b"a"), digest(b"b")
    assert chain_ids([]) == []
    assert chain_ids([a]) == [a]
    assert chain_ids([a, b]) == [a, digest(f"{a} {b}".encode())]
    assert chain_ids([b, a])[1] != chain_ids([a, b])[1]


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        ([], ["a", "b", "c"]),
        ([["a"]], ["b", "c"]),
        ([["a", "b"], ["x"]], ["c"]),
        ([["a", "b", "c", "d"]], []),
        ([["b", "c"]], ["a", "b", "c"]),  # the same layers, but on something else
        ([["a", "c"]], ["b", "c"]),
    ],
)
def test_only_what_is_above_a_known_chain_is_lacking(there: list[list[str]], missing: list[str]) -> None:
    chains = [chain for layers in there for chain in chain_ids(layers)]
    assert lacking(["a", "b", "c"], chains) == missing
    assert lacks({"chains": chains}, ["a", "b", "c"]) == missing


def test_a_layer_that_is_twice_in_an_image_travels_once() -> None:
    assert lacks({"chains": []}, ["a", "empty", "b", "empty"]) == ["a", "empty", "b"]


@pytest.mark.parametrize(
    ("reference", "repository"),
    [
        ("app", "app"),
        ("app:1", "app"),
        ("registry:5000/app", "registry:5000/app"),
        ("registry:5000/app:1", "registry:5000/app"),
        ("registry:5000/app:1@sha256:00", "registry:5000/app"),
        ("app@sha256:00", "app"),
    ],
)
def test_the_repository_of_a_name(reference: str, repository: str) -> None:
    assert repository_of(reference) == repository


@pytest.mark.parametrize("reference", ["../../etc/x:1", "a/b:1", "..", "registry:5000/a/b"])
def test_the_place_of_an_image_is_one_directory(reference: str) -> None:
    assert "/" not in place_of(reference)
    assert place_of(reference) not in ("", ".", "..")


def test_wanted_layers_of_a_saved_image_are_packed(tmp_path: Path) -> None:
    layers = [b"base" * 1000, b"code", gzip.compress(b"looks packed")]
    saved_by_docker(tmp_path / "image.tar", layers[:2])
    saved = unpack_save(tmp_path / "image.tar", tmp_path, [digest(b"code")])
    assert saved == Saved(config_of(layers[:2]), [digest(layer) for layer in layers[:2]])
    assert saved.id == digest(saved.config.encode())
    assert set(packed_in(tmp_path)) == {digest(b"code")}
    unpack_save(tmp_path / "image.tar", tmp_path)
    packed = packed_in(tmp_path)
    assert set(packed) == set(saved.layers)
    assert packed[saved.layers[0]].unpacked == 4000
    assert gzip.decompress(packed[saved.layers[0]].path.read_bytes()) == layers[0]


def test_layers_that_are_saved_compressed_are_known_by_their_content(tmp_path: Path) -> None:
    """As the containerd store does."""
    saved_by_docker(tmp_path / "image.tar", [b"base", b"code"], [gzip.compress(b"base"), gzip.compress(b"code")])
    unpack_save(tmp_path / "image.tar", tmp_path)
    assert set(packed_in(tmp_path)) == {digest(b"base"), digest(b"code")}


def test_a_saved_layer_that_is_another_is_refused_and_not_kept(tmp_path: Path) -> None:
    saved_by_docker(tmp_path / "image.tar", [b"base"], [b"evil"])
    with pytest.raises(ImageError, match="instead of"):
        unpack_save(tmp_path / "image.tar", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.tar"]


def test_packing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    """Or an interrupted transfer would begin anew on a controller that has lost its cache."""
    packed = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        packed.append(pack(io.BytesIO(b"content" * 999), digest(b"content" * 999), tmp_path / name).path.read_bytes())
    assert packed[0] == packed[1]


def layers_in(directory: Path, contents: list[bytes]) -> list[Packed]:
    return [pack(io.BytesIO(content), digest(content), directory) for content in contents]


def test_pieces_make_the_archive_that_docker_loads(tmp_path: Path) -> None:
    contents = [os.urandom(CHUNK + 7), b"small", os.urandom(100)]
    cache, host = tmp_path / "cache", tmp_path / "host"
    cache.mkdir()
    host.mkdir()
    layers = layers_in(cache, contents)
    names = []
    for name, content in chunks_of(layers):
        names.append(name)
        (host / name).write_bytes(content)
    assert len(names) == 2
    assert (host / names[0]).stat().st_size == CHUNK
    assert Chunks(host, names).damaged() == []

    everything = [b"on the host already", *contents]
    saved = Saved(config_of(everything), [digest(content) for content in everything])
    stream = io.BytesIO()
    write_archive(stream, saved, "app:1", {layer.diff_id: layer.size for layer in layers}, Chunks(host, names))
    stream.seek(0)
    with tarfile.open(fileobj=stream) as tar:
        manifest = json.load(tar.extractfile("manifest.json"))[0]  # type: ignore[arg-type]
        assert manifest["RepoTags"] == ["app:1"]
        assert tar.extractfile(manifest["Config"]).read().decode() == saved.config  # type: ignore[union-attr]
        assert manifest["Layers"][0] not in tar.getnames()
        there = [tar.extractfile(name).read() for name in manifest["Layers"][1:]]  # type: ignore[union-attr]
    assert [gzip.decompress(content) for content in there] == contents


@pytest.mark.parametrize("damage", ["changed", "missing", "link"])
def test_a_damaged_piece_is_named(tmp_path: Path, damage: str) -> None:
    good, bad = hashlib.sha256(b"good").hexdigest(), hashlib.sha256(b"bad").hexdigest()
    (tmp_path / good).write_bytes(b"good")
    if damage == "changed":
        (tmp_path / bad).write_bytes(b"bed")
    if damage == "link":
        (tmp_path / "elsewhere").write_bytes(b"bad")
        (tmp_path / bad).symlink_to("elsewhere")
    assert Chunks(tmp_path, [good, bad]).damaged() == [tmp_path / bad]


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(path.read_bytes()[:-9]), lambda path: path.unlink()])
def test_a_cut_layer_is_not_whole(tmp_path: Path, damage: Any) -> None:
    [layer] = layers_in(tmp_path, [b"content" * 100])
    assert is_whole(layer)
    damage(layer.path)
    assert not is_whole(layer)


def disks(root: int, spool: int | None = None) -> dict[str, Any]:
    """Free MiB as a host tells them."""
    return {
        "disks": {
            "root": "/var/lib/docker",
            "root_free": root * MIB,
            "spool": "/var/lib/slipway/incoming",
            "spool_free": (root if spool is None else spool) * MIB,
            "one": spool is None,
        }
    }


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (disks(31), []),
        (disks(29), ["web1", "29 MiB free in /var/lib/docker", "needs 30", "reserve of 8"]),
        (disks(27, 13), []),
        (disks(25, 13), ["25 MiB free in /var/lib/docker", "needs 26"]),
        (disks(99, 2), ["2 MiB free in /var/lib/slipway/incoming", "needs 12"]),
    ],
)
def test_room_for_layers_in_transit_twice_and_unpacked(tmp_path: Path, seen: dict[str, Any], words: list[str]) -> None:
    path = tmp_path / "layer"
    path.write_bytes(bytes(4 * MIB))
    problem = room_problem("web1", seen, [Packed("sha256:00", path, 14 * MIB)], 8 * MIB)
    assert bool(problem) == bool(words)
    assert [word for word in words if word not in problem] == []


def test_all_hosts_without_room_are_named_at_once() -> None:
    require_room(["", ""])
    with pytest.raises(ImageError, match=r"web1 is full; web3 is full.*fastapi_image_disk_reserve"):
        require_room(["web1 is full", "", "web3 is full"])


def test_a_host_of_another_kind_is_named() -> None:
    saved = Saved(config_of([]), [])
    require_architecture({"web1": {"machine": "x86_64"}, "web2": {"machine": "unheard-of"}, "web3": {}}, saved)
    with pytest.raises(ImageError, match=r"made for amd64, and web4 is arm64.*fastapi_image_build_on"):
        require_architecture({"web1": {"machine": "x86_64"}, "web4": {"machine": "aarch64"}}, saved)


def test_the_cache_forgets_what_was_not_used_for_longest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = LayerCache()
    layers = layers_in(cache.directory, [os.urandom(1000) for _ in range(4)])
    for age, layer in enumerate(layers):
        old = layer.path.stat().st_mtime - (age + 1) * 10 * IN_USE
        os.utime(layer.path, (old, old))
    used = cache.packed([layers[3].diff_id])
    assert [layer.diff_id for layer in used] == [layers[3].diff_id]
    cache.prune(limit=3 * layers[0].size)
    assert set(cache.layers()) == {layers[index].diff_id for index in (3, 0, 1)}
    cache.prune(limit=0)
    assert set(cache.layers()) == {layers[3].diff_id}, "what was used within the hour may be on its way"


def test_the_cache_knows_images_and_drops_damaged_layers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cache = LayerCache()
    saved = Saved(config_of([b"x"]), [digest(b"x")], 12)
    cache.keep("sha256:abc", saved)
    assert cache.saved("sha256:abc") == saved
    assert cache.saved("sha256:abd") is None
    good, bad = layers_in(cache.directory, [b"good", b"bad"])
    bad.path.write_bytes(b"no gzip")
    assert cache.drop_damaged([good, bad]) == 1
    assert set(cache.layers()) == {good.diff_id}
