"""Processes under Compose, against a `docker` that is a script."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.module_utils.release.beside import Instance
from ansible_collections.slipway.fleet.plugins.module_utils.release.compose import BESIDE_WEB, Compose
from ansible_collections.slipway.fleet.plugins.module_utils.release.launch import by_shell
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtime import RuntimeFailed

from tests.unit import test_release_compose as of_slots
from tests.unit.test_release_compose import SOCKETS, asked, escaped, launched, releases

state = of_slots.state


def container(**changed: Any) -> dict[str, Any]:
    """What `docker inspect` says of a worker that runs."""
    status = {"Status": "running", "Running": True, "Restarting": False, "ExitCode": 0, "OOMKilled": False}
    labels = {
        "com.docker.compose.project": "links-processes-12",
        "slipway.process": "worker",
        "slipway.slot": "blue",
        "slipway.release": "one",
    }
    return {
        "Id": "abc",
        "RestartCount": changed.pop("restarts", 0),
        "HostConfig": {"RestartPolicy": {"Name": changed.pop("policy", "unless-stopped")}},
        "Config": {"Labels": labels},
        "State": {**status, **changed},
    }


ONE = Instance("abc", "worker", "blue", "one", 12, exit_code=0)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (container(), ONE),
        (container(policy="no"), Instance("abc", "worker", "blue", "one", 12, ending=True, exit_code=0)),
        (
            container(policy="no", Status="exited", Running=False, ExitCode=143),
            Instance("abc", "worker", "blue", "one", 12, running=False, ending=True, gone=True, exit_code=143),
        ),
        (
            container(Status="restarting", Restarting=True, restarts=3, ExitCode=1),
            Instance("abc", "worker", "blue", "one", 12, running=False, restarts=3, exit_code=1),
        ),
    ],
    ids=["runs", "ends", "has ended", "is restarted"],
)
def test_what_docker_has(found: dict[str, Any], expected: Instance, tmp_path: Path, state: Path) -> None:
    (state / "ps").write_text("abc\n")
    (state / "inspect").write_text(json.dumps([found]))
    compose = Compose("links", releases(tmp_path, "links", one="links:1"), SOCKETS)
    assert compose.beside.instances() == [expected]
    (line,) = asked(state, "ps")
    assert line.endswith("--filter label=slipway.process --filter label=slipway.app=links")


def test_without_containers_nothing_is_inspected(tmp_path: Path, state: Path) -> None:
    compose = Compose("links", releases(tmp_path, "links", one="links:1"), SOCKETS)
    assert compose.beside.instances() == []
    assert not asked(state, "inspect")


def test_a_group_is_a_project_and_a_process_a_service_of_it(tmp_path: Path, state: Path) -> None:
    compose = Compose("links", releases(tmp_path, "links", one="links:1"), SOCKETS)
    compose.beside.start("blue", "one", 12, {"worker": 2, "mails": 1})
    (line,) = asked(state, "compose")
    assert line.startswith("compose --project-name links-processes-12 --file ")
    assert line.endswith(
        " up --detach --no-build --pull never --no-recreate --scale worker=2 --scale mails=1 worker mails"
    )


def test_the_daemon_is_told_to_end_them_with_their_own_grace_before_they_are_marked(
    tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose = Compose("links", releases(tmp_path, "links", one="links:1"), SOCKETS)
    told: list[list[str]] = []
    monkeypatch.setattr("subprocess.Popen", Told(told, state))
    compose.beside.end([ONE, Instance("def", "worker", "blue", "one", 12)])
    assert told == [["docker", "stop", "abc", "def"]]
    compose.beside.end([])
    assert len(told) == 1


@pytest.mark.parametrize(
    "said",
    [
        "Cannot update container abc: runc did not terminate: exit status 1: container not running: unknown",
        "Cannot update container abc: cannot update a stopped container: unknown",
        "Cannot update container abc: cannot update a deleted process: unknown",
        "Cannot update container abc: task abc not found: not found",
    ],
)
def test_one_that_ends_while_it_is_marked_is_marked_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    compose, calls, seconds = refusing(tmp_path, monkeypatch, [said, said, said])
    compose.stay_down(["abc"])
    assert calls == [("update", "--restart=no", "abc")] * 4
    assert 0 < seconds[0] < 2


def test_what_cannot_be_marked_is_said_in_docker_s_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compose, calls, seconds = refusing(tmp_path, monkeypatch, ["Cannot update container abc: no room"] * 1000)
    with pytest.raises(RuntimeFailed, match="no room"):
        compose.stay_down(["abc"])
    assert 9 < seconds[0] < 11
    assert len(calls) < 100


def test_one_that_docker_removes_itself_in_that_moment_is_gone_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "Error response from daemon: removal of container abc is already in progress"
    compose, calls, _ = refusing(tmp_path, monkeypatch, [said, said])
    compose.remove(["abc"])
    assert calls == [("rm", "--force", "abc")] * 3


def refusing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> tuple[Compose, list[tuple[str, ...]], list[float]]:
    """An app whose Docker fails with `said`, one a call, and then does as it is told; its calls, and a clock."""
    compose = Compose("links", releases(tmp_path, "links", one="links:1"), SOCKETS)
    calls: list[tuple[str, ...]] = []
    seconds = [0.0]

    def docker(*words: str, **_: Any) -> str:
        calls.append(words)
        if len(calls) <= len(said):
            raise RuntimeFailed(said[len(calls) - 1])
        return ""

    def sleep(wanted: float) -> None:
        seconds[0] += wanted

    monkeypatch.setattr(compose, "_docker", docker)
    monkeypatch.setattr("time.monotonic", lambda: seconds[0])
    monkeypatch.setattr("time.sleep", sleep)
    return compose, calls, seconds


class Told:
    """`Popen` that remembers who is told to end; by then nobody may be marked. Others run."""

    def __init__(self, told: list[list[str]], state: Path) -> None:
        self.told, self.state, self.real = told, state, subprocess.Popen

    def __call__(self, words: list[str], **how: Any) -> Any:
        if words[1] == "stop":
            assert not asked(self.state, "update"), "marked before it was told"
            assert how["start_new_session"], "it outlives who asked"
            return self.told.append(words)
        return self.real(words, **how)


def test_what_takes_too_long_is_killed_and_what_has_ended_meanwhile_is_no_trouble(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compose = Compose("links", releases(tmp_path, "links", one="links:1"), SOCKETS)
    calls: list[tuple[str, ...]] = []

    def docker(*words: str, **_: Any) -> str:
        calls.append(words)
        raise RuntimeFailed("container abc is not running")

    monkeypatch.setattr(compose, "_docker", docker)
    compose.beside.kill([ONE, Instance("def", "worker", "blue", "one", 12)])
    assert calls == [("kill", "abc"), ("kill", "def")]


def test_what_is_left_of_those_that_have_ended_is_removed(tmp_path: Path, state: Path) -> None:
    compose = Compose("links", releases(tmp_path, "links", one="links:1"), SOCKETS)
    compose.beside.forget([ONE])
    compose.beside.forget([])
    assert asked(state, "rm") == ["rm --force abc"]


def test_the_launcher_comes_before_each(tmp_path: Path, state: Path) -> None:
    """Its own command is no command of the web process, which has the image's."""
    more = f"{BESIDE_WEB}\n  worker:\n    command: [work]\n"
    directory = launched(tmp_path, state, "/bin/sh\n", more, Entrypoint=["/entry.sh"], Cmd=["serve"])
    (directory / "processes.json").write_text(json.dumps({"worker": {"command": ["work"]}}))
    Compose("links", directory.parent, SOCKETS).beside.start("blue", "one", 1, {"worker": 1})
    found = yaml.safe_load((directory / ".launch.yaml").read_text())["services"]
    words = [*escaped(by_shell()), "/entry.sh"]
    assert found == {"web": {"entrypoint": words, "command": ["serve"]}, "worker": {"entrypoint": words}}
