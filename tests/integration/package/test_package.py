"""Packages: what they are made from, which wheels fit a host, and how they come and go there."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host import command as host_command
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.package import packages as package_module
from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import (
    PackageError,
    Packages,
    Target,
    target_of,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.package import source as package_source
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.lock import parse_lock
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.source import (
    PackageSource,
    Wheel,
    fetch,
    platform_tags,
)

HASH = "sha256:" + "0" * 64
LOCK = f"""\
# made by a resolver
anyio==4.0 \\
    --hash={HASH} \\
    --hash=sha256:{"1" * 64}
async-timeout==5.0 ; python_full_version < '3.11.3' \\
    --hash={HASH}
pywin32==306 ; sys_platform == 'win32' \\
    --hash={HASH}
uvicorn[standard]==0.35 --hash={HASH}
"""
BOOKWORM = Target("3.11.2", "x86_64", "2.36")
TRIXIE = Target("3.13.5", "aarch64", "2.41")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    (source / "app/__pycache__").mkdir(parents=True)
    (source / "app/main.py").write_text("app = None\n")
    (source / "app/__pycache__/main.pyc").write_bytes(b"\0")
    (source / "app/.hidden").touch()
    (source / "conf.py").write_text("")
    (source / "README.md").write_text("not code\n")
    (source / "app.lock").write_text(LOCK)
    return source


def made(root: Path, files: tuple[str, ...] = ("app", "conf.py")) -> PackageSource:
    return PackageSource(root, list(files), "app.lock")


def test_the_code_is_what_was_named_without_bytecode(root: Path) -> None:
    assert [path.as_posix() for path in made(root).files()] == ["app/main.py", "conf.py"]


def test_what_a_build_in_place_leaves_is_no_code(root: Path) -> None:
    key = made(root).key()
    (root / "app/shop.egg-info").mkdir()
    (root / "app/shop.egg-info/SOURCES.txt").touch()
    assert made(root).key() == key


@pytest.mark.parametrize("named", ["app", "shared", "../outside"])
def test_a_file_outside_of_the_source_is_not_sent(root: Path, named: str) -> None:
    outside = root.parent / "outside"
    outside.mkdir()
    (outside / "key").write_text("secret")
    (root / "shared").symlink_to(outside)
    (root / "app/inside.py").symlink_to("main.py")
    assert Path("app/inside.py") in made(root).files()
    (root / "app/key").symlink_to(outside / "key")
    with pytest.raises(
        PackageError, match=f"key is {outside}/key, which is outside of {root}, .*fastapi_package_source"
    ):
        made(root, (named,)).files()


def test_the_key_follows_the_code_and_the_lock_and_nothing_else(root: Path) -> None:
    keys = [made(root).key()]
    (root / "README.md").write_text("changed\n")
    (root / "app/__pycache__/main.pyc").write_bytes(b"\1")
    assert made(root).key() == keys[0]
    (root / "app/main.py").write_text("app = 1\n")
    keys.append(made(root).key())
    (root / "app/main.py").chmod(0o755)
    keys.append(made(root).key())
    (root / "app.lock").write_text(LOCK + "# more\n")
    keys.append(made(root).key())
    assert len(set(keys)) == 4


@pytest.mark.parametrize(
    ("files", "lock", "message"),
    [
        (["app"], "no.lock", "fastapi_package_lock"),
        (["nothing"], "app.lock", "fastapi_package_files"),
    ],
)
def test_what_is_not_there_is_named(files: list[str], lock: str, message: str, root: Path) -> None:
    with pytest.raises(PackageError, match=message):
        PackageSource(root, files, lock).files()


def test_conditions_are_decided_by_the_host_and_not_by_the_controller(root: Path) -> None:
    old, new = made(root).requirements(BOOKWORM), made(root).requirements(TRIXIE)
    assert f"async-timeout==5.0 --hash={HASH}\n" in old
    assert "async-timeout" not in new
    assert "pywin32" not in old + new
    assert f"uvicorn[standard]==0.35 --hash={HASH}\n" in new
    assert ";" not in old


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("anyio==4.0", "anyio has no exact version with a sha256 hash"),
        (f"anyio>=4.0 --hash={HASH}", "anyio has no exact version"),
        ("--find-links wheels", "is no requirement"),
    ],
)
def test_a_lock_that_is_none_is_refused(line: str, message: str) -> None:
    with pytest.raises(PackageError, match=message):
        parse_lock(line, Path("app.lock"))


def test_wheels_for_an_older_c_library_fit_a_newer_one() -> None:
    tags = platform_tags(BOOKWORM)
    assert tags[0] == "manylinux_2_36_x86_64"
    assert {"manylinux2014_x86_64", "manylinux_2_17_x86_64", "manylinux1_x86_64", "linux_x86_64"} <= set(tags)
    assert "manylinux_2_37_x86_64" not in tags
    assert "manylinux1_aarch64" not in platform_tags(TRIXIE)


def test_wheels_are_fetched_once_for_a_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def run(command: list[str], _: float) -> Ran:
        calls.append(command)
        if "download" in command:
            (Path(command[command.index("--dest") + 1]) / "anyio-4.0-py3-none-any.whl").write_bytes(b"wheel")
        return Ran(tuple(command), 0)

    monkeypatch.setattr(host_command, "run", run)
    (wheel,) = fetch("anyio==4.0\n", BOOKWORM, tmp_path, tmp_path / "own", tmp_path / "ca.pem")
    assert wheel.sha256 == hashlib.sha256(b"wheel").hexdigest()
    downloads = [call for call in calls if "download" in call]
    assert downloads[0][downloads[0].index("--only-binary") :][:2] == ["--only-binary", ":all:"]
    assert {
        "cp311",
        "abi3",
        "none",
        "3.11",
        "--require-hashes",
        str(tmp_path / "own"),
        str(tmp_path / "ca.pem"),
    } <= set(downloads[0])
    fetch("anyio==4.0\n", BOOKWORM, tmp_path, None, None)
    fetch("anyio==4.0\n", TRIXIE, tmp_path, None, None)
    assert len([call for call in calls if "download" in call]) == 2
    for number in range(20):
        fetch(f"anyio==4.{number}\n", BOOKWORM, tmp_path, None, None)
    assert len(list(tmp_path.iterdir())) == package_source.FETCHED_KEPT


def test_a_source_distribution_is_refused_with_the_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(command: list[str], _: float) -> Ran:
        said = "ERROR: No matching distribution found for oldlib==1.2\n"
        return Ran(tuple(command), int("download" in command), stderr=said)

    monkeypatch.setattr(host_command, "run", run)
    with pytest.raises(PackageError, match=r"oldlib 1.2 has no wheel for Python 3.13 on aarch64 with glibc 2.41"):
        fetch("oldlib==1.2\n", TRIXIE, tmp_path, None, None)
    assert list(tmp_path.iterdir()) == [], "a part of it is not taken for the whole"


def test_an_old_python_is_refused_early(tmp_path: Path) -> None:
    python = tmp_path / "python3"

    def answer(version: str, complete: bool) -> None:
        seen = {"version": version, "implementation": "CPython", "machine": "x86_64", "glibc": "2.31"}
        python.write_text(f"#!/bin/sh\necho '{json.dumps(seen | {'complete': complete})}'\n")
        python.chmod(0o755)

    with pytest.raises(PackageError, match=f"there is no {python} on this host; run slipway.fleet.provision"):
        target_of(str(python))
    answer("3.9.2", True)
    with pytest.raises(PackageError, match=r"is CPython 3.9.2, and CPython 3.11 is the oldest"):
        target_of(str(python))
    answer("3.13.1", False)
    with pytest.raises(PackageError, match="python3-venv"):
        target_of(str(python))
    answer("3.13.1", True)
    assert target_of(str(python)).short == "3.13"


def test_a_python_that_is_not_there_is_named() -> None:
    with pytest.raises(PackageError, match="there is no /usr/bin/python0"):
        target_of("/usr/bin/python0")


@pytest.fixture
def wheel(tmp_path: Path) -> Wheel:
    path = tmp_path / "anyio-4.0-py3-none-any.whl"
    path.write_bytes(b"wheel")
    return Wheel(path, hashlib.sha256(b"wheel").hexdigest())


def test_a_package_is_whole_or_not_there(
    root: Path, wheel: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(package_module, "_run", commands.append)
    monkeypatch.setattr(package_module, "_pip", lambda _place: Path("/pip.whl"))
    target = target_of(sys.executable)
    source, packages = made(root), Packages(tmp_path / "links")
    archive = tmp_path / "package.tar"
    source.write(archive, "anyio==4.0\n", [wheel], set())
    key = source.key()
    assert not packages.has(key, target)
    packages.install(archive, key, sys.executable)
    assert packages.has(key, target)
    assert not packages.has(key, Target("3.99.0", "x86_64", "2.41")), "another Python needs another one"
    assert packages.wheels_here() == [wheel.sha256]
    assert (packages.path(key) / "srv/app/main.py").read_text() == "app = None\n"
    install = next(command for command in commands if "install" in command)
    assert {"--no-index", "--require-hashes", "--no-deps", "--compile"} <= set(install)

    source.write(archive, "anyio==4.0\n", [wheel], set(packages.wheels_here()))
    with tarfile.open(archive) as tar:
        assert not [name for name in tar.getnames() if name.startswith("wheels/")], "not sent twice"

    def fail(command: list[str]) -> None:
        raise PackageError("no")

    monkeypatch.setattr(package_module, "_run", fail)
    with pytest.raises(PackageError):
        packages.install(archive, key, sys.executable)
    assert not packages.has(key, target)
    packages.remove([key])
    assert not packages.path(key).exists()
    assert packages.wheels_here() == []


@pytest.fixture
def program(tmp_path: Path) -> Wheel:
    """A wheel with a program that tells which code it finds."""
    path = tmp_path / "teller-1.0-py3-none-any.whl"
    about = "teller-1.0.dist-info"
    files = {
        "teller.py": "import sys\n\n\ndef main():\n    print(sys.prefix, sys.argv[0])\n",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: teller\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": "[console_scripts]\nteller = teller:main\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
        archive.writestr(f"{about}/RECORD", "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"]))
    return Wheel(path, hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_change_of_code_alone_makes_no_environment_anew(
    root: Path, program: Wheel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packages, archive = Packages(tmp_path / "links"), tmp_path / "package.tar"
    requirements = f"teller==1.0 --hash=sha256:{program.sha256}\n"

    def install() -> str:
        source = made(root)
        source.write(archive, requirements, [program], set(packages.wheels_here()))
        packages.install(archive, source.key(), sys.executable)
        return source.key()

    first = install()
    (root / "app/main.py").write_text("app = 1\n")
    monkeypatch.setattr(Packages, "_make_environment", lambda *_: pytest.fail("made anew"))
    second = install()
    packages.remove([first])
    venv = packages.path(second) / "venv"
    ran = subprocess.run([venv / "bin/teller"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"{venv} {venv / 'bin/teller'}\n"
    assert (packages.path(second) / "srv/app/main.py").read_text() == "app = 1\n"
    assert str(packages.path(first)) not in (venv / "pyvenv.cfg").read_text()


def test_another_python_gets_an_environment_of_its_own(root: Path, program: Wheel, tmp_path: Path) -> None:
    """Of the same minor version, too: a newer one is named for what it mends."""
    packages, archive = Packages(tmp_path / "links"), tmp_path / "package.tar"
    newer = tmp_path / "3.13.5/bin/python3"
    newer.parent.mkdir(parents=True)
    newer.symlink_to(Path(sys.executable).resolve())
    homes = []
    for key, python in (("a" * 64, sys.executable), ("b" * 64, str(newer))):
        made(root).write(archive, f"teller==1.0 --hash=sha256:{program.sha256}\n", [program], set())
        packages.install(archive, key, python)
        assert packages.has(key, target_of(python))
        homes.append((packages.path(key) / "venv/bin/python3").readlink())
    assert homes[0] != homes[1] == newer


def test_a_python_is_filled_by_the_pip_of_its_own_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of the distribution is of another one, and fails under a newer Python; Debian's own has no other."""
    python, bundled, wheels = tmp_path / "package/venv/bin/python", tmp_path / "bundled", tmp_path / "wheels"
    for directory in (python.parent, bundled, wheels):
        directory.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho {bundled}\n")
    python.chmod(0o755)
    monkeypatch.setattr(package_module, "_PIP_WHEELS", wheels)
    with pytest.raises(PackageError, match="no wheel of pip is on this host"):
        package_module._pip(tmp_path / "package")
    (wheels / "pip-23.0-py3-none-any.whl").touch()
    assert package_module._pip(tmp_path / "package") == wheels / "pip-23.0-py3-none-any.whl"
    (bundled / "pip-25.3-py3-none-any.whl").touch()
    assert package_module._pip(tmp_path / "package") == bundled / "pip-25.3-py3-none-any.whl"


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd"])
def test_an_archive_writes_nowhere_else(name: str, tmp_path: Path) -> None:
    archive = tmp_path / "package.tar"
    with tarfile.open(archive, "w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(PackageError, match="no plain file"):
        Packages(tmp_path / "links").install(archive, "a" * 64, sys.executable)


def test_a_wheel_that_was_changed_on_its_way_is_refused(root: Path, wheel: Wheel, tmp_path: Path) -> None:
    archive = tmp_path / "package.tar"
    made(root).write(archive, "", [Wheel(wheel.path, "0" * 64)], set())
    with pytest.raises(PackageError, match="did not arrive as it was sent"):
        Packages(tmp_path / "links").install(archive, "a" * 64, sys.executable)
