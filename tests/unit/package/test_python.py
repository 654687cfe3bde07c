"""A Python of uv's on its way to a host. What stands in for uv lays a Python down as uv does, and says its words."""

from __future__ import annotations

import json
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.package import operations, packages
from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import PackageError, interpreter
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.python import bring

DESCRIBED = {"version": "3.13.5", "implementation": "CPython", "machine": "x86_64", "glibc": "2.36", "complete": True}
UNREACHED = "error: Failed to download cpython-3.13\n  Caused by: failed to lookup address information"


class Host:
    """A host of which the operations are done here."""

    name = "web1"

    def __init__(self) -> None:
        self.sent: list[str] = []

    def call(self, operation: str, **options: Any) -> dict[str, Any]:
        return {**operations.perform(operation, options), "machine": "x86_64"}

    def call_with(self, archive: Path, operation: str, **options: Any) -> dict[str, Any]:
        with tarfile.open(archive) as tar:
            assert all((item.uname, item.uid) == ("root", 0) for item in tar)
            self.sent += tar.getnames()
        return operations.perform(operation, {**options, "archive": str(archive)})

    def put(self, file: Path, remote: str) -> None: ...

    def fetch(self, remote: str, local: Path) -> None: ...


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This machine as controller, with something in place of uv, and as host."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(packages, "PYTHONS", tmp_path / "pythons")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin/python"))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    (tmp_path / "bin").mkdir()
    return tmp_path


def uv(here: Path, version: str = "3.13.5", refuses: str = "") -> None:
    python = f"#!/bin/sh\necho '{json.dumps({**DESCRIBED, 'version': version})}'\n"
    (here / "python3").write_text(python)
    lays = f"""\
#!/bin/sh
echo "$@" >>{here}/words
[ -z "{refuses}" ] || {{ echo "{refuses}" >&2; exit 1; }}
place="$5/cpython-{version}-linux-x86_64-gnu"
mkdir -p "$place/bin" "$place/lib"
cp {here}/python3 "$place/bin/python3.13"
chmod 755 "$place/bin/python3.13"
ln -s python3.13 "$place/bin/python3"
touch "$place/lib/x.pyc"
ln -s "$place" "$5/cpython-3.13-linux-x86_64-gnu"
"""
    (here / "bin/uv").write_text(lays)
    (here / "bin/uv").chmod(0o755)


def test_a_python_is_fetched_once_and_brought_where_it_is_missing(here: Path) -> None:
    uv(here)
    host = Host()
    assert bring(host, "3.13", bundled=False, check_mode=True)
    assert not (here / "words").exists(), "a dry run fetches nothing"
    assert bring(host, "3.13", bundled=False, check_mode=False)
    assert packages.target_of("3.13").version == "3.13.5"
    assert "./bin/python3" in host.sent
    assert not [name for name in host.sent if name.endswith(".pyc")]
    assert not bring(host, "3.13", bundled=False, check_mode=False), "it is there"
    (here / "pythons/3.13").rename(here / "gone")
    assert bring(host, "3.13", bundled=False, check_mode=False)
    words = (here / "words").read_text().splitlines()
    cache = here / "cache/slipway/pythons"
    assert words == [f"python install --no-bin --install-dir {cache} cpython-3.13-linux-x86_64-gnu"]


def test_a_path_is_a_python_that_the_host_has(here: Path) -> None:
    assert not bring(Host(), "/usr/bin/python3", bundled=False, check_mode=False)
    assert interpreter("/usr/bin/python3") == "/usr/bin/python3"
    assert interpreter("3.13") == str(here / "pythons/3.13/bin/python3")


def test_one_that_does_not_run_on_the_host_is_not_kept(here: Path) -> None:
    uv(here, version="3.10.1")
    (here / "bin/uv").write_text((here / "bin/uv").read_text().replace("cpython-3.10.1", "cpython-3.13.1"))
    with pytest.raises(PackageError, match=r"3.10.1, and CPython 3.11 is the oldest"):
        bring(Host(), "3.13", bundled=False, check_mode=False)
    assert list((here / "pythons").iterdir()) == []


def test_what_cannot_be_brought_is_named(here: Path) -> None:
    with pytest.raises(
        PackageError, match=r"there is no .*/pythons/3.13/bin/python3 on this host; run slipway\.fleet\."
    ):
        packages.target_of("3.13")
    with pytest.raises(PackageError, match="fetched by uv, which the controller has not.*pip install uv"):
        bring(Host(), "3.13", bundled=False, check_mode=False)
    with pytest.raises(PackageError, match="a bundle has none"):
        bring(Host(), "3.13", bundled=True, check_mode=False)
    with pytest.raises(PackageError, match="fastapi_package_python is 'newest'"):
        bring(Host(), "newest", bundled=False, check_mode=False)
    uv(here, refuses=UNREACHED)
    with pytest.raises(PackageError, match="failed to lookup address information; .*UV_PYTHON_INSTALL_MIRROR"):
        bring(Host(), "3.13", bundled=False, check_mode=False)
