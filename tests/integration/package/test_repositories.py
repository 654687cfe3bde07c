"""A private package of a lock, from a real Git server over SSH, by a real agent that has the key."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import PackageError, Packages, Target
from ansible_collections.slipway.fleet.plugins.plugin_utils.package import repositories
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.lock import parse_lock
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.source import PackageSource, fetch

from lab.ports import free_port
from tests.app.conftest import until

TARGET = Target("3.11.2", "x86_64", "2.36")
# It builds itself, so that no index is asked for what builds it.
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""
BACKEND = """
import zipfile
def build_wheel(directory, *_):
    name, info = "private_part-1.2-py3-none-any.whl", "private_part-1.2.dist-info"
    with zipfile.ZipFile(f"{directory}/{name}", "w") as wheel:
        wheel.write("private_part.py")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: private-part\\nVersion: 1.2\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""
COMMIT = "0" * 40


@dataclass
class Server:
    """A Git server with one repository, and what a client needs to reach it."""

    directory: Path
    port: int
    user: str
    agent: str = ""

    @property
    def repository(self) -> Path:
        return self.directory / "part"

    @property
    def url(self) -> str:
        commit = git(self.repository, "rev-parse", "HEAD")
        return f"git+ssh://{self.user}@127.0.0.1:{self.port}{self.repository}@{commit}"


def git(where: Path, *words: str) -> str:
    who = ("-c", "user.name=Tests", "-c", "user.email=tests@example.org")
    ran = subprocess.run(["git", "-C", str(where), *who, *words], capture_output=True, text=True, check=True)
    return ran.stdout.strip()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    directory = Path(tempfile.mkdtemp(prefix="git"))
    for name in ("host", "key"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)]
        subprocess.run(words, check=True)
    shutil.copy(directory / "key.pub", directory / "authorized")
    port = free_port()
    (directory / "sshd.conf").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {directory}/host\nAuthorizedKeysFile {directory}/authorized\n"
        f"PidFile none\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nUsePAM no\n"
        "PermitRootLogin prohibit-password\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    sshd = shutil.which("sshd", path="/usr/sbin:/usr/bin")
    assert sshd
    user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
    made = Server(directory, port, user)
    made.repository.mkdir()
    git(made.repository, "init", "-q")
    (made.repository / "pyproject.toml").write_text(PYPROJECT)
    (made.repository / "backend.py").write_text(BACKEND)
    (made.repository / "private_part.py").write_text("VALUE = 1\n")
    git(made.repository, "add", "--all")
    git(made.repository, "commit", "-q", "-m", "first")
    host = " ".join((directory / "host.pub").read_text().split()[:2])
    (directory / "known").write_text(f"[127.0.0.1]:{port} {host}\n")
    daemon = subprocess.Popen([sshd, "-D", "-E", str(directory / "log"), "-f", str(directory / "sshd.conf")])
    said = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    made.agent, agent = re.findall(r"(?:SSH_AUTH_SOCK|SSH_AGENT_PID)=([^;]+)", said)
    until(lambda: "listening" in _text(directory / "log"), "the server listens")
    yield made
    daemon.terminate()
    daemon.wait()
    subprocess.run(["kill", agent], check=True)


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


@pytest.fixture(autouse=True)
def client(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ssh reads of the user's own is that of the tests; the key is in the agent alone."""
    words = f"ssh -F none -o BatchMode=yes -o IdentityFile=none -o UserKnownHostsFile={server.directory}/known"
    monkeypatch.setenv("GIT_SSH_COMMAND", words)
    monkeypatch.setenv("SSH_AUTH_SOCK", server.agent)


def asked_of(server: Server, words: str) -> None:
    subprocess.run(["ssh-add", "-q", words], env=os.environ | {"SSH_AUTH_SOCK": server.agent}, check=True)


def source(server: Server, tmp_path: Path) -> PackageSource:
    (tmp_path / "app.lock").write_text(f"private-part @ {server.url} ; python_version >= '3.9'\n")
    (tmp_path / "main.py").write_text("import private_part\n")
    return PackageSource(tmp_path, ["main.py"], "app.lock")


def test_what_a_private_repository_has_comes_to_hosts_as_a_wheel(server: Server, tmp_path: Path) -> None:
    asked_of(server, str(server.directory / "key"))
    made, cache = source(server, tmp_path), tmp_path / "cache"
    cache.mkdir()
    lines = made.requirements(TARGET)
    (wheel,) = fetch(lines, TARGET, cache, None, None)
    assert wheel.path.name == "private_part-1.2-py3-none-any.whl"
    archive, host = tmp_path / "package.tar", tmp_path / "host"
    key = made.write(archive, lines, [wheel], set())
    host.mkdir()
    packages = Packages(host)
    packages.install(archive, key, shutil.which("python3") or "")
    ran = subprocess.run(
        [packages.path(key) / "venv/bin/python", "-c", "import private_part; print(private_part.VALUE)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "1\n"
    listed = (packages.path(key) / "requirements.txt").read_text()
    assert listed == f"private-part==1.2 --hash=sha256:{wheel.sha256}\n", "hosts know no repository"


def test_a_key_that_the_agent_has_not_is_told_with_what_to_do(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_of(server, "-D")
    lines = source(server, tmp_path).requirements(TARGET)
    (tmp_path / "cache").mkdir()

    def refused() -> str:
        with pytest.raises(PackageError) as error:
            fetch(lines, TARGET, tmp_path / "cache", None, None)
        return str(error.value)

    assert "private-part of the lock could not be built from git+ssh://" in refused()
    assert "the controller's SSH agent has no key for it; add one (`ssh-add`" in refused()
    monkeypatch.delenv("SSH_AUTH_SOCK")
    (server.directory / "nobody").touch()
    monkeypatch.setenv(
        "GIT_SSH_COMMAND", f"{repositories._BATCH} -F none -o UserKnownHostsFile={server.directory}/nobody"
    )
    assert "put it into ~/.ssh/known_hosts" in refused()


def test_a_token_in_an_address_is_not_told(tmp_path: Path) -> None:
    url = f"git+https://token-of-ada@127.0.0.1:1/part@{COMMIT}"
    with pytest.raises(PackageError, match="could not be built from git.https://127.0.0.1:1/part@0000") as error:
        repositories.build([sys.executable, "-m", "pip"], "part", url, tmp_path, None, None)
    assert "token-of-ada" not in str(error.value)


@pytest.mark.parametrize(
    ("url", "pinned"),
    [
        (f"git+ssh://git@example.org/team/part.git@{COMMIT}", True),
        (f"git+ssh://git@example.org:2222/team/part@{COMMIT}#subdirectory=python", True),
        (f"git+https://example.org/part@{COMMIT}", True),
        ("git+ssh://git@example.org/part@main", False),
        ("git+ssh://git@example.org/part@v1.2", False),
        (f"git+http://example.org/part@{COMMIT}", False),
        (f"git+ssh://git@example.org/part@{COMMIT[1:]}", False),
        ("https://example.org/part-1.2.tar.gz", False),
    ],
)
def test_a_commit_by_its_whole_name_alone_stands_for_a_hash(url: str, pinned: bool) -> None:
    line = f"private-part[more] @ {url}"
    assert repositories.names_commit(url) == pinned
    if pinned:
        (pin,) = parse_lock(line, Path("app.lock"))
        assert (pin.requirement.url, pin.hashes) == (url, ())
        assert repositories.split(f"{line}\nanyio==1 --hash=x\n") == ("anyio==1 --hash=x\n", [("private-part", url)])
    else:
        with pytest.raises(PackageError, match="name the whole commit of a Git repository"):
            parse_lock(line, Path("app.lock"))


def test_of_a_bundle_the_one_wheel_is_taken(tmp_path: Path) -> None:
    bundle, into = tmp_path / "bundle", tmp_path / "into"
    bundle.mkdir()
    into.mkdir()
    lines = f"private-part @ git+ssh://git@example.org/part@{COMMIT}\n"
    with pytest.raises(PackageError, match="has no wheels of private-part"):
        repositories.take("private-part", bundle, into)
    (bundle / "private_part-1.2-py3-none-any.whl").write_bytes(b"wheel")
    (bundle / "anyio-1-py3-none-any.whl").write_bytes(b"other")
    (tmp_path / "cache").mkdir()
    (wheel,) = fetch(lines, TARGET, tmp_path / "cache", bundle, None, offline=True)
    assert wheel.path.read_bytes() == b"wheel"
