"""Bundles: what is written is read, equal parts give equal bytes, and what is wrong is named before it is used."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.action.bundle import needs_of
from ansible_collections.slipway.fleet.plugins.module_utils.host import installed
from ansible_collections.slipway.fleet.plugins.module_utils.host import packages as host_packages
from ansible_collections.slipway.fleet.plugins.module_utils.host.installed import Package
from ansible_collections.slipway.fleet.plugins.module_utils.host.packages import HostPackages, PackagesError
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError
from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import Target
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle.archive import (
    MANIFEST,
    SUMS,
    Bundle,
    BundleError,
    Writer,
    wheels_of,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle_builder import (
    debian as bundle_debian,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle_builder import (
    images as bundle_images,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle_builder import (
    make as bundle_make,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle_builder import (
    project as bundle_project,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.bundle import FromBundle
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import ImageRequest

ROOT = Path(__file__).resolve().parents[2]
EMPTY: dict[str, Any] = {"images": [], "debian": [], "wheels": []}


def written(path: Path, parts: dict[str, bytes], **manifest: Any) -> Path:
    with Writer(path) as writer:
        for name, data in parts.items():
            writer.add_bytes(name, data)
        writer.finish(EMPTY | manifest)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "b.tar", {"wheels/a-1.whl": b"wheel" * 9000, "b": b""}, wheels=["a-1.whl"])


def replace(path: Path, name: str, data: bytes | None) -> None:
    """Write a bundle anew with another content of one part, without the part, or with one more."""
    with tarfile.open(path) as tar:
        parts = {item.name: tar.extractfile(item).read() for item in tar}  # type: ignore[union-attr]
    parts = {**parts, name: data} if data is not None else {key: value for key, value in parts.items() if key != name}
    with tarfile.open(path, "w") as tar:
        for key, value in parts.items():
            item = tarfile.TarInfo(key)
            item.size = len(value)
            tar.addfile(item, io.BytesIO(value))


# --- the file


def test_what_was_written_is_read(file: Path) -> None:
    bundle = Bundle(file)
    bundle.check()
    assert bundle.read("wheels/a-1.whl") == b"wheel" * 9000
    assert bundle.size("b") == 0
    assert bundle.manifest == {"format": 1, **EMPTY, "wheels": ["a-1.whl"]}


def test_equal_parts_give_equal_bytes(file: Path, tmp_path: Path) -> None:
    again = written(tmp_path / "again.tar", {"wheels/a-1.whl": b"wheel" * 9000, "b": b""}, wheels=["a-1.whl"])
    assert again.read_bytes() == file.read_bytes()
    assert Bundle(again).name == Bundle(file).name
    assert Bundle(written(tmp_path / "other.tar", {"b": b"1"})).name != Bundle(file).name


def test_the_sums_are_those_of_sha256sum(file: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for command in (["tar", "-xf", str(file)], ["sha256sum", "--check", "--strict", SUMS]):
        subprocess.run(command, cwd=tmp_path / "out", check=True, capture_output=True)


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("wheels/a-1.whl", b"changed", "another checksum than in SHA256SUMS has wheels/a-1.whl"),
        ("b", None, "not there is b"),
        ("stray", b"x", "not in SHA256SUMS is stray"),
    ],
)
def test_a_part_that_is_not_what_it_must_be_is_named(file: Path, name: str, data: bytes | None, said: str) -> None:
    replace(file, name, data)
    with pytest.raises(BundleError, match=said):
        Bundle(file).check()


def test_a_changed_part_is_refused_when_it_is_taken_out_too(file: Path) -> None:
    replace(file, "wheels/a-1.whl", b"changed")
    with pytest.raises(BundleError, match=r"wheels/a-1\.whl in .* another checksum"):
        Bundle(file).read("wheels/a-1.whl")
    replace(file, MANIFEST, b"{}")
    with pytest.raises(BundleError, match=r"manifest\.json in .* another checksum"):
        Bundle(file)


@pytest.mark.parametrize("kept", [0, 100, 20_000, 46_000])
def test_a_file_that_was_cut_off_is_refused(file: Path, kept: int) -> None:
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(BundleError, match="copy it again"):
        Bundle(file)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="there is no bundle"):
        Bundle(tmp_path / "none.tar")
    (tmp_path / "text").write_text("hello\n" * 1000)
    with pytest.raises(BundleError, match="is no bundle"):
        Bundle(tmp_path / "text")
    with pytest.raises(BundleError, match="format 7, and this version of Slipway reads 1"):
        Bundle(written(tmp_path / "new.tar", {}, format=7))


def test_nothing_is_left_of_a_bundle_that_could_not_be_made(tmp_path: Path) -> None:
    def write() -> None:
        with Writer(tmp_path / "b.tar") as writer:
            writer.add_bytes("a", b"1")
            writer.add_bytes("a", b"2")

    with pytest.raises(BundleError, match="twice"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_wheels_are_taken_out_once(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = wheels_of(file)
    assert [path.name for path in place.iterdir()] == ["a-1.whl"]
    (place / "a-1.whl").write_bytes(b"mine")
    assert (wheels_of(file) / "a-1.whl").read_bytes() == b"mine"


# --- images


def saved(tmp_path: Path, link: bool = False) -> tuple[tarfile.TarFile, str, list[bytes]]:
    """What `docker save` writes for an image of three layers, the last one twice, as a link where Docker makes one."""
    layers = [b"first" * 3000, b"second", b"second"]
    diff_ids = [f"sha256:{hashlib.sha256(layer).hexdigest()}" for layer in layers]
    config = json.dumps({"architecture": "amd64", "rootfs": {"diff_ids": diff_ids}}).encode()
    identity = hashlib.sha256(config).hexdigest()
    with tarfile.open(tmp_path / "saved.tar", "w") as tar:
        for number, layer in enumerate(layers):
            item = tarfile.TarInfo(f"{number}/layer.tar")
            if link and number == 2:
                item.type, item.linkname = tarfile.SYMTYPE, "../1/layer.tar"
            else:
                item.size = len(layer)
            tar.addfile(item, io.BytesIO(layer))
        names = [f"{number}/layer.tar" for number in range(3)]
        for name, data in (
            (f"{identity}.json", config),
            ("manifest.json", json.dumps([{"Config": f"{identity}.json", "Layers": names}]).encode()),
        ):
            item = tarfile.TarInfo(name)
            item.size = len(data)
            tar.addfile(item, io.BytesIO(data))
    return tarfile.open(tmp_path / "saved.tar"), f"sha256:{identity}", layers


@pytest.mark.parametrize("link", [False, True])
def test_an_image_comes_out_as_it_went_in(tmp_path: Path, link: bool) -> None:
    archive, identity, layers = saved(tmp_path, link)
    with archive, Writer(tmp_path / "b.tar") as writer:
        entry = bundle_images.add_saved(writer, archive, identity)
        assert entry == bundle_images.add_saved(writer, archive, identity)
        writer.finish(EMPTY | {"images": [{"name": "app", "reference": "app", "content": "c", **entry}]})
    bundle = Bundle(tmp_path / "b.tar")
    assert len([name for name in bundle.sums if name.startswith("layers/")]) == 2
    image = bundle.image("app")
    assert [gzip.decompress(bundle.read(name)) for name in image["layers"]] == layers
    assert f"sha256:{hashlib.sha256(bundle.read(image['config'])).hexdigest()}" == identity


def test_an_image_that_is_not_the_one_is_refused(tmp_path: Path) -> None:
    archive, _, _ = saved(tmp_path)
    with archive, pytest.raises(BundleError, match="another image"), Writer(tmp_path / "b.tar") as writer:
        bundle_images.add_saved(writer, archive, "sha256:" + "0" * 64)


def test_what_is_not_in_a_bundle_is_named_with_what_is(tmp_path: Path) -> None:
    debian = [{"release": "trixie", "architecture": "amd64", "directory": "debian/trixie-amd64"}]
    image = dict.fromkeys(("reference", "content", "architecture", "config"), "redis") | {
        "name": "redis:8",
        "layers": [],
    }
    bundle = Bundle(written(tmp_path / "b.tar", {}, images=[image], debian=debian))
    with pytest.raises(BundleError, match="no image postgres:17; it has redis:8"):
        bundle.image("postgres:17")
    with pytest.raises(BundleError, match=r"no packages for bookworm \(amd64\), it has those for trixie \(amd64\)"):
        bundle.repository("bookworm", "amd64")


# --- packages


def deb(name: str, version: str) -> bundle_debian.Package:
    control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nDescription: x\n more"
    return bundle_debian.Package(name, version, "amd64", f"{name}_{version}_amd64.deb", 3, "0" * 64, control)


def test_a_list_of_packages_is_what_apt_reads(tmp_path: Path) -> None:
    place = tmp_path / "fetched"
    place.mkdir()
    packages = [deb("haproxy", "3.0"), deb("python3", "3.13.5-1")]
    for package in packages:
        (place / package.file).write_bytes(b"deb")
    fetched = {"release": "trixie", "architecture": "amd64", "packages": packages}
    with Writer(tmp_path / "b.tar") as writer:
        entry = bundle_debian.add(writer, fetched, place, {"edge": ["haproxy"]})
        writer.finish(EMPTY | {"debian": [entry]})
    text = Bundle(tmp_path / "b.tar").read("debian/trixie-amd64/Packages").decode()
    first, second = text.split("\n\n")
    assert first.splitlines()[0] == "Package: haproxy"
    assert "Filename: ./haproxy_3.0_amd64.deb\nSize: 3\nSHA256: " + "0" * 64 in first
    assert second.startswith("Package: python3\n")


def test_packages_are_taken_out_of_the_container_that_fetched_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the Python of Debian 12, too. What is there is what that container's program writes."""
    inside, place, program = tmp_path / "inside", tmp_path / "place", tmp_path / "docker"
    for directory in (inside, place):
        directory.mkdir()
    wanted = deb("libc6", "2%3a2.41")
    files = {"release": "trixie\n", "architecture": "amd64\n", wanted.file: "deb"}
    for name, text in (files | {f"{wanted.file}.control": f"{wanted.control}\n"}).items():
        (inside / name).write_text(text)
    (inside / "link").symlink_to("/etc/passwd")
    program.write_text(f"#!/bin/sh\ncat >/dev/null\nexec tar -C {inside} -cf - .\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    fetched = bundle_debian.fetch("debian:13", ["libc6"], place)
    assert (fetched["release"], fetched["architecture"]) == ("trixie", "amd64")
    (package,) = fetched["packages"]
    assert (package.name, package.file) == ("libc6", "libc6_2+2.41_amd64.deb")
    assert not (place / "link").is_symlink()


def test_python_of_the_hosts_is_that_of_the_packages() -> None:
    fetched = {"architecture": "arm64", "packages": [deb("python3", "3.13.5-1"), deb("libc6", "2.41-12+deb13u2")]}
    target = bundle_make._target(fetched)
    assert (target.version, target.machine, target.glibc) == ("3.13.5", "aarch64", "2.41")


def test_a_project_that_does_not_take_the_python_of_the_distribution_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "shop"\nrequires-python = ">=3.13"\n')
    (tmp_path / "requirements.txt").write_text("")
    package = {"source": str(tmp_path), "files": [], "lock": "", "project": "found", "extras": []}
    said = r"asks for Python >=3.13, .* of the distribution alone, which is 3.11.2; take .* in slipway_bundle_releases"
    with Writer(tmp_path / "b.tar") as writer, pytest.raises(BundleError, match=said):
        bundle_make._wheels(writer, [package], Target("3.11.2", "x86_64", "2.36"), lambda _: None)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HostPackages:
    """A host with haproxy 3.0, whose apt would install what it is asked for and upgrade libc6."""

    def run(command: list[str], environment: dict[str, str] | None = None) -> str:
        if command[0] == "dpkg":
            return "amd64\n"
        assert (environment or {})["APT_CONFIG"].endswith("/apt.conf")
        return (
            "Inst libc6 [2.40] (2.41 bundle [amd64])\nInst redis-server (8.0 bundle [amd64])\nConf redis-server (8.0)\n"
        )

    monkeypatch.setattr(host_packages, "_run", run)
    monkeypatch.setattr(host_packages, "_release", lambda: "trixie")
    there = {"haproxy": Package("3.0-1"), "python3-apt": Package("2")}
    monkeypatch.setattr(installed, "packages", lambda: there)
    return HostPackages(tmp_path / "lib/packages")


def sent(tmp_path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(tmp_path / "sent.tar", "w") as tar:
        for name, data in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(data)
            tar.addfile(item, io.BytesIO(data))
    return tmp_path / "sent.tar"


def test_a_host_asks_for_what_its_apt_would_take(host: HostPackages, tmp_path: Path) -> None:
    packages = "\n".join(
        deb(name, version).paragraph() for name, version in (("libc6", "2.41"), ("redis-server", "8.0"))
    )
    indexes = {"trixie-amd64": hashlib.sha256(packages.encode()).hexdigest()}
    looked = host.look(indexes, ["redis-server", "haproxy"])
    assert looked == {"repository": "trixie-amd64", "known": False, "absent": ["redis-server"], "missing": []}
    host.take_index(sent(tmp_path, {"trixie-amd64/Packages": packages.encode()}))
    files = ["trixie-amd64/libc6_2.41_amd64.deb", "trixie-amd64/redis-server_8.0_amd64.deb"]
    assert host.look(indexes, ["redis-server"])["missing"] == files
    host.take(sent(tmp_path, {files[0]: b"deb"}))
    assert host.missing(["redis-server"]) == files[1:]
    assert host.discard() == 1
    assert host.look(indexes, ["haproxy"]) == {
        "repository": "trixie-amd64", "known": True, "absent": [], "missing": [],
    }  # fmt: skip


@pytest.mark.parametrize("name", ["../etc/x.deb", "a/../../x.deb", "trixie-amd64/x.sh"])
def test_a_host_takes_nothing_else(host: HostPackages, tmp_path: Path, name: str) -> None:
    host.place.mkdir(parents=True)
    with pytest.raises(PackagesError, match="is no package"):
        host.take(sent(tmp_path, {name: b"x"}))


# --- what goes into it


def test_each_role_that_installs_packages_tells_them() -> None:
    """A package that a role installs and does not tell would be missing on hosts without the internet."""
    for role in sorted((ROOT / "roles").iterdir()):
        tasks = [task for path in role.glob("tasks/*.yml") for task in yaml.safe_load(path.read_text()) or []]
        given = [task["ansible.builtin.apt"]["name"] for task in tasks if "ansible.builtin.apt" in task]
        names = [name for one in given for name in ([one] if isinstance(one, str) else one)]
        told = (role / "tasks/bundle.yml").read_text() if names else ""
        for name in names:
            assert name.strip("{} ") in told, f"{role.name}: tasks/bundle.yml does not name {name}"


def test_each_role_that_takes_an_image_takes_it_from_a_bundle_too() -> None:
    for path in sorted((ROOT / "roles").glob("*/tasks/*.yml")):
        for task in yaml.safe_load(path.read_text()) or []:
            for module in ("slipway.fleet.image", "slipway.fleet.package"):
                if task.get(module, {}).get("operation") != "inspect" and module in task:
                    assert "slipway_bundle" in task[module].get("bundle", ""), f"{path}: {task['name']}"


def test_needs_of_all_hosts_are_one_list() -> None:
    one = {"images": [{"name": "a"}], "needed": {"edge": ["haproxy"]}, "package": {}}
    two = {"images": [{"name": "a"}], "needed": {"edge": ["haproxy"], "cache": ["redis-server"]}, "package": {}}
    variables = {
        "x_bundle_result": {"need": one},
        "y_bundle_result": {"need": two},
        "z_bundle_result": {"skipped": True},
    }
    needs = needs_of(variables)
    assert needs == [one, two]
    assert bundle_make._groups(needs) == {
        "ansible": ["python3-apt"], "cache": ["redis-server"], "edge": ["haproxy"],
    }  # fmt: skip
    assert bundle_make._distinct(image for need in needs for image in need["images"]) == [{"name": "a"}]


def test_an_image_named_by_digest_is_refused(tmp_path: Path) -> None:
    need = {"images": [{"name": "redis@sha256:" + "0" * 64}], "needed": {}, "package": {}}
    with pytest.raises(BundleError, match="named by digest"):
        bundle_make.make(tmp_path / "b.tar", [need], {"trixie": "x"}, [], lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_an_installed_collection_can_be_installed_from_its_archive(tmp_path: Path) -> None:
    place = tmp_path / "placed"
    (place / "plugins").mkdir(parents=True)
    (place / "plugins/x.py").write_text("x = 1\n")
    listed = {
        "format": 1,
        "files": [
            {"name": ".", "ftype": "dir", "chksum_type": None, "chksum_sha256": None, "format": 1},
            {"name": "plugins", "ftype": "dir", "chksum_type": None, "chksum_sha256": None, "format": 1},
            {"name": "plugins/x.py", "ftype": "file", "chksum_type": "sha256", "chksum_sha256": "0", "format": 1},
            {"name": "tests/gone.py", "ftype": "file", "chksum_type": "sha256", "chksum_sha256": "0", "format": 1},
        ],
    }
    info = {"namespace": "some", "name": "thing", "version": "1.2.3", "dependencies": {}}
    files = {"name": "FILES.json", "ftype": "file", "chksum_type": "sha256", "chksum_sha256": "0", "format": 1}
    (place / "FILES.json").write_text(json.dumps(listed))
    (place / "MANIFEST.json").write_text(
        json.dumps({"collection_info": info, "file_manifest_file": files, "format": 1})
    )
    archive = tmp_path / "some-thing-1.2.3.tar.gz"
    archive.write_bytes(bundle_project.collection(place))
    assert archive.read_bytes() == bundle_project.collection(place)
    command = ["ansible-galaxy", "collection", "install", "--offline", "-p", str(tmp_path / "there"), str(archive)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "there/ansible_collections/some/thing/plugins/x.py").read_text() == "x = 1\n"


def test_the_project_is_in_it_as_git_has_it(tmp_path: Path) -> None:
    with Writer(tmp_path / "b.tar") as writer:
        entry = bundle_project.add_project(writer, ROOT, "1.0")
        writer.finish(EMPTY)
    data = Bundle(tmp_path / "b.tar").read(entry["part"])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = {item.name: item for item in tar}
    assert names["slipway-1.0/.ci/run"].mode & 0o100
    assert names["slipway-1.0/.collections/ansible_collections/slipway/fleet"].issym()
    assert names["slipway-1.0/playbooks/deploy.yml"].isfile()
    assert not [name for name in names if "/.git/" in name or "/reports/" in name]


@pytest.mark.parametrize(
    "name", ["wheels/../../x", "../x", "/x", "wheels//x", "wheels/./x", "wheels/..", "a\nb", "a b", "C:\\x", "wheels/"]
)
def test_a_part_that_would_lie_elsewhere_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="which no bundle has, so nothing was done"):
        Bundle(written(tmp_path / "b.tar", {name: b"x"}))


@pytest.mark.parametrize("name", ["debian/trixie-amd64/a_1%3a2~rc1+b1_amd64.deb", "wheels/a-1.0+local-py3.whl"])
def test_names_of_packages_are_taken(name: str, tmp_path: Path) -> None:
    assert Bundle(written(tmp_path / "b.tar", {name: b"x"})).read(name) == b"x"


def test_a_link_or_a_second_part_of_a_name_is_refused(file: Path) -> None:
    for kind, name in ((tarfile.SYMTYPE, "wheels/link"), (tarfile.REGTYPE, "b")):
        copy = file.with_name("copy.tar")
        copy.write_bytes(file.read_bytes())
        with tarfile.open(copy, "a") as tar:
            item = tarfile.TarInfo(name)
            item.type, item.linkname = kind, "/etc/passwd"
            tar.addfile(item)
        with pytest.raises(BundleError, match="which no bundle has"):
            Bundle(copy)


def test_a_wheel_that_would_lie_elsewhere_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    file = written(tmp_path / "b.tar", {}, wheels=["x/../../../../escaped"])
    with pytest.raises(BundleError, match="names a wheel"):
        wheels_of(file)
    assert not list(tmp_path.rglob("escaped"))


def test_a_key_for_signatures_that_nobody_would_look_for_is_refused(file: Path) -> None:
    source = FromBundle(ImageRequest(name="app", bundle=file, cosign_key="cosign.pub"), file)
    for step in (source.identify, source.wanted):
        with pytest.raises(ImageError, match=r"cosign_key is set, but .*Nobody would look"):
            step()
