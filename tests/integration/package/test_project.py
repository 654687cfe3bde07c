"""The project itself: when it is installed, what of it is code, and how it comes to a host as a wheel."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import (
    PackageError,
    Packages,
    Target,
    target_of,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.project import Project
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.put import PackageWay
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.request import PackageRequest
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.source import PackageSource, project_directory

LOCK = f"anyio==4.0 --hash=sha256:{'0' * 64}\n"
BUILD = '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
NAMED = '[project]\nname = "my-shop"\nversion = "1.0"\n'


@pytest.mark.parametrize(
    ("text", "installed"),
    [
        ("", False),
        (NAMED, False),
        (NAMED + BUILD, True),
        (NAMED + BUILD + "[tool.uv]\npackage = false\n", False),
        (NAMED + "[tool.uv]\npackage = true\n", True),
        (BUILD + '[tool.poetry]\nname = "board"\n', True),
        (BUILD + '[tool.poetry]\nname = "board"\npackage-mode = false\n', False),
    ],
)
def test_a_project_is_installed_as_its_own_tools_would(tmp_path: Path, text: str, installed: bool) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert Project(tmp_path).installed is installed
    assert Project(tmp_path, "left_out").installed is False
    if text:
        assert Project(tmp_path, "installed").installed is True


@pytest.mark.parametrize(
    ("text", "install", "message"),
    [
        (None, "installed", r"there is no .*pyproject.toml to install it by"),
        (NAMED, "perhaps", "fastapi_package_project is 'perhaps'; it is one of found, installed, left_out"),
        ("[project\n", "found", "pyproject.toml cannot be read"),
    ],
)
def test_what_cannot_be_installed_is_named(tmp_path: Path, text: str | None, install: str, message: str) -> None:
    if text is not None:
        (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(PackageError, match=message):
        Project(tmp_path, install)


def written(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_code_is_found_by_its_usual_names(tmp_path: Path) -> None:
    names = (
        "my_shop/main.py",
        "main.py",
        "conftest.py",
        "alembic.ini",
        "alembic/env.py",
        "tests/test_it.py",
        "vault.yml",
    )
    root = written(tmp_path, {"pyproject.toml": NAMED + BUILD, "README.md": "", **dict.fromkeys(names, "")})
    assert Project(root).code() == ["alembic", "alembic.ini", "my_shop", "main.py"]
    assert Project(root).build_files() == ["pyproject.toml", "README.md"]
    assert Project(root, "left_out").build_files() == []


def test_a_directory_without_code_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match="fastapi_package_files"):
        Project(tmp_path).code()


def test_the_key_follows_what_a_build_reads_and_nothing_else(tmp_path: Path) -> None:
    root = written(tmp_path, {"pyproject.toml": NAMED + BUILD, "src/shop/__init__.py": "", "requirements.txt": LOCK})
    keys = {PackageSource(root).key(), PackageSource(root, project="left_out").key()}
    written(root, {"hosts.yml": "", "tests/test_it.py": "", ".env": "SECRET=1"})
    assert PackageSource(root).key() in keys
    written(root, {"README.md": "read by the build"})
    keys.add(PackageSource(root).key())
    written(root, {"src/shop/words.txt": "data"})
    keys.add(PackageSource(root).key())
    assert len(keys) == 4


@pytest.mark.parametrize(("wanted", "fits"), [(">=3.11", True), (">=3.13,<3.14", True), (">=3.14", False), ("", True)])
def test_a_python_that_the_project_does_not_take_is_refused(tmp_path: Path, wanted: str, fits: bool) -> None:
    text = NAMED + (f'requires-python = "{wanted}"\n' if wanted else "")
    root = written(tmp_path, {"pyproject.toml": text, "requirements.txt": LOCK, "main.py": ""})
    target = Target("3.13.5", "x86_64", "2.41")
    if fits:
        PackageSource(root).refuse(target, "/usr/bin/python3")
        return
    with pytest.raises(PackageError, match=r"asks for Python >=3.14, and /usr/bin/python3 of the hosts is 3.13.5"):
        PackageSource(root).refuse(target, "/usr/bin/python3")


class Here:
    """A host that is this machine."""

    name = "here"

    def __init__(self, packages: Packages) -> None:
        self.packages = packages
        self.sent: list[int] = []

    def call(self, operation: str, **options: Any) -> dict[str, Any]:
        assert operation == "find"
        target = target_of(sys.executable)
        present = self.packages.has(options["content"], target)
        return {"present": present, "target": target.as_dict(), "wheels": self.packages.wheels_here()}

    def call_with(self, archive: Path, operation: str, **options: Any) -> dict[str, Any]:
        assert operation == "install"
        self.sent.append(archive.stat().st_size)
        self.packages.install(archive, options["content"], sys.executable)
        return {"changed": True}

    def put(self, file: Path, remote: str) -> None: ...

    def fetch(self, remote: str, local: Path) -> None: ...


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A project with a src layout, a command, and data in its package, which asks for the version of another one."""
    return written(
        tmp_path / "shop",
        {
            "pyproject.toml": NAMED
            + 'readme = "README.md"\n[project.scripts]\nmy-shop = "my_shop.main:run"\n'
            + '[tool.setuptools.package-data]\nmy_shop = ["*.txt"]\n'
            + BUILD,
            "README.md": "# Shop\n",
            "requirements.txt": "iniconfig==2.0.0 "
            "--hash=sha256:b6a85871a79d2e3b22d2d1b94ac2824226a63c6b741c88f7ae975f18b6778374\n",
            "src/my_shop/__init__.py": "",
            "src/my_shop/words.txt": "first\n",
            "src/my_shop/main.py": (
                "import importlib.resources as there\nimport iniconfig\n\n\n"
                "def run():\n    print(there.files('my_shop').joinpath('words.txt').read_text(), end='')\n"
            ),
        },
    )


def test_a_project_with_a_source_layout_is_installed_with_its_command_and_data(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the index that pip is configured for, which has its build backend and the one package that it locks."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    packages = Packages(tmp_path / "opt")
    host = Here(packages)

    def told(place: Path) -> str:
        return subprocess.run([place / "venv/bin/my-shop"], capture_output=True, text=True, check=True, cwd="/").stdout

    def deployed() -> str:
        way = PackageWay(PackageRequest(app="shop", root=tmp_path / "opt", source=shop))
        seen = way.look(host)
        way.prepare({"here": seen})
        assert way.put(host, seen).changed is not seen["present"]
        assert not (packages.path(way.key) / "project").exists()
        return told(packages.path(way.key))

    assert deployed() == "first\n"
    assert deployed() == "first\n"
    assert len(host.sent) == 1
    (shop / "src/my_shop/words.txt").write_text("second\n")
    monkeypatch.setattr(Packages, "_make_environment", lambda *_: pytest.fail("made anew"))
    assert deployed() == "second\n"
    said = {told(path.parent) for path in packages.packages.glob("*/package.json")}
    assert said == {"first\n", "second\n"}, "the release before has what it had"


def test_a_build_that_fails_says_what_it_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = written(tmp_path / "it", {"pyproject.toml": NAMED + OWN_BUILD, "requirements.txt": LOCK, "app/main.py": ""})
    written(root, {"tools/builder.py": ""})
    with pytest.raises(PackageError, match=r"(?s)could not be built: .*fastapi_package_files.*left_out"):
        PackageSource(root).wheel(None, None)
    assert not list((tmp_path / "cache").rglob("project-*")), "a part of it is not taken for the whole"


# A build backend of a project's own.
BACKEND = """
import pathlib, zipfile


def build_wheel(directory, config_settings=None, metadata_directory=None):
    about = "my_shop-1.0.dist-info/"
    with zipfile.ZipFile(pathlib.Path(directory) / "my_shop-1.0-py3-none-any.whl", "w") as wheel:
        said = "Metadata-Version: 2.1\\nName: my-shop\\nVersion: 1.0\\nRequires-Python: >=3.99\\n"
        wheel.writestr(about + "METADATA", said)
        wheel.writestr(about + "WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(about + "RECORD", "")
    return "my_shop-1.0-py3-none-any.whl"
"""
OWN_BUILD = '[build-system]\nrequires = []\nbuild-backend = "builder"\nbackend-path = ["tools"]\n'


def own_build(root: Path) -> Path:
    """A project that is built without an index."""
    text = NAMED + 'requires-python = ">=3.99"\n' + OWN_BUILD
    return written(
        root, {"pyproject.toml": text, "requirements.txt": LOCK, "tools/builder.py": BACKEND, "app/main.py": ""}
    )


def test_a_project_for_a_newer_python_than_the_controllers_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    wheel = PackageSource(own_build(tmp_path / "it"), ["tools", "app"]).wheel(None, None)
    assert wheel
    assert wheel.path.name == "my_shop-1.0-py3-none-any.whl"


def test_a_wheel_of_code_that_changed_meanwhile_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    root = own_build(tmp_path / "it")
    written(root, {"tools/builder.py": f"open({str(root / 'app/main.py')!r}, 'a').write('# more')\n{BACKEND}"})
    with pytest.raises(PackageError, match="was changed while it was deployed"):
        PackageSource(root, ["tools", "app"]).wheel(None, None)
    assert not list((tmp_path / "cache").rglob("*.whl"))


def test_a_bundle_has_the_wheel_of_the_same_source(tmp_path: Path) -> None:
    root = written(tmp_path / "it", {"pyproject.toml": NAMED + BUILD, "requirements.txt": LOCK, "app/main.py": ""})
    wheels = tmp_path / "bundle"
    wheel = wheels / project_directory(PackageSource(root).key()) / "my_shop-1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    wheel.write_bytes(b"wheel")
    found = PackageSource(root).wheel(None, None, wheels)
    assert found
    assert found.path == wheel
    written(root, {"app/main.py": "changed"})
    with pytest.raises(PackageError, match="make it again with this source"):
        PackageSource(root).wheel(None, None, wheels)
