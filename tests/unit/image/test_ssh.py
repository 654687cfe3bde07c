"""How a build logs in at repositories: with the key, which nobody else reads and which goes, or with the agent."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.image import build as image_build
from ansible_collections.slipway.fleet.plugins.module_utils.image import ssh
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError

KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n-----END OPENSSH PRIVATE KEY-----"


@pytest.fixture
def agent() -> Iterator[str]:
    """The path of a socket, which must be short."""
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{directory}/agent")
        yield f"{directory}/agent"


@pytest.mark.parametrize("agent_too", [False, True])
def test_a_key_is_a_file_of_this_user_alone_while_the_build_runs(
    agent: str, agent_too: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ssh.SOCKET, agent)
    before = os.umask(0)
    try:
        with ssh.Ssh(agent_too, KEY).options() as (option, value):
            path = Path(value.removeprefix("default="))
            assert (option, path.read_text()) == ("--ssh", f"{KEY}\n"), "the key, though there is an agent"
            assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    finally:
        os.umask(before)
    assert not path.parent.exists()
    assert "secret" not in repr(ssh.Ssh(agent_too, KEY))


def process(processes: Path, name: str, parent: str, told: str | None) -> None:
    """One in a /proc; of that of another user nobody reads the environment."""
    (processes / name).mkdir()
    (processes / name / "status").write_text(f"Name:\tx\nPPid:\t{parent}\n")
    if told is not None:
        (processes / name / "environ").write_bytes(f"HOME=/root\0{ssh.SOCKET}={told}\0".encode())


@pytest.mark.parametrize(
    ("own", "above", "found"),
    [
        ("{agent}", {}, True),
        ("", {"7": "{agent}"}, True),
        ("/gone", {"7": "/gone", "5": "{agent}"}, True),
        ("", {"7": None, "5": "{agent}"}, True),
        ("", {"7": "", "5": __file__}, False),
        ("", {}, False),
    ],
    ids=["its own", "that of sudo's parent", "the nearest that is there", "unread", "none is a socket", "none"],
)
def test_the_agent_is_the_nearest_one_above(
    agent: str, own: str, above: dict[str, str | None], found: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ssh.SOCKET, own.format(agent=agent))
    names = ["self", *above]
    for name, parent in zip(names, [*above, "0"], strict=True):
        told = above.get(name)
        process(tmp_path, name, parent, told and told.format(agent=agent))
    assert ssh.agent_socket(tmp_path) == (agent if found else None)


@pytest.mark.parametrize(
    ("where", "way"), [(ssh.CONTROLLER, r"eval \$\(ssh-agent\)"), ("this build host", "ForwardAgent=yes")]
)
def test_no_agent_is_told_with_what_to_do(where: str, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "agent_socket", lambda: None)
    with pytest.raises(ImageError, match=f"{where} has no SSH agent: .*{way}"), ssh.Ssh(True, where=where).options():
        pytest.fail("without an agent")
    with ssh.NO_SSH.options() as options:
        assert options == []


@pytest.mark.parametrize(
    ("asked", "name"),
    [(ssh.Ssh(True), "fastapi_image_build_ssh"), (ssh.Ssh(True, KEY), "fastapi_image_build_ssh_key")],
)
def test_the_older_builder_is_refused(
    asked: ssh.Ssh, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_build, "has_buildkit", lambda: False)
    with pytest.raises(ImageError, match=rf"^{name} needs BuildKit, .* knows no RUN --mount=type=ssh"):
        image_build.build(tmp_path / "context", "app:1", "0" * 64, "Dockerfile", {}, {}, asked)
