"""Archives: bundles, layers and saved images, packages of an app and of a host, wheels, locks."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.host.packages import HostPackages
from ansible_collections.slipway.fleet.plugins.module_utils.image import inventory
from ansible_collections.slipway.fleet.plugins.module_utils.image.layers import (
    Packed,
    Saved,
    chain_ids,
    is_whole,
    pack,
    packed_in,
    place_of,
    unpack_save,
)
from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import PackageError, Packages, Target
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle import archive as bundle
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.lock import Lock, parse_lock
from ansible_collections.slipway.fleet.plugins.plugin_utils.sbom import document as sbom
from hypothesis import strategies as st

from tests.fuzz.hostile import JSON, TEXTS, confined, damaged, dumped, given, like, quick, tars, texts_like

CONFIG = {
    "architecture": "amd64",
    "created": "2026-11-26T10:00:00.123456789Z",
    "os": "linux",
    "config": {"Labels": {"a": "b"}, "Env": ["A=B"]},
    "rootfs": {"type": "layers", "diff_ids": ["sha256:0"]},
}
MANIFEST = {
    "format": 1,
    "images": [
        {
            "name": "app:1",
            "reference": "app:1",
            "content": "c",
            "architecture": "amd64",
            "sbom": "sbom/0.cdx.json",
            "config": "images/0.json",
            "layers": ["layers/0.tar.gz"],
        }
    ],
    "debian": [{"release": "trixie", "architecture": "amd64", "directory": "debian/trixie-amd64", "packages": []}],
    "wheels": ["app-1-py3-none-any.whl"],
}


def bundles(manifest: st.SearchStrategy[str]) -> st.SearchStrategy[bytes]:
    """Bundles that are whole, with this for a manifest."""

    def made(text: str, config: str, wheel: bytes) -> bytes:
        parts = {
            "images/0.json": config.encode("utf-8", "surrogatepass"),
            "layers/0.tar.gz": b"l",
            "wheels/app-1-py3-none-any.whl": wheel,
            "debian/trixie-amd64/Packages": b"Package: a\n",
            bundle.MANIFEST: text.encode("utf-8", "surrogatepass"),
        }
        sums = "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in parts.items())
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w") as tar:
            for name, data in [*parts.items(), (bundle.SUMS, sums.encode())]:
                item = tarfile.TarInfo(name)
                item.size = len(data)
                tar.addfile(item, io.BytesIO(data))
        return target.getvalue()

    return st.builds(made, manifest, texts_like(CONFIG), st.binary(max_size=20))


MANIFESTS = st.one_of(
    st.just(dumped(MANIFEST)),
    texts_like(MANIFEST),
    like(MANIFEST["images"][0]).map(lambda image: dumped({**MANIFEST, "images": [image]})),  # type: ignore[index]
    st.lists(JSON, max_size=2).map(lambda wheels: dumped({**MANIFEST, "wheels": wheels})),
)


@given(st.one_of(bundles(MANIFESTS), damaged(bundles(MANIFESTS)), damaged(tars())))
def test_a_bundle(data: bytes) -> None:
    with confined() as inside, quick():
        path = inside / "fleet.tar"
        path.write_bytes(data)
        try:
            found = bundle.Bundle(path)
            found.check()
        except bundle.BundleError:
            return
        assert hashlib.sha256(found.read(bundle.MANIFEST)).hexdigest() == found.sums[bundle.MANIFEST]
        for ask in (
            lambda: found.image("app:1")["layers"],
            lambda: found.repository("trixie", "amd64")["directory"],
            lambda: found.repository("bookworm", "amd64"),
            lambda: found.image("other"),
        ):
            try:
                assert isinstance(ask(), (str, list))
            except bundle.BundleError:
                continue


@given(bundles(MANIFESTS))
def test_the_wheels_of_a_bundle(data: bytes) -> None:
    with confined() as inside, quick(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(inside / "cache"))
        (inside / "fleet.tar").write_bytes(data)
        try:
            place = bundle.wheels_of(inside / "fleet.tar")
        except bundle.BundleError:
            return
        assert inside in place.parents


def saved_images() -> st.SearchStrategy[bytes]:
    """What `docker save` might write."""

    def made(manifest: str, config: str, layer: bytes) -> bytes:
        target = io.BytesIO()
        with tarfile.open(fileobj=target, mode="w") as tar:
            for name, data in (
                ("manifest.json", manifest.encode("utf-8", "surrogatepass")),
                ("config.json", config.encode("utf-8", "surrogatepass")),
                ("layer.tar", layer),
            ):
                item = tarfile.TarInfo(name)
                item.size = len(data)
                tar.addfile(item, io.BytesIO(data))
        return target.getvalue()

    right = {"Config": "config.json", "RepoTags": ["a:1"], "Layers": ["layer.tar"]}
    manifests = like(right).map(lambda one: dumped([one])) | texts_like(right) | st.just(dumped([right]))
    layer = b"layer"
    digest = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    config = st.just(dumped({**CONFIG, "rootfs": {"diff_ids": [digest]}})) | texts_like(CONFIG)
    return st.builds(made, manifests, config, st.sampled_from([layer, b"\x1f\x8b", b"\x1f\x8bbroken", b""]))


@given(saved_images() | damaged(saved_images()) | damaged(tars()))
def test_a_saved_image(data: bytes) -> None:
    with confined() as inside, quick():
        path = inside / "image.tar"
        path.write_bytes(data)
        (inside / "into").mkdir()
        try:
            saved = unpack_save(path, inside / "into")
        except SlipwayError:
            return
        assert isinstance(saved, Saved)
        assert all(is_whole(layer) for layer in packed_in(inside / "into").values())
        chain_ids(saved.layers)


@given(damaged(tars()).map(lambda data: data) | st.binary(max_size=300), st.booleans())
def test_a_layer(data: bytes, packed: bool) -> None:
    raw = zlib.compress(data, 1, 31) if packed else data
    with confined() as inside, quick():
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        try:
            layer = pack(io.BytesIO(raw), digest, inside)
        except SlipwayError:
            layer = None
        assert layer is None or is_whole(layer)
        (inside / "0.1.gz").write_bytes(raw[:-3])
        assert not is_whole(Packed(digest, inside / "0.1.gz", 1)) or not data
        packed_in(inside)


STATUS = b"Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\nSource: b (2)\n\nPackage: c\n"
DISTRIBUTION = (
    b"Metadata-Version: 2.1\nName: x\nVersion: 1\nClassifier: License :: OSI Approved :: MIT\nLicense: MIT\n\n"
)
SYSTEM = b'ID=debian\nVERSION_ID="13"\n'
COPYRIGHT = b"Format: x\nLicense: MIT\nLicense: GPL-2 and more\n"
FOUND = damaged(st.sampled_from([STATUS, DISTRIBUTION, SYSTEM, COPYRIGHT]))


@given(
    st.lists(damaged(tars(FOUND)) | tars(FOUND), max_size=3),
    st.one_of(st.just(CONFIG), like(CONFIG)),
    st.sampled_from([0, 1, 31]),
)
def test_what_an_image_is_made_of(layers: list[bytes], config: dict[str, Any], packing: int) -> None:
    with quick():
        try:
            read = [
                inventory.read_layer(io.BytesIO(zlib.compress(layer, 1, 31) if packing else layer)) for layer in layers
            ]
            found = inventory.of_layers(config, json.loads(json.dumps(read)))
            text = sbom.of_image("app:1", {"id": "sha256:0", **found})
        except (SlipwayError, sbom.SbomError):
            return
        assert json.loads(text)["bomFormat"] == "CycloneDX"


WHEEL = b"a wheel"
DIGEST = hashlib.sha256(WHEEL).hexdigest()


def sent(*members: tuple[str, bytes]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        for name, data in members:
            item = tarfile.TarInfo(name)
            item.size = len(data)
            tar.addfile(item, io.BytesIO(data))
    return target.getvalue()


CONTENT = {"wheels": [DIGEST], "project": ""}
PACKAGES = st.builds(
    lambda content, name: sent(
        ("content.json", content.encode("utf-8", "surrogatepass")),
        ("requirements.txt", b"a==1"),
        ("srv/app.py", b"app"),
        (name, WHEEL),
    ),
    texts_like(CONTENT),
    st.sampled_from(
        [f"wheels/{DIGEST}/a.whl", f"wheels/{DIGEST}/..", f"wheels/../{DIGEST}/a", "wheels/x", "wheels/x/a"]
    ),
)


@given(PACKAGES | damaged(PACKAGES) | damaged(tars()))
def test_a_package_of_an_app(data: bytes) -> None:
    with confined() as inside, quick():
        packages = Packages(inside)
        packages.wheels.mkdir()
        place = packages.path("0123456789ab")
        (place / "srv").mkdir(parents=True)
        (inside / "sent.tar").write_bytes(data)
        try:
            content = packages._unpack(inside / "sent.tar", place)
        except PackageError:
            content = {}
        assert isinstance(content, dict)
        assert {path.name for path in inside.iterdir()} == {"packages", "wheels", "sent.tar"}
        for name in packages.wheels_here():
            assert name.startswith(".") or name == DIGEST


@given(texts_like({"key": "0", "python": "3.11", "wheels": [], "interpreter": "/usr/bin/python3"}))
def test_the_mark_of_a_package(text: str) -> None:
    with confined() as inside, quick():
        packages = Packages(inside)
        place = packages.path("0123456789ab")
        place.mkdir(parents=True)
        (place / "package.json").write_text(text, encoding="utf-8", errors="surrogatepass")
        for ask in (
            lambda: packages.has("0123456789ab", Target("3.11.2", "x86_64", "2.36")),
            lambda: packages.remove([]),
        ):
            try:
                ask()
            except SlipwayError:
                continue


INDEX = b"Package: a\nVersion: 1\nFilename: ./a_1.deb\n\nPackage: b\nFilename: ../../outside.deb\nVersion: 2\n"


@given(
    st.one_of(
        damaged(tars()),
        st.builds(
            lambda name, index: sent((name, index)),
            st.sampled_from(["trixie-amd64/Packages", "/x/Packages", "../Packages", "Packages", "a/b/c/Packages"]),
            damaged(st.just(INDEX)),
        ),
    )
)
def test_the_packages_of_a_host(data: bytes) -> None:
    with confined() as inside, quick():
        (inside / "sent.tar").write_bytes(data)
        packages = HostPackages(inside / "packages")
        packages.place.mkdir()
        packages.absent = lambda wanted: []  # type: ignore[method-assign]
        try:
            names = packages.take(inside / "sent.tar")
            files = packages._files()
        except SlipwayError:
            names, files = [], {}
        assert all(packages.place in (packages.place / name).parents for name in names)
        assert {path.name for path in inside.iterdir()} == {"packages", "sent.tar"}
        assert all(".." not in path.parts for path in files.values())


def wheels(metadata: bytes, name: str) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as wheel:
        wheel.writestr(name, metadata)
    return target.getvalue()


@given(
    damaged(
        st.builds(
            wheels,
            damaged(st.just(DISTRIBUTION)),
            st.sampled_from(["x-1.dist-info/METADATA", "METADATA", "../x", "a\\b"]),
        )
    )
)
def test_a_wheel(data: bytes) -> None:
    with confined() as inside, quick():
        (inside / "x.whl").write_bytes(data)
        try:
            text = sbom.of_wheels("app", DIGEST, [(inside / "x.whl", DIGEST)])
        except sbom.SbomError:
            return
        assert json.loads(text)["bomFormat"] == "CycloneDX"


LOCK = (
    b"a==1 \\\n    --hash=sha256:" + DIGEST.encode() + b"\n-r other.txt\n# a comment\nb @ file:///x\n-e ./c\n"
    b"d[e,f]==2 ; python_version < '3.12' --hash=sha256:" + DIGEST.encode() + b"\n--only-binary :all:\n"
)


@given(damaged(st.just(LOCK)), damaged(st.just(LOCK)))
def test_a_lock(data: bytes, other: bytes) -> None:
    with confined() as inside, quick():
        (inside / "requirements.txt").write_bytes(data)
        (inside / "other.txt").write_bytes(other)
        try:
            pins = Lock(inside).pins
        except SlipwayError:
            return
        assert all(pin.hashes for pin in pins)


@given(TEXTS)
def test_a_line_of_a_lock(text: str) -> None:
    with quick():
        for line in (text, f"a=={text} --hash=sha256:{DIGEST}", f"a[{text}]==1 --hash=sha256:{DIGEST}", f"a ; {text}"):
            try:
                parse_lock(line, Path("requirements.txt"))
            except SlipwayError:
                continue
        assert "/" not in place_of(text)
        assert place_of(text) not in (".", "..")
