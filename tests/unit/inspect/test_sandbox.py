"""The container that an image is looked at in, and the program that looks around in it."""

from __future__ import annotations

import http.server
import json
import os
import platform
import re
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host import command
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError
from ansible_collections.slipway.fleet.plugins.module_utils.release.listening import parse_listening
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import ImageRequest
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect import inspection, sandbox
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.inside import PROGRAM
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.inspection import (
    MOST_TRIALS,
    app_name,
    report,
    search,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.sandbox import (
    Limits,
    Sandbox,
    mebibytes,
    owner,
    remove_left,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.trial import (
    Answer,
    Seen,
    Shipped,
    Trial,
    next_trial,
)

TEMPLATE = Path(__file__).resolve().parents[3] / "roles/fastapi_app/templates/compose.yaml.j2"
SOCKET = "/run/slipway/inspect/blue/app.sock"
LIMITS = Limits(tmp_mib=64, cpus=1.5, pids=256, open_files=65536, socket=SOCKET)
ENVIRONMENT = {"socket": {"UVICORN_UDS": SOCKET}, "port": {"PORT": "@PORT@", "HOST": "::"}}
USUAL = Trial((10001, 10002), memory_mib=512)


class Handler(http.server.BaseHTTPRequestHandler):
    """An app that tells under which name and scheme it was asked."""

    def do_GET(self) -> None:
        self.send_response(307 if self.path == "/old" else 200)
        self.send_header("Location", "/new")
        self.end_headers()
        self.wfile.write(f"{self.headers['Host']} {self.headers['X-Forwarded-Proto']} {'x' * 300}".encode())

    def log_message(self, *_: object) -> None: ...

    def address_string(self) -> str:
        return "somebody"


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def inside(door: int | str, *paths: str, whole: str = "", cwd: Path | None = None) -> dict[str, object]:
    headers = {"Host": "shop.example.org", "X-Forwarded-Proto": "https"}
    told = json.dumps({"door": door, "headers": headers, "paths": paths, "whole": whole})
    ran = subprocess.run([sys.executable, "-I", "-c", PROGRAM, told], capture_output=True, check=True, cwd=cwd)
    found: dict[str, object] = json.loads(ran.stdout)
    return found


def test_the_program_sees_where_it_listens_and_what_answers_on_a_port(tmp_path: Path) -> None:
    (tmp_path / "alembic.ini").touch()
    with http.server.ThreadingHTTPServer(("", 0), Handler) as server, serving(server):
        port = server.server_address[1]
        found = inside(port, "/", "/old", whole="/", cwd=tmp_path)
    assert f"tcp port {port}" in parse_listening(str(found["tables"]))
    answers = found["answers"]
    assert isinstance(answers, dict)
    assert answers["/"][2].startswith("shop.example.org https xxx")
    assert len(answers["/"][2]) > 300, "all of the one that is wanted"
    assert (answers["/old"][0], answers["/old"][1], len(answers["/old"][2])) == (307, "/new", 200)
    assert found["alembic"] == str(tmp_path)
    assert inside(port, "/")["answers"]["/"][0] == 0, "nobody answers any more"  # type: ignore[index]


def test_the_program_sees_a_front_end_whose_files_are_named_anew(tmp_path: Path) -> None:
    for name in (
        "static/assets/index-DqH7s_9a.js",
        "web/main.3f2a1b9c.css",
        "docs/jquery-3.7.1.min.js",
        "docs/bootstrap-datepicker.js",
        "code/static/app-12345678.js",
        "code/static/views.py",
        "node_modules/x/index-12345678.js",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert inside(9, "/", cwd=tmp_path)["assets"] == [f"{tmp_path}/static", f"{tmp_path}/web"]
    assert inside(9, cwd=tmp_path)["assets"] == [], "looked for once, when it is asked"


def test_the_program_asks_over_a_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "app.sock")

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    with Server(path, Handler) as server, serving(server):
        found = inside(path, "/")
    assert f"socket {path}" in parse_listening(str(found["tables"]))
    assert found["answers"]["/"][0] == 200  # type: ignore[index]


def test_a_container_has_what_a_release_has() -> None:
    """Each option of the sandbox stands in the file of a release, too."""
    place = Sandbox("shop:1", LIMITS, ENVIRONMENT, "localhost")
    words = " ".join(place._arguments(replace(USUAL, port=8000, variables={"API_TOKEN": "placeholder"})))
    release = TEMPLATE.read_text()
    for option, line in (
        ("--user 10001:10002", 'user: "${SLIPWAY_USER:-'),
        ("--read-only", "read_only: {{ fastapi_app_read_only | to_json }}"),
        (
            "--tmpfs /tmp:mode=1777,noexec,nosuid,size=64m",
            "/tmp:mode=1777,noexec,nosuid,size={{ fastapi_app_tmp_mib }}",
        ),
        ("--shm-size 64m", "shm_size: 64m"),
        ("--cap-drop ALL", "cap_drop: [ALL]"),
        ("--security-opt no-new-privileges:true", 'security_opt: ["no-new-privileges:true"]'),
        ("--memory 512m --memory-swap 512m", "memswap_limit: {{ fastapi_app_memory_mib }}m"),
        ("--cpu-period 100000 --cpu-quota 150000", "cpu_quota: {{ (fastapi_app_cpus | float * 100000) | int }}"),
        ("--pids-limit 256", "pids_limit: {{ fastapi_app_pids }}"),
        ("--ulimit nofile=", "ulimits: {nofile:"),
    ):
        assert option in words
        assert line in release
    assert "--network none" in words
    assert "--env PORT=8000 --env HOST=:: --env API_TOKEN=placeholder" in words
    assert "--read-only" not in place._arguments(replace(USUAL, read_only=False))
    assert f"UVICORN_UDS={SOCKET}" in place._arguments(USUAL)
    assert "WEB_CONCURRENCY=1" in place._arguments(replace(USUAL, workers=1))


class Docker:
    """A daemon with one container, in which a program sees what the test says."""

    def __init__(self, seen: dict[str, object] | str, running: bool = True, log: str = "") -> None:
        self.seen, self.running, self.log = seen, running, log
        self.calls: list[str] = []

    def docker(self, *words: str, **_: object) -> str:
        self.calls.append(" ".join(words))
        if words[0] == "inspect":
            return json.dumps([{"State": {"Running": self.running, "ExitCode": 3, "OOMKilled": False}}])
        return {"create": "c0ffee\n", "stats": "92.3MiB / 512MiB\n", "diff": "C /app\nA /app/made.txt\nA /tmp/x\n"}.get(
            words[0], ""
        )

    def run(self, words: list[str], *_: object, **__: object) -> command.Ran:
        if words[1] == "logs":
            return command.Ran(tuple(words), 0, self.log)
        if isinstance(self.seen, str):
            return command.Ran(tuple(words), 126, "", self.seen)
        paths = json.loads(words[-1])["paths"]
        answers = {path: [200 if path == "/healthz" else 404, "", ""] for path in paths}
        return command.Ran(
            tuple(words), 0, json.dumps({"commands": [], "alembic": "", "assets": [], "answers": answers, **self.seen})
        )


def looked(docker: Docker, trial: Trial, monkeypatch: pytest.MonkeyPatch) -> Seen:
    monkeypatch.setattr(sandbox, "docker", docker.docker)
    monkeypatch.setattr(command, "run", docker.run)
    monkeypatch.setattr(sandbox, "_REST", 0)
    monkeypatch.setattr(sandbox, "_INTERVAL", 0)
    return Sandbox("shop:1", LIMITS, ENVIRONMENT, "localhost").look(trial, Shipped(), 5)


TABLE = "0: 00000000:1F40 00000000:0000 0A 0:0 00:0 0 10001 0 99 1\n"  # port 8000


def test_an_image_that_answers_is_looked_at_and_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    docker = Docker({"tables": TABLE})
    seen = looked(docker, replace(USUAL, port=8000, read_only=False), monkeypatch)
    assert seen.answers["/healthz"] == Answer(200)
    assert (seen.memory_mib, seen.written) == (92, ("/app/made.txt",))
    assert docker.calls[-1] == "rm --force --volumes c0ffee"


def test_an_image_that_listens_elsewhere_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = looked(Docker({"tables": TABLE}), USUAL, monkeypatch)
    assert seen.listening == ("tcp port 8000",)
    assert not seen.answers


def test_an_image_that_ends_is_seen_with_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    docker = Docker({}, running=False, log="KeyError: 'API_TOKEN'")
    assert looked(docker, USUAL, monkeypatch) == Seen(False, 3, log="KeyError: 'API_TOKEN'")
    assert docker.calls[-1] == "rm --force --volumes c0ffee"


def test_an_image_without_a_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    docker = Docker('exec: "python3": executable file not found in $PATH')
    with pytest.raises(ImageError, match="shop:1 has no Python on its path .*write the lines by hand"):
        looked(docker, USUAL, monkeypatch)
    assert docker.calls[-1] == "rm --force --volumes c0ffee"


def test_a_program_that_its_user_may_not_start_is_tried_as_root_where_the_image_is_roots(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = 'exec: "/home/shop/entrypoint.sh": stat /home/shop/entrypoint.sh: permission denied: unknown'

    class Refusing(Docker):
        def docker(self, *words: str, **options: object) -> str:
            if words[0] == "start":
                raise ImageError(said)
            return super().docker(*words, **options)

    docker = Refusing({})
    seen = looked(docker, USUAL, monkeypatch)
    assert seen == Seen(running=False, exit_code=126, log=said)
    assert next_trial(USUAL, seen, Shipped(), SOCKET) == replace(USUAL, user=(0, 0))
    assert docker.calls[-1] == "rm --force --volumes c0ffee"


def test_what_a_killed_inspection_left_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[str] = []

    here = platform.node()

    def docker(*words: str, **_: object) -> str:
        removed.extend(words[3:] if words[0] == "rm" else ())
        there = f"c0ffee {here} {os.getpid()}\nd00d {here} 4194305\nf00d another 4194305\nbeef 4194305\n"
        return there if words[0] == "ps" else ""

    monkeypatch.setattr(sandbox, "docker", docker)
    remove_left()
    assert removed == ["d00d"], "the first one's process runs, and nobody knows of those of other machines"


@pytest.mark.parametrize(
    ("wanted", "named", "who"),
    [("", "", (10001, 10001)), ("", "shop", (1000, 1001)), ("", "0", (10001, 10001)), ("root", "shop", (0, 0))],
)
def test_it_is_started_as_a_release_would_be(
    monkeypatch: pytest.MonkeyPatch, wanted: str, named: str, who: tuple[int, int]
) -> None:
    calls: list[str] = []

    def docker(*words: str, **_: object) -> str:
        calls.append(" ".join(words))
        return json.dumps([{"Config": {"User": named}}]) if words[0] == "image" else "c0ffee\n"

    def run(words: list[str], *_: object, **__: object) -> command.Ran:
        Path(words[-1]).write_text("root:x:0:0:::\nshop:x:1000:1001:::\n")
        return command.Ran(tuple(words), 0)

    monkeypatch.setattr(sandbox, "docker", docker)
    monkeypatch.setattr(command, "run", run)
    assert owner("shop:1", wanted, 10001) == who
    mark = f"{sandbox.LABEL}={platform.node()} {os.getpid()}"
    assert calls[0] == f"create --label {mark} --network none shop:1 true", "one that is left is known, too"
    assert calls[-1] == "rm --force --volumes c0ffee"
    with pytest.raises(ImageError, match="the image knows no user nobody "):
        owner("shop:1", "nobody", 10001)


@pytest.mark.parametrize(("used", "mib"), [("92.3MiB / 512MiB", 92), ("1.5GiB / 2GiB", 1536), ("900KiB / 1GiB", 1)])
def test_memory_is_what_docker_says(used: str, mib: int) -> None:
    assert mebibytes(used) == mib


class Wanting:
    """A place with an app that wants one thing after the other."""

    def __init__(self, *seen: Seen) -> None:
        self.seen = list(seen)
        self.tried: list[Trial] = []

    def look(self, trial: Trial, about: Shipped, deadline: float) -> Seen:
        self.tried.append(trial)
        return self.seen.pop(0) if len(self.seen) > 1 else self.seen[0]


def test_it_is_tried_until_it_serves_and_each_trial_is_told() -> None:
    told: list[str] = []
    serves = Seen(running=True, listening=("tcp port 80",), answers={"/": Answer(200)})
    lacks, spoils = "KeyError: 'API_TOKEN'", 'SettingsError: error parsing value for field "api_token" from source'
    ended = [Seen(running=False, log=log) for log in (lacks, spoils)]
    place = Wanting(*ended, Seen(True, listening=("tcp port 80",)), serves)
    trial, seen = search(place, Shipped(), USUAL, SOCKET, 60, told.append)
    assert (trial, seen) == (replace(USUAL, port=80, variables={"API_TOKEN": "[]"}), serves)
    assert told == [
        "started with the socket of a slot",
        "started with the socket of a slot, values for API_TOKEN",
        "started with the socket of a slot, values for API_TOKEN of another form",
        "started with port 80, values for API_TOKEN",
    ]


def test_it_is_not_tried_for_ever() -> None:
    class Endless(Wanting):
        def look(self, trial: Trial, about: Shipped, deadline: float) -> Seen:
            return Seen(running=False, log=f"KeyError: 'NAME_{len(trial.variables)}'")

    with pytest.raises(ImageError, match=f"started {MOST_TRIALS} times"):
        search(Endless(), Shipped(), USUAL, SOCKET, 60, lambda _: None)


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (
            Seen(True, log='INFO: "GET / HTTP/1.1" 404', listening=(f"socket {SOCKET}",), answers={"/": Answer(404)}),
            (
                "no path answers with 200 to 299 (/ 404); name one with fastapi_app_health_path; the last line of its "
                'log: INFO: "GET / HTTP/1.1" 404'
            ),
        ),
        (
            Seen(False, 1, log="Traceback\nKeyError: 'user'\nended"),
            "it ended with exit code 1; the last exception in its log: KeyError: 'user'",
        ),
        (Seen(False, 1), "it ended with exit code 1"),
    ],
)
def test_what_a_log_says_is_told_as_that(seen: Seen, told: str) -> None:
    assert report("shop", ("fastapi_image_name", "shop"), Shipped(), USUAL, USUAL, seen, SOCKET)[1] == told


def test_a_directory_without_a_dockerfile_is_named(tmp_path: Path) -> None:
    request = ImageRequest(name="x", source="build")
    with (
        pytest.raises(ImageError, match="has no Dockerfile; name it with fastapi_image_dockerfile"),
        inspection.had(str(tmp_path), request),
    ):
        pass


def test_the_stage_that_serves_is_built_unless_one_is_named(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM a AS production\nFROM a AS dev\n")
    request = ImageRequest(name="x", source="build")
    why = "the last stage of its Dockerfile is dev"
    assert inspection.target_in(str(tmp_path), request) == ("production", why)
    assert inspection.target_in(str(tmp_path), replace(request, target="dev")) == ("", "")
    assert inspection.target_in("shop:1", request) == ("", "")


def test_what_was_given_to_the_build_is_in_the_lines(tmp_path: Path) -> None:
    request = ImageRequest(name="x", source="build")
    why = "you gave it, and it was built so"
    given = replace(request, target="dev", build_args={"BASE": "python:3.13"}, ca_file=Path("/etc/ca.pem"))
    assert inspection.given_to_build("shop:1", given) == inspection.given_to_build(str(tmp_path), request) == []
    assert inspection.given_to_build(str(tmp_path), given) == [
        ("fastapi_image_target", "dev", why),
        ("fastapi_image_build_args", {"BASE": "python:3.13"}, why),
        ("fastapi_image_ca_file", "/etc/ca.pem", why),
    ]


def test_an_image_that_was_not_there_before_goes_again(monkeypatch: pytest.MonkeyPatch) -> None:
    docker = Docker({})
    monkeypatch.setattr(inspection, "docker", docker.docker)
    monkeypatch.setattr(inspection, "find", lambda _: None)
    with inspection.had("registry.example.org/shop:1", ImageRequest(name="x")) as (image, origin):
        assert (image, origin) == ("registry.example.org/shop:1", ("fastapi_image_name", "registry.example.org/shop:1"))
    assert docker.calls == ["pull --quiet registry.example.org/shop:1", "image rm registry.example.org/shop:1"]


def test_an_image_that_another_inspection_uses_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def docker(*words: str, **_: object) -> str:
        if words[:2] == ("image", "rm"):
            raise ImageError("conflict: unable to remove repository reference (must force)")
        return ""

    monkeypatch.setattr(inspection, "docker", docker)
    monkeypatch.setattr(inspection, "find", lambda _: None)
    with inspection.had("registry.example.org/shop:1", ImageRequest(name="x")) as (image, _):
        assert image


@pytest.mark.parametrize(
    ("what", "name"),
    [("registry.example.org:5000/Team/My_Shop:1.2", "my-shop"), ("tiles@sha256:00", "tiles"), ("2048:1", "app-2048")],
)
def test_the_app_is_named_as_what_it_is_made_of(what: str, name: str) -> None:
    assert app_name(what) == name
    assert re.fullmatch("[a-z][a-z0-9-]*", name)
