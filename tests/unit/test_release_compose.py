"""The Compose adapter against a `docker` that is a script."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.module_utils.release import compose as compose_module
from ansible_collections.slipway.fleet.plugins.module_utils.release.compose import Compose, open_files
from ansible_collections.slipway.fleet.plugins.module_utils.release.launch import by_python, by_shell
from ansible_collections.slipway.fleet.plugins.module_utils.release.listening import EXPOSED
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import SLOTS
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtime import RuntimeFailed

# Does what the test says of each command, and remembers it: $STATE has a file `<word>` with what it prints, and
# `<word>.fails` with what it complains of; `containers` has the state of the one-off container.
DOCKER = """#!/bin/sh
echo "$@" >> "$STATE/asked"
case "$1 $2" in
  "ps --all")
    case "$*" in *oneoff-the*) test -e "$STATE/container" && cat "$STATE/container"; exit 0;; esac
    cat "$STATE/ps" 2>/dev/null; exit 0;;
  "rm --force") rm -f "$STATE/container"; exit 0;;
  "compose --project-name")
    echo "$SLIPWAY_PORT" >> "$STATE/ports"
    echo running > "$STATE/container"
    if test -e "$STATE/hangs"; then sleep 60; fi
    if test -e "$STATE/compose.fails"; then cat "$STATE/compose.fails" >&2; exit 1; fi
    echo migrated; rm -f "$STATE/container"; exit 0;;
  inspect*) cat "$STATE/inspect"; if test -e "$STATE/gone"; then cat "$STATE/gone" >&2; exit 1; fi; exit 0;;
  "image ls") cat "$STATE/built" 2>/dev/null; exit 0;;
  "image inspect")
    if test -e "$STATE/image"; then cat "$STATE/image"; exit 0; fi
    cat "$STATE/inspect.fails" >&2 2>/dev/null; exit 1;;
  "create --network") echo looked-at; exit 0;;
  "cp --follow-link")
    path="${3#looked-at:}"
    case "$4" in -) ;; *) test -e "$STATE/image-files$path" && cp -R "$STATE/image-files$path" "$4" && exit 0;; esac
    grep -qxF "${3#looked-at:}" "$STATE/files" && exit 0
    echo "Error response from daemon: Could not find the file ${3#*:} in container looked-at" >&2; exit 1;;
esac
exit 0
"""


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "state"
    found.mkdir()
    program = tmp_path / "bin/docker"
    program.parent.mkdir()
    program.write_text(DOCKER)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("STATE", str(found))
    return found


def releases(root: Path, app: str, **images: str) -> Path:
    directory = root / "slipway" / app / "releases"
    for release, image in images.items():
        (directory / release).mkdir(parents=True)
        (directory / release / "compose.yaml").write_text(f"services:\n  web:\n    image: {json.dumps(image)}\n")
    return directory


def asked(state: Path, *words: str) -> list[str]:
    lines = (state / "asked").read_text().splitlines() if (state / "asked").exists() else []
    return [line for line in lines if line.startswith(words)]


SOCKETS = Path("/run/slipway/links")
DENIED = 'exec: "/home/shop/entry.sh": stat /home/shop/entry.sh: permission denied: unknown'


@pytest.mark.parametrize(
    ("said", "user", "advice"),
    [
        (DENIED, "shop:shop", "; the image makes a user of its own, shop: leave fastapi_app_user empty"),
        (DENIED, "", ""),
        ("port is already allocated", "shop", ""),
        ("permission denied for table links", "shop", ""),
    ],
)
def test_an_image_for_a_user_of_its_own_is_told_by_which_variable(
    said: str, user: str, advice: str, tmp_path: Path, state: Path
) -> None:
    directory = releases(tmp_path, "links", one="links:1")
    (state / "compose.fails").write_text(said)
    (state / "image").write_text(json.dumps([{"Id": "sha256:1", "Config": {"User": user}}]))
    with pytest.raises(RuntimeFailed) as caught:
        Compose("links", directory, SOCKETS).start("blue", "one")
    assert str(caught.value).endswith(said + advice)


def test_an_image_that_another_app_names_stays(tmp_path: Path, state: Path) -> None:
    mine = releases(tmp_path, "links", old="shared:1", older="links:1", new="links:2")
    releases(tmp_path, "other", one="shared:1", old="else:3")
    Compose("links", mine, SOCKETS).discard(["old", "older"])
    assert asked(state, "image rm") == ["image rm links:1"]


def test_an_image_that_only_this_release_of_two_apps_of_one_name_has_goes(tmp_path: Path, state: Path) -> None:
    mine = releases(tmp_path, "links", old="links:1")
    releases(tmp_path, "other", old="else:3")
    Compose("links", mine, SOCKETS).discard(["old"])
    assert asked(state, "image rm") == ["image rm links:1"]


def test_both_slots_in_two_calls(tmp_path: Path, state: Path) -> None:
    (state / "ps").write_text("aaa links-blue\nbbb links-green\nccc other-blue\nddd \n")
    labels = {slot: {"com.docker.compose.project": f"links-{slot}", "slipway.release": slot} for slot in SLOTS}
    status = {"Running": True, "Restarting": False, "ExitCode": 0, "OOMKilled": False, "StartedAt": "now"}
    items = [{"Id": slot, "RestartCount": 0, "State": status, "Config": {"Labels": labels[slot]}} for slot in SLOTS]
    (state / "inspect").write_text(json.dumps(items))
    found = Compose("links", releases(tmp_path, "links", one="links:1"), SOCKETS).status()
    assert {slot: (status.running, status.release) for slot, status in found.items()} == {
        "blue": (True, "blue"),
        "green": (True, "green"),
    }
    assert [line.split()[0] for line in asked(state, "")] == ["ps", "inspect"]
    assert asked(state, "inspect") == ["inspect aaa bbb"]


def test_one_that_went_between_the_two_calls_is_not_there(tmp_path: Path, state: Path) -> None:
    """Somebody asks how it is while a release ends."""
    (state / "ps").write_text("aaa links-blue\nbbb links-green\n")
    status = {"Running": True, "Restarting": False, "ExitCode": 0, "OOMKilled": False, "StartedAt": "now"}
    labels = {"com.docker.compose.project": "links-green", "slipway.release": "two"}
    (state / "inspect").write_text(
        json.dumps([{"Id": "bbb", "RestartCount": 0, "State": status, "Config": {"Labels": labels}}])
    )
    compose = Compose("links", releases(tmp_path, "links", two="links:2"), SOCKETS)
    (state / "gone").write_text("Error: No such object: aaa\n")
    assert {slot: one.release for slot, one in compose.status().items()} == {"blue": None, "green": "two"}
    for said in ("Error: No such object: aaa\nCannot connect to the Docker daemon\n", ""):
        (state / "gone").write_text(said)
        with pytest.raises(RuntimeFailed):
            compose.status()


def test_what_is_still_there(tmp_path: Path, state: Path) -> None:
    mine = releases(tmp_path, "links", one="links:1", two="links:2")
    (state / "inspect.fails").write_text("Error response from daemon: No such image: links:1\n")
    assert Compose("links", mine, SOCKETS).there(["one", "two", "three"]) == ["two"]
    (state / "inspect.fails").write_text("Cannot connect to the Docker daemon\n")
    with pytest.raises(RuntimeFailed, match="Cannot connect"):
        Compose("links", mine, SOCKETS).there(["one"])


def test_a_one_off_has_a_name(tmp_path: Path, state: Path) -> None:
    compose = Compose("links", releases(tmp_path, "links", one="links:1"), SOCKETS)
    ran = compose.run("one", ["alembic", "current"], 30, "the-migration")
    assert (ran.returncode, ran.stdout, ran.timed_out) == (0, "migrated\n", False)
    (line,) = asked(state, "compose")
    assert "run --rm --name links-oneoff-the-migration" in line


def test_one_that_takes_too_long_is_stopped_and_not_only_its_client(tmp_path: Path, state: Path) -> None:
    compose = Compose("links", releases(tmp_path, "links", one="links:1"), SOCKETS)
    (state / "hangs").touch()
    ran = compose.run("one", ["sleep", "60"], 2, "the-migration")
    assert ran.timed_out
    assert asked(state, "rm") == ["rm --force links-oneoff-the-migration"]
    assert not (state / "container").exists()


def test_one_whose_runner_is_told_to_end_is_ended(tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job's timer is stopped, or the host goes down."""

    def told(*_: Any, **__: Any) -> None:
        (state / "container").write_text("running")
        raise SystemExit(143)

    compose = Compose("links", releases(tmp_path, "links", one="links:1"), SOCKETS)
    ran = compose_module._ran
    monkeypatch.setattr(
        compose_module, "_ran", lambda words, *rest, **more: told() if "run" in words else ran(words, *rest, **more)
    )
    with pytest.raises(SystemExit):
        compose.run("one", ["sleep", "60"], 9, "the-job", together=True)
    assert asked(state, "rm") == ["rm --force links-oneoff-the-job"]


def test_one_with_endless_output_has_one_text(tmp_path: Path, state: Path) -> None:
    compose = Compose("links", releases(tmp_path, "links", one="links:1"), SOCKETS)
    (state / "compose.fails").write_text("no such table\n")
    ran = compose.run("one", ["count"], 9, "the-job", together=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (1, "no such table\n", "")


@pytest.mark.parametrize("left", ["running", "exited"])
def test_one_that_a_dead_runner_left_is_ended_before_another_starts(tmp_path: Path, state: Path, left: str) -> None:
    compose = Compose("links", releases(tmp_path, "links", one="links:1"), SOCKETS)
    (state / "container").write_text(left)
    assert compose.run("one", ["true"], 1.5, "the-migration").returncode == 0
    order = [line.split()[0] for line in asked(state, "rm", "compose")]
    assert order == ["rm", "compose"]


def launched(root: Path, state: Path, files: str, command: str = "", **config: Any) -> Path:
    """A release whose secrets are variables; returns its directory."""
    directory = releases(root, "links", one="links:1") / "one"
    text = (directory / "compose.yaml").read_text()
    (directory / "compose.yaml").write_text(f"x-slipway-secrets: variables\n{text}{command}")
    (state / "image").write_text(json.dumps([{"Id": "sha256:1", "Config": config}]))
    (state / "files").write_text(files)
    return directory


def web(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((directory / ".launch.yaml").read_text())["services"]["web"]
    return found


def escaped(words: list[str]) -> list[str]:
    return [word.replace("$", "$$") for word in words]


def test_the_launcher_comes_before_what_the_image_says(tmp_path: Path, state: Path) -> None:
    directory = launched(tmp_path, state, "/bin/sh\n", Entrypoint=["/entry.sh"], Cmd=["serve", "$PORT"])
    Compose("links", directory.parent, SOCKETS).start("blue", "one")
    assert web(directory) == {"entrypoint": [*escaped(by_shell()), "/entry.sh"], "command": ["serve", "$$PORT"]}
    (line,) = asked(state, "compose")
    assert f"--file {directory}/compose.yaml --file {directory}/.launch.yaml up" in line
    assert asked(state, "rm") == ["rm --force --volumes looked-at"]


def test_the_command_of_the_inventory_stays(tmp_path: Path, state: Path) -> None:
    directory = launched(tmp_path, state, "/bin/sh\n", "    command: [a]\n", Entrypoint=None, Cmd=["b"])
    Compose("links", directory.parent, SOCKETS).run("one", ["migrate"], 5, "the-migration")
    assert web(directory) == {"entrypoint": escaped(by_shell())}
    (line,) = asked(state, "compose")
    assert line.endswith("-T web migrate"), "through the entry point"


def test_an_image_is_looked_at_once(tmp_path: Path, state: Path) -> None:
    directory = launched(tmp_path, state, "/bin/sh\n", Cmd=["serve"])
    compose = Compose("links", directory.parent, SOCKETS)
    compose.start("blue", "one")
    compose.start("green", "one")
    assert len(asked(state, "create")) == 1
    (state / "image").write_text(json.dumps([{"Id": "sha256:2", "Config": {"Cmd": ["other"]}}]))
    compose.start("blue", "one")
    assert web(directory)["command"] == ["other"]


def test_an_image_without_a_shell_has_its_python(tmp_path: Path, state: Path) -> None:
    directory = launched(tmp_path, state, "/opt/bin/python3\n", Cmd=["serve"], Env=["A=1", "PATH=/usr/bin:/opt/bin"])
    Compose("links", directory.parent, SOCKETS).start("blue", "one")
    assert web(directory)["entrypoint"] == escaped(by_python("/opt/bin/python3"))


def test_an_image_that_cannot_launch_is_refused_by_name(tmp_path: Path, state: Path) -> None:
    directory = launched(tmp_path, state, "", Entrypoint=["/app"])
    compose = Compose("links", directory.parent, SOCKETS)
    for act in (lambda: compose.start("blue", "one"), lambda: compose.run("one", ["a"], 5, "the-check")):
        with pytest.raises(
            RuntimeFailed, match=r"image links:1 has neither /bin/sh .* fastapi_app_secrets_as: \[files\]"
        ):
            act()
    assert not asked(state, "compose"), "nothing was started"
    assert len(asked(state, "rm --force --volumes")) == 2
    (directory / "compose.yaml").write_text("services:\n  web:\n    image: links:1\n")
    compose.start("blue", "one")
    assert len(asked(state, "compose")) == 1


def test_an_image_without_a_command_is_refused_by_name(tmp_path: Path, state: Path) -> None:
    directory = launched(tmp_path, state, "/bin/sh\n")
    with pytest.raises(RuntimeFailed, match="write one as fastapi_app_command"):
        Compose("links", directory.parent, SOCKETS).start("blue", "one")


@pytest.mark.parametrize(
    ("capabilities", "wanted", "most"), [("000001ffffffffff", 1 << 30, 1 << 30), ("0", 1 << 30, 4096), ("0", 10, 10)]
)
def test_files_as_many_as_the_host_allows(
    capabilities: str, wanted: int, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: (1024, 4096))
    (tmp_path / "status").write_text(f"Name:\tx\nCapEff:\t{capabilities}\n")
    assert open_files(wanted, tmp_path / "status") == most


def test_where_a_slot_listens_is_read_from_the_host_as_an_image_need_not_have_a_program_for_it(
    tmp_path: Path, state: Path
) -> None:
    (state / "ps").write_text("aaa links-blue\n")
    (state / "inspect").write_text("77 null\n")
    tables = tmp_path / "proc/77/net"
    tables.mkdir(parents=True)
    row = "0: 00000000:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000 10001 0 1 1 0 100 0 0 10 0\n"
    (tables / "tcp").write_text(row)
    compose = Compose("links", releases(tmp_path, "links"), SOCKETS, processes=tmp_path / "proc")
    assert compose.listening("blue") == ["tcp port 8000"]
    for ports, said in {
        ("8000/tcp",): [f"tcp port 8000{EXPOSED}"],
        ("8000/tcp", "9/udp"): [f"tcp port 8000{EXPOSED}"],
        ("8000/tcp", "9/tcp"): ["tcp port 8000"],
        ("80/tcp",): ["tcp port 8000"],
    }.items():
        (state / "inspect").write_text(f"77 {json.dumps({port: {} for port in ports})}\n")
        assert compose.listening("blue") == said
    (state / "inspect").write_text("0 null\n")
    assert compose.listening("blue") == []
    assert compose.listening("green") == []


def test_a_one_off_that_fills_its_tmp_is_told_by_which_variable(tmp_path: Path, state: Path) -> None:
    (state / "compose.fails").write_text("OSError: [Errno 28] No space left on device: '/tmp/dump'\n")
    compose = Compose("links", releases(tmp_path, "links", one="links:1"), SOCKETS)
    assert "device: '/tmp/dump'; /tmp has fastapi_app_tmp_mib" in compose.run("one", ["x"], 30, "the-check").stderr


def test_a_slot_is_told_its_port_and_a_one_off_command_has_none(tmp_path: Path, state: Path) -> None:
    compose = Compose("links", releases(tmp_path, "links", one="links:1"), SOCKETS, {"blue": 20010, "green": 20011})
    compose.start("green", "one")
    compose.run("one", ["true"], 30, "the-check")
    assert (state / "ports").read_text().split() == ["20011", "0"]


def for_user(directory: Path, release: str, user: str) -> None:
    """The release's file as it is rendered for what an inventory says of its user."""
    path = directory / release / "compose.yaml"
    path.write_text(f"x-slipway-user: {json.dumps({'user': user, 'otherwise': 10001})}\n{path.read_text()}")


def test_a_release_runs_as_who_its_image_knows_and_is_looked_at_once(tmp_path: Path, state: Path) -> None:
    directory = releases(tmp_path, "links", one="links:1")
    for_user(directory, "one", "shop")
    (state / "image").write_text(json.dumps([{"Id": "sha256:1", "Config": {"User": "root"}}]))
    (state / "image-files/etc").mkdir(parents=True)
    (state / "image-files/etc/passwd").write_text("shop:x:1000:1001::/:/bin/sh\n")
    compose = Compose("links", directory, SOCKETS)
    assert [compose.owner("one"), compose.owner("one")] == [(1000, 1001)] * 2
    assert len(asked(state, "create")) == 1
    assert asked(state, "rm --force") == ["rm --force --volumes looked-at"]
    (state / "image").write_text(json.dumps([{"Id": "sha256:2", "Config": {}}]))
    (state / "image-files/etc/passwd").write_text("shop:x:7:8::/:/bin/sh\n")
    assert compose.owner("one") == (7, 8)


def test_an_older_release_runs_as_its_file_says(tmp_path: Path, state: Path) -> None:
    directory = releases(tmp_path, "links", one="links:1", two="links:2")
    path = directory / "one/compose.yaml"
    path.write_text(path.read_text() + '    user: "10001:10002"\n')
    compose = Compose("links", directory, SOCKETS)
    assert (compose.owner("one"), compose.owner("two")) == ((10001, 10002), None)
    assert asked(state, "image inspect") == []


def test_compose_is_told_who_the_app_is(tmp_path: Path, state: Path) -> None:
    directory = releases(tmp_path, "links", one="links:1")
    for_user(directory, "one", "")
    (state / "image").write_text(json.dumps([{"Id": "sha256:1", "Config": {"User": "5:6"}}]))
    compose = Compose("links", directory, SOCKETS)
    assert compose._environment("blue", "one")["SLIPWAY_USER"] == "5:6"


@pytest.mark.parametrize("home", ["/data", "/data/uploads/more", "/data/uploads"])
def test_what_the_image_has_comes_into_a_volume_unless_it_is_what_runs(home: str, tmp_path: Path, state: Path) -> None:
    directory = releases(tmp_path, "links", one="links:1")
    (state / "image").write_text(json.dumps([{"Id": "sha256:1", "Config": {"WorkingDir": home}}]))
    (state / "image-files/data/uploads").mkdir(parents=True)
    (state / "image-files/data/uploads/welcome").touch()
    to = tmp_path / "volume"
    to.mkdir()
    compose = Compose("links", directory, SOCKETS)
    if home == "/data":
        compose.contents("one", "/data/uploads", to)
        assert [path.name for path in to.iterdir()] == ["welcome"]
        (state / "files").touch()
        compose.contents("one", "/nowhere", to)
        return
    with pytest.raises(
        RuntimeFailed, match=f"a directory of the host at /data/uploads would hide what the image has in {home}"
    ):
        compose.contents("one", "/data/uploads", to)
