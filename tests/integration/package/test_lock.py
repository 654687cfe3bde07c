"""Locks as projects have them, exported by the tool that wrote them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import PackageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.lock import Lock

HASH = "sha256:" + "0" * 64
PIN = f"anyio==4.0 --hash={HASH}\n"
# As Poetry 2.5 exports a lock.
EXPORTED = f"""\
--trusted-host index.example.org

annotated-types==0.8.0 ; python_version >= "3.11" and python_version < "4.0" \\
    --hash={HASH} \\
    --hash=sha256:{"1" * 64}
uvicorn[standard]==0.35.0 ; python_version >= "3.11" and sys_platform != "win32" \\
    --hash={HASH}
"""
OLD_POETRY = (
    "pyproject.toml changed significantly since poetry.lock was last generated. Run `poetry lock` to fix the lock file."
)


def uv_lock(root: Path) -> None:
    """Have uv lock a project, from the index that pip is configured for."""
    python = Path(sys.executable)
    asked = subprocess.run([python, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    found = re.search(r"^(?:global|:env:)\.index.url='(.*)'$", asked.stdout, re.MULTILINE)
    index = found[1] if found else ""
    environment = os.environ | {"UV_PYTHON": str(python)} | ({"UV_DEFAULT_INDEX": index} if index else {})
    subprocess.run([python.with_name("uv"), "lock", "--quiet"], cwd=root, check=True, env=environment)


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    """A project that uv has locked."""
    root = tmp_path / "project"
    root.mkdir()
    (root / "pyproject.toml").write_text(
        '[project]\nname = "shop"\nversion = "1.0"\nrequires-python = ">=3.11"\ndependencies = ["iniconfig"]\n'
        '[project.optional-dependencies]\nserver = ["idna"]\n[dependency-groups]\ndev = ["idna"]\ndocs = ["idna"]\n'
        '[tool.uv]\ndefault-groups = ["dev", "docs"]\n'
    )
    uv_lock(root)
    return root


def names(lock: Lock) -> list[str]:
    return [pin.requirement.name for pin in lock.pins]


def test_the_lock_of_uv_is_exported_without_what_is_for_development(locked: Path) -> None:
    lock = Lock(locked)
    (pin,) = lock.pins
    assert (pin.requirement.name, len(str(pin.requirement.specifier)) > 2) == ("iniconfig", True)
    assert pin.hashes
    assert all(digest.partition(":")[2] in (locked / "uv.lock").read_text() for digest in pin.hashes)
    assert names(Lock(locked, "uv.lock", ["server"])) == ["idna", "iniconfig"]
    assert lock.parts() == [locked / "uv.lock", locked / "pyproject.toml"]
    assert {path.name for path in locked.iterdir()} == {"pyproject.toml", "uv.lock"}, "nothing is left behind"


def test_a_lock_that_is_older_than_its_project_is_refused(locked: Path) -> None:
    pyproject = locked / "pyproject.toml"
    pyproject.write_text(pyproject.read_text().replace('["iniconfig"]', '["iniconfig", "idna"]'))
    before = (locked / "uv.lock").read_bytes()
    with pytest.raises(PackageError, match=r"uv.lock is older than pyproject.toml .* renew it \(`uv lock`\)"):
        _ = Lock(locked).pins
    assert (locked / "uv.lock").read_bytes() == before
    uv_lock(locked)
    assert names(Lock(locked)) == ["idna", "iniconfig"], "what the message says to do"


def test_a_tool_that_the_controller_has_not_is_named(locked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(locked / "python"))
    monkeypatch.setenv("PATH", str(locked))
    with pytest.raises(PackageError, match=r"is read by uv, which the controller has not; .*`pip install uv`"):
        _ = Lock(locked).pins
    (locked / "poetry.lock").touch()
    with pytest.raises(PackageError, match=r"pipx inject poetry poetry-plugin-export"):
        _ = Lock(locked, "poetry.lock").pins


def test_no_python_is_fetched_to_read_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """uv says which one it would like, where nothing answers that could give it one."""
    monkeypatch.setenv("UV_PYTHON_INSTALL_MIRROR", f"file://{tmp_path}/mirror")
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "shop"\nversion = "1.0"\nrequires-python = ">=3.99"\n')
    (tmp_path / "uv.lock").write_text(
        'version = 1\nrevision = 3\nrequires-python = ">=3.99"\n\n'
        '[[package]]\nname = "shop"\nversion = "1.0"\nsource = { virtual = "." }\n'
    )
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setenv("UV_PYTHON_INSTALL_DIR", str(tmp_path / "pythons"))
    with pytest.raises(
        PackageError, match=r"uv.lock is read by uv .*controller has not; .*`uv python install '>=3.99'`"
    ):
        _ = Lock(tmp_path).pins
    assert not (tmp_path / "pythons").exists()


@pytest.fixture
def poetry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of Poetry, and a program in its place that says what Poetry 2.5 said of one."""
    root = tmp_path / "project"
    (tmp_path / "bin").mkdir()
    root.mkdir()
    (root / "pyproject.toml").write_text('[tool.poetry]\nname = "board"\n')
    (root / "poetry.lock").touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin/python"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return root


def says(poetry: Path, text: str, code: int = 0) -> None:
    (poetry.parent / "said").write_text(text)
    program = poetry.parent / "bin/poetry"
    out = 2 if code else 1
    program.write_text(f'#!/bin/sh\necho "$@" >{poetry.parent}/words\ncat {poetry.parent}/said >&{out}\nexit {code}\n')
    program.chmod(0o755)


def test_the_lock_of_poetry_is_exported(poetry: Path) -> None:
    says(poetry, EXPORTED)
    lock = Lock(poetry, extras=["server"])
    assert names(lock) == ["annotated-types", "uvicorn"]
    assert lock.pins[0].hashes == (HASH, "sha256:" + "1" * 64)
    assert (poetry.parent / "words").read_text() == (
        "export --no-interaction --format requirements.txt --only main --extras server\n"
    )


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (OLD_POETRY, r"poetry.lock is older than pyproject.toml .*`poetry lock`"),
        (
            "The requested command export does not exist.",
            r"poetry-plugin-export, which the controller's Poetry has not",
        ),
        ("Something else\nwent wrong", r"poetry could not export .*/poetry.lock: Something else went wrong"),
    ],
)
def test_what_poetry_refuses_is_told_with_the_mend(poetry: Path, said: str, message: str) -> None:
    says(poetry, said, 1)
    with pytest.raises(PackageError, match=message):
        _ = Lock(poetry).pins


@pytest.mark.parametrize(
    "said",
    [
        "Warning: poetry.lock is not consistent with pyproject.toml. You may be getting\nimproper dependencies.",
        "Warning: The lock file is not up to date with the latest changes in pyproject.toml.",
        "",
    ],
)
def test_an_old_lock_is_refused_where_poetry_only_warns(poetry: Path, said: str) -> None:
    says(poetry, EXPORTED)
    program = poetry.parent / "bin/poetry"
    program.write_text(program.read_text().replace("exit 0", f"cat >&2 <<'END'\n{said}\nEND\n"))
    if not said:
        assert names(Lock(poetry)) == ["annotated-types", "uvicorn"]
        return
    with pytest.raises(PackageError, match=r"poetry.lock is older than pyproject.toml .*`poetry lock`"):
        _ = Lock(poetry).pins


def test_the_first_of_several_locks_is_taken_and_that_is_told(poetry: Path) -> None:
    (poetry / "requirements.txt").write_text(PIN)
    lock = Lock(poetry)
    assert lock.name == "poetry.lock"
    assert "has poetry.lock, requirements.txt: poetry.lock is taken; fastapi_package_lock names it" in lock.note
    assert Lock(poetry, "requirements.txt").note == ""
    assert names(Lock(poetry, "requirements.txt")) == ["anyio"]


def test_a_directory_without_a_lock_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"there is no lock in .*uv.lock, poetry.lock.*fastapi_package_lock"):
        Lock(tmp_path)


def test_a_lock_of_another_project_is_refused(locked: Path) -> None:
    with pytest.raises(PackageError, match=r"name that directory with fastapi_package_source"):
        Lock(locked.parent, "project/uv.lock")


def test_extras_are_chosen_where_a_lock_is_written(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(PIN)
    with pytest.raises(PackageError, match="fastapi_package_extras"):
        Lock(tmp_path, "", ["server"])


def test_requirements_that_include_others_are_one_lock(tmp_path: Path) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/base.txt").write_text(f"# the rest\nhttpx==0.28 --hash={HASH}\n")
    (tmp_path / "requirements.txt").write_text(f"-i https://index.example.org/simple\n-r requirements/base.txt\n{PIN}")
    lock = Lock(tmp_path)
    assert names(lock) == ["anyio", "httpx"]
    assert lock.parts() == [tmp_path / "requirements.txt", tmp_path / "requirements/base.txt"]
    (tmp_path / "requirements/base.txt").write_text("-r ../requirements.txt\n")
    with pytest.raises(PackageError, match="which includes it"):
        _ = lock.parts()
    (tmp_path / "requirements/base.txt").unlink()
    with pytest.raises(PackageError, match="there is no .*base.txt"):
        _ = lock.parts()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("fastapi>=0.100", "fastapi has no exact version with a sha256 hash"),
        ("mine @ git+https://git.example.org/mine@abc", "mine comes from git.https://git.example.org/mine@abc"),
        ("-r", "is no requirement"),
        ("./libs/mine", "./libs/mine is a directory .*fastapi_package_wheels .*fastapi_package_files"),
        ("-e ../mine", " ../mine is a directory"),
        ("--editable=/libs/mine", " /libs/mine is a directory"),
        ("-e .", r" \. is a directory"),
        ("-e file:///libs/mine", "file:///libs/mine is a directory"),
    ],
)
def test_what_no_host_could_check_is_refused(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "requirements.txt").write_text(PIN + line + "\n")
    with pytest.raises(PackageError, match=message):
        _ = Lock(tmp_path).pins
