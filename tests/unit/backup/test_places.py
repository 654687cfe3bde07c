"""Sets in repositories elsewhere, with a real restic: on a host that sshd lets into, and on a server of S3's kind."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.request import Request, urlopen

import boto3
import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup import program, restic
from ansible_collections.slipway.fleet.plugins.module_utils.backup.drill import drill
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import (
    EMPTY,
    HOST_KEY,
    LOGIN,
    NO_REPOSITORY,
    UNREACHABLE,
    WRONG_KEY,
    BackupError,
    Settings,
)
from ansible_collections.slipway.fleet.plugins.module_utils.backup.postgres import Server
from ansible_collections.slipway.fleet.plugins.module_utils.backup.restic import Restic
from ansible_collections.slipway.fleet.plugins.module_utils.backup.restoring import Restore
from ansible_collections.slipway.fleet.plugins.module_utils.backup.saving import MIGRATION, Host, save
from moto import settings as moto
from moto.core import responses
from moto.server import ThreadedMotoServer

from tests.unit.backup.quick_key import make_quick, quick

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin") or "sshd"
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
PASSWORD = "for-tests-only"
KEEP = {"daily": 1, "weekly": 0, "monthly": 0}


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What restic remembers of a repository is not kept beyond a test."""
    known = restic.environment

    def own(settings: Settings) -> dict[str, str]:
        return {**known(settings), "RESTIC_CACHE_DIR": str(tmp_path / "cache"), "HOME": str(tmp_path)}

    monkeypatch.setattr(restic, "environment", own)


def once_made(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Act after a repository is made, as `_quick_repositories` does where it is a directory."""
    make = Restic.make

    def made(self: Restic) -> None:
        make(self)
        act()

    monkeypatch.setattr(Restic, "make", made)


def host_of(tmp_path: Path, repository: str, **files: str) -> Host:
    """A host that is set up for that repository, with a directory to save."""
    uploads, own = tmp_path / "uploads", tmp_path / "etc"
    for directory in (uploads, own, tmp_path / "state"):
        directory.mkdir(exist_ok=True)
    (uploads / "a").write_text("first")
    for name, text in {"password": PASSWORD, **files}.items():
        (own / name).write_text(text)
        (own / name).chmod(0o600)
    settings = Settings(
        repository,
        "h",
        directories=(str(uploads),),
        keep=KEEP,
        files=own,
        place=tmp_path / "state",
        apps=tmp_path / "apps",
    )
    return Host(settings, Restic(settings))


def assert_kept(host: Host) -> None:
    """A set is written, proven, read back, and goes with its data when another one has its place."""
    first = save(host, MIGRATION)  # which tends to nothing else
    proof = drill(host)
    assert (proof["set"], proof["files"]) == (first["set"], 1)
    Path(host.settings.directories[0], "a").write_text("second")
    second = save(host, MIGRATION)
    assert [found.short for found in host.restic.sets()] == [first["set"], second["set"]]
    # All of the last two days stay, so that of now is taken away as retention does it, by its name.
    gone = [found.id for found in host.restic.sets()[:1]]
    host.restic.stale = lambda: gone  # type: ignore[method-assign]
    assert host.restic.tidy() == gone
    host.restic.check(1, 1)
    assert [found.short for found in host.restic.sets()] == [second["set"]]


def test_another_host_of_a_repository_is_restored_on_one_of_another_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host is lost, and the one in its place has another name in the inventory."""
    lost = host_of(tmp_path, str(tmp_path / "sets"))
    first = save(lost, MIGRATION)
    shutil.rmtree(tmp_path / "uploads")
    shutil.rmtree(tmp_path / "state")
    (tmp_path / "state").mkdir()
    found = replace(lost.settings, host="new")
    new = Host(found, Restic(found))

    def restore_of(*words: str) -> Restore:
        return program.restore_of(program.parser().parse_args(["restore", "--part=all", *words]), new)

    for words in ([], ["--of=web9"]):
        said = fault_of(lambda: restore_of(*words))  # noqa: B023 - called at once
        assert said[0] == EMPTY
        assert "it has sets of h, of which a restore names one (slipway_of)" in said[1]
    new.live = Server(["x"])
    monkeypatch.setattr(Server, "major", lambda _: 15)
    found_none = fault_of(lambda: restore_of("--of=h", "--time=2026-01-01T00:00:00Z"))[1]
    assert "no point in time of h can be reached" in found_none
    new.live = None
    asked = restore_of("--of=h")
    plan = asked.plan()
    assert (plan["set"], plan["of"], plan["names"]) == (first["set"], "h", ["new"])
    assert asked.run("new", safety=False)["of"] == "h"
    assert (tmp_path / "uploads/a").read_text() == "first"
    assert save(new, MIGRATION)["set"] not in {one.short for one in lost.restic.sets()}, "what it makes is its own"


def fault_of(act: Callable[[], Any]) -> tuple[str, str]:
    with pytest.raises(BackupError) as caught:
        act()
    return caught.value.fault, str(caught.value)


class Sshd:
    """A server of SSH on loopback, which lets one key into its SFTP."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in ("host", "other", "client", "wrong"):
            words = ("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name))
            subprocess.run(words, check=True)
        shutil.copy(directory / "client.pub", directory / "authorized")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (directory / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {directory}/host\nStrictModes no\nUsePAM no\n"
            f"AuthorizedKeysFile {directory}/authorized\nPasswordAuthentication no\nSubsystem sftp internal-sftp\n"
            "PidFile none\n"
        )
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self.start()

    def start(self) -> None:
        words = [SSHD, "-D", "-f", str(self.directory / "config"), "-E", str(self.directory / "log")]
        self.process = subprocess.Popen(words, start_new_session=True)
        while True:
            with socket.socket() as tried:
                if tried.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, (self.directory / "log").read_text()
            time.sleep(0.05)

    def cut(self) -> None:
        """End the server and every connection, as a network that goes does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def sets(self, tmp_path: Path) -> Path:
        """The repository of a test."""
        return self.directory / tmp_path.name

    def known(self, key: str = "host") -> str:
        kind, public = (self.directory / f"{key}.pub").read_text().split()[:2]
        return f"[127.0.0.1]:{self.port} {kind} {public}\n"

    def host(self, tmp_path: Path, key: str = "client", host_key: str = "host") -> Host:
        own = tmp_path / "etc"
        config = (
            f"IdentityFile {own}/ssh_key\nIdentitiesOnly yes\nUserKnownHostsFile {own}/known_hosts\n"
            "StrictHostKeyChecking yes\nBatchMode yes\n"
        )
        user = subprocess.run(["id", "-un"], capture_output=True, text=True, check=True).stdout.strip()
        return host_of(
            tmp_path,
            f"sftp://{user}@127.0.0.1:{self.port}/{self.sets(tmp_path)}",
            ssh_key=(self.directory / key).read_text(),
            known_hosts=self.known(host_key),
            ssh_config=config,
        )


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    yield server
    server.cut()


def test_sets_are_kept_on_a_host_over_ssh(sshd: Sshd, tmp_path: Path) -> None:
    assert_kept(sshd.host(tmp_path))


@pytest.mark.parametrize(
    ("key", "host_key", "fault", "said"),
    [
        ("wrong", "host", LOGIN, "backup_ssh_key"),
        ("client", "other", HOST_KEY, "backup_ssh_known_hosts"),
    ],
)
def test_a_host_that_does_not_let_in_or_is_another_one(
    sshd: Sshd, tmp_path: Path, key: str, host_key: str, fault: str, said: str
) -> None:
    found, words = fault_of(lambda: save(sshd.host(tmp_path, key, host_key), "asked"))
    assert found == fault, words
    assert said in words
    assert "is its disk mounted" not in words


def test_a_network_that_goes_leaves_no_half_a_set_and_the_next_backup_is_whole(sshd: Sshd, tmp_path: Path) -> None:
    host = sshd.host(tmp_path)
    first = save(host, MIGRATION)
    Path(tmp_path, "uploads/large").write_bytes(os.urandom(40 << 20))
    files = sshd.sets(tmp_path) / "data"
    before = sum(1 for path in files.rglob("*") if path.is_file())
    cutter = _when(lambda: sum(1 for path in files.rglob("*") if path.is_file()) > before, sshd.cut)
    found, words = fault_of(lambda: save(host, "asked"))
    cutter.join()
    assert found == UNREACHABLE, words
    assert fault_of(lambda: drill(host))[0] == UNREACHABLE
    sshd.start()
    assert [one.short for one in Restic(host.settings).sets()] == [first["set"]]
    second = save(host, MIGRATION)
    assert drill(host)["set"] == second["set"]


def _when(is_so: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    """Act as soon as something is so, beside what goes on."""

    def wait() -> None:
        while not is_so():
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


class Store:
    """A server of S3's kind that checks signatures, with one user who may use all of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self.server.start()
        self.url = "http://{}:{}".format(*self.server.get_host_and_port())
        given = {"region_name": "us-east-1", "aws_access_key_id": "any", "aws_secret_access_key": "any"}
        users = boto3.client("iam", endpoint_url=self.url, **given)
        users.create_user(UserName="backup")
        users.put_user_policy(UserName="backup", PolicyName="all", PolicyDocument=json.dumps(POLICY))
        self.key = users.create_access_key(UserName="backup")["AccessKey"]
        boto3.client("s3", endpoint_url=self.url, **given).create_bucket(Bucket="sets")
        monkeypatch.setattr(moto, "INITIAL_NO_AUTH_ACTION_COUNT", 0)
        monkeypatch.setattr(responses.ActionAuthenticatorMixin, "request_count", 0)

    def quicken(self) -> None:
        """As `make_quick` does it in a directory."""
        for found in self.bucket().objects.filter(Prefix="keys/"):
            name, text = quick(found.get()["Body"].read().decode(), PASSWORD)
            found.delete()
            self.bucket().put_object(Key=f"keys/{name}", Body=text.encode())

    def bucket(self) -> Any:
        given = {"aws_access_key_id": self.key["AccessKeyId"], "aws_secret_access_key": self.key["SecretAccessKey"]}
        return boto3.resource("s3", endpoint_url=self.url, region_name="us-east-1", **given).Bucket("sets")

    def host(self, tmp_path: Path, **login: str) -> Host:
        own = {"AWS_ACCESS_KEY_ID": self.key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": self.key["SecretAccessKey"]}
        return host_of(tmp_path, f"s3:{self.url}/sets", **{"environment.json": json.dumps(own | login)})


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    made = Store(monkeypatch)
    once_made(monkeypatch, made.quicken)
    yield made
    urlopen(Request(f"{made.url}/moto-api/reset", method="POST"))  # noqa: S310 - our own server
    made.server.stop()


def test_sets_are_kept_in_a_bucket(store: Store, tmp_path: Path) -> None:
    assert_kept(store.host(tmp_path))


@pytest.mark.parametrize("login", [{"AWS_SECRET_ACCESS_KEY": "wrong"}, {"AWS_ACCESS_KEY_ID": "NOBODY"}])
def test_a_bucket_that_does_not_let_in(store: Store, tmp_path: Path, login: dict[str, str]) -> None:
    found, words = fault_of(lambda: save(store.host(tmp_path, **login), "asked"))
    assert found == LOGIN, words
    assert "backup_environment" in words


def test_a_bucket_with_another_key_and_one_that_is_gone(store: Store, tmp_path: Path) -> None:
    host = store.host(tmp_path)
    save(host, MIGRATION)
    (tmp_path / "etc/password").write_text("another")
    assert fault_of(lambda: save(host, "asked"))[0] == WRONG_KEY
    (tmp_path / "etc/password").write_text(PASSWORD)
    store.bucket().objects.delete()
    assert fault_of(lambda: save(host, "asked"))[0] == NO_REPOSITORY


class Keeper(BaseHTTPRequestHandler):
    """A server of restic's own kind that takes everything and removes no more than locks (restic's REST protocol)."""

    place: Path
    refused: ClassVar[list[str]] = []
    login: ClassVar[str] = ""

    def log_message(self, *_: Any) -> None:
        pass

    def parse_request(self) -> bool:
        """Nobody is let in with another login."""
        if not super().parse_request():
            return False
        wanted = f"Basic {b64encode(self.login.encode()).decode()}"
        if self.login and self.headers.get("Authorization") != wanted:
            self.answer(401)
            return False
        return True

    def answer(self, status: int, body: bytes = b"", length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.x.restic.rest.v2")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body)

    @property
    def file(self) -> Path:
        return self.place / self.path.partition("?")[0].strip("/")

    def do_HEAD(self) -> None:
        there = self.file.is_file()
        self.answer(200 if there else 404, length=self.file.stat().st_size if there else 0)

    def do_GET(self) -> None:
        if self.path.endswith("/"):
            listed = [{"name": one.name, "size": one.stat().st_size} for one in sorted(self.file.glob("*"))]
            return self.answer(200, json.dumps(listed).encode())
        if not self.file.is_file():
            return self.answer(404)
        body, wanted = self.file.read_bytes(), re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if not wanted:
            return self.answer(200, body)
        return self.answer(206, body[int(wanted[1]) : int(wanted[2]) + 1 if wanted[2] else None])

    def do_POST(self) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if "create=true" not in self.path:
            self.file.write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(200)

    def do_DELETE(self) -> None:
        if "/locks/" in self.path:
            self.file.unlink(missing_ok=True)
            return self.answer(200)
        self.refused.append(self.path)
        return self.answer(403)


@pytest.fixture
def keeper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    once_made(monkeypatch, lambda: make_quick(tmp_path / "kept/sets", PASSWORD))
    made = type("Own", (Keeper,), {"place": tmp_path / "kept", "refused": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), made)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"rest:http://127.0.0.1:{server.server_port}/sets/"
    server.shutdown()
    server.server_close()


def test_sets_are_kept_where_nothing_is_removed(keeper: str, tmp_path: Path) -> None:
    host = host_of(tmp_path, keeper)
    host.settings = replace(host.settings, append_only=True)
    first = save(host, MIGRATION)
    (tmp_path / "uploads/a").write_text("second")
    second = save(host, "timer")
    assert [one.short for one in Restic(host.settings).sets()] == [first["set"], second["set"]]
    assert host.records.read()["checked"] == 1, "its data is read and checked all the same"
    assert drill(host)["set"] == second["set"]


def test_a_server_of_its_own_kind_with_a_login(keeper: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As restic before 0.17 has it: without words for that in its environment."""
    monkeypatch.setattr(Keeper, "login", "backup:p@ss/w:rd")
    login = {"RESTIC_REST_USERNAME": "backup", "RESTIC_REST_PASSWORD": "p@ss/w:rd"}
    host = host_of(tmp_path, keeper, **{"environment.json": json.dumps(login)})
    assert save(host, MIGRATION)["repository"] == keeper
    (tmp_path / "etc/environment.json").write_text(json.dumps({**login, "RESTIC_REST_PASSWORD": "an0ther"}))
    found, words = fault_of(lambda: save(host, "asked"))
    assert found == LOGIN, words
    assert "backup_environment have it" in words
    assert "an0ther" not in words


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        host = host_of(tmp_path, f"s3:http://127.0.0.1:{nobody.getsockname()[1]}/sets")
        found, words = fault_of(lambda: save(host, "asked"))
    assert found == UNREACHABLE, words
    assert "cannot be reached" in words
