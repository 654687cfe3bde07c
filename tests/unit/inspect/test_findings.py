"""Server, health path and lines, by what was seen of an image."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.rules.volumes import volumes
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.findings import (
    health_check_path,
    health_path,
    server,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.lines import Found, lines, problem
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.trial import Answer, Seen, Shipped, Trial

from tests.templates.rendering import Role

ROLE = Path(__file__).resolve().parents[3] / "roles/fastapi_app"
OPENAPI = json.dumps(
    {"paths": {"/items/{id}/status": {"get": {}}, "/v2/ready": {"get": {}}, "/health-x": {"post": {}}}}
)
GOOD = Answer(200)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("CMD-SHELL curl -f http://localhost:8000/healthz || exit 1", "/healthz"),
        ("CMD wget -q -O - http://127.0.0.1/live?deep=1", "/live?deep=1"),
        ("CMD python check.py", ""),
    ],
)
def test_the_image_may_say_how_it_is_looked_at(text: str, path: str) -> None:
    assert health_check_path(Shipped(health_check=text)) == path


@pytest.mark.parametrize(
    ("shipped", "answers", "path", "word"),
    [
        (
            Shipped(health_check="CMD curl http://localhost/own"),
            {"/own": GOOD, "/healthz": GOOD},
            "/own",
            "HEALTHCHECK",
        ),
        (Shipped(health_check="CMD curl http://localhost/own"), {"/own": Answer(503), "/ping": GOOD}, "/ping", "usual"),
        (Shipped(), {"/v2/ready": GOOD, "/healthz": GOOD}, "/v2/ready", "openapi.json"),
        (Shipped(), {"/health": Answer(307, "/health/"), "/health/": GOOD}, "/health/", "usual name"),
        (Shipped(), {"/": GOOD, "/docs": GOOD}, "/", "no path of the usual names"),
        (Shipped(), {"/v2/ready": Answer(500), "/docs": GOOD}, "/docs", "but /v2/ready is there and answered 500"),
        (Shipped(), {"/ready": Answer(404), "/healthz": Answer(503), "/": GOOD}, "/", "but /healthz is there"),
        (Shipped(), {"/": Answer(404)}, "", ""),
        (Shipped(named_path="/simple/"), {"/simple/": GOOD, "/healthz": GOOD}, "/simple/", "you named it"),
        (Shipped(named_path="/simple/"), {"/simple/": Answer(404), "/healthz": GOOD}, "/healthz", "usual"),
    ],
)
def test_the_path_that_tells_most_is_taken(shipped: Shipped, answers: dict[str, Answer], path: str, word: str) -> None:
    found, why = health_path(shipped, answers, OPENAPI)
    assert found == path
    assert word in why
    assert ("but" in why) == ("but" in word)


@pytest.mark.parametrize(
    ("commands", "name"),
    [
        ((("/usr/local/bin/python3", "/usr/local/bin/uvicorn", "shop:app"),), "uvicorn"),
        ((("gunicorn: master [board:app]",), ("gunicorn: worker [board:app]",)), "gunicorn"),
        ((("python", "-m", "granian", "x:app"),), "granian"),
        ((("/usr/bin/python3", "/usr/local/bin/hypercorn", "--config", "h.toml", "feed:app"),), "hypercorn"),
        ((("python3", "-m", "uvicorn", "depot:app"), ("/usr/bin/python3.13", "-c", "spawn_main")), "uvicorn"),
        ((("/bin/sh", "-c", "x"), ("python", "/bin/fastapi", "run"), ("python", "-c", "spawn_main")), "fastapi"),
        ((("python", "main.py"),), ""),
    ],
)
def test_the_server_is_known_by_its_words(commands: tuple[tuple[str, ...], ...], name: str) -> None:
    assert server(Seen(running=True, commands=commands)) == name


USUAL = Trial((10001, 10001), memory_mib=512)
SEEN = Seen(
    running=True, listening=("tcp port 80",), commands=(("uvicorn",),), answers={"/": GOOD}, seconds=2.04, memory_mib=90
)
FOUND = Found(
    "tiles",
    ("fastapi_image_context", "/srv/tiles"),
    Shipped(ports=(80,)),
    USUAL,
    replace(USUAL, port=80),
    SEEN,
    "/",
    "it answers",
)


def test_the_simplest_app_is_five_lines() -> None:
    text = lines(FOUND)
    assert yaml.safe_load(text) == {
        "fastapi_app_name": "tiles",
        "fastapi_app_host_names": ["tiles.example.org"],
        "fastapi_image_context": "/srv/tiles",
        "fastapi_app_port": 80,
        "fastapi_app_health_path": "/",
    }
    said = [line for line in text.splitlines() if not line.startswith("#")]
    assert all("  # " in line for line in said), "each has its reason"
    assert "uvicorn in 1 processes" in text
    assert "2.0 s after its start, and has 90 MiB at rest" in text


def test_the_stage_that_was_built_and_a_socket_beside_an_expose_are_lines() -> None:
    staged = yaml.safe_load(
        lines(replace(FOUND, built=[("fastapi_image_target", "production", "the last stage is dev")]))
    )
    assert staged == yaml.safe_load(lines(FOUND)) | {"fastapi_image_target": "production"}
    said = yaml.safe_load(lines(replace(FOUND, trial=USUAL)))
    assert "fastapi_app_port" not in said
    assert said["fastapi_app_port_by_image"] is False
    assert "fastapi_app_port_by_image" not in lines(replace(FOUND, trial=USUAL, shipped=Shipped(ports=(80, 90))))


def test_an_app_that_takes_files_has_a_line_with_their_room() -> None:
    form = {"multipart/form-data": {"schema": {"properties": {"file": {"type": "string", "format": "binary"}}}}}
    document = json.dumps({"openapi": "3.1.0", "paths": {"/files": {"post": {"requestBody": {"content": form}}}}})
    seen = replace(SEEN, answers={"/": GOOD, "/openapi.json": Answer(200, "", document)})
    text = lines(replace(FOUND, seen=seen))
    assert yaml.safe_load(text)["fastapi_app_tmp_mib"] == Role("fastapi_app").value("fastapi_app_tmp_mib")
    assert "POST /files takes files, which lie in /tmp while they come" in text


def test_every_other_line_is_there_for_what_was_seen() -> None:
    trial = Trial(
        (0, 0),
        1024,
        port=80,
        read_only=False,
        proto="https",
        workers=1,
        variables={"LOG_LEVEL": "placeholder", "SECRET_KEY": "x"},
    )
    seen = replace(
        SEEN, seconds=31.0, memory_mib=700, alembic="/app", assets=("/app/static",), written=("/app/started.txt",)
    )
    text = lines(replace(FOUND, trial=trial, seen=seen, origin=("fastapi_image_name", "shop:1")))
    said = yaml.safe_load(text)
    assert {name: said[name] for name in sorted(said) if name not in yaml.safe_load(lines(FOUND))} == {
        "fastapi_app_assets": ["/app/static"],
        "fastapi_app_edge_scheme": "https",
        "fastapi_app_environment": {"LOG_LEVEL": ""},
        "fastapi_app_gate_deadline": 93,
        "fastapi_app_memory_mib": 1408,
        "fastapi_app_migrations": "/app",
        "fastapi_app_read_only": False,
        "fastapi_app_secrets": {"SECRET_KEY": "{{ vault_secret_key }}"},
        "fastapi_app_user": "root",
        "fastapi_app_workers": 1,
        "fastapi_image_name": "shop:1",
        "fastapi_image_source": "ship",
    }
    pulled = replace(FOUND, origin=("fastapi_image_name", "shop:1"), shipped=Shipped(in_registry=True))
    assert yaml.safe_load(lines(pulled))["fastapi_image_source"] == "pull"
    assert "user 10001 may not use files that it needs" in text
    assert "it writes to /app/started.txt, which is lost with each release\n" in text


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            ("/app/data/a.db", "/app/data/a.db-wal", "/home/shop/Cache.d/x"),
            "{data: /app/data, cache-d: /home/shop/Cache.d}",
        ),
        # The role takes no path with a dot first or a space.
        (("/app/data/a.db", "/home/shop/.cache/x", "/usr/src/app/my app/x", "/run/shop/x"), "{data: /app/data}"),
        (("/app/data/a/b.db", "/app/data/c.db", "/app/data-2/d.db"), "{data: /app/data, data-2: /app/data-2}"),
        (
            (
                "/app/src/__pycache__/a.pyc",
                "/opt/venv/lib/x",
                "/opt/venv/lib/python3.13/site-packages/a/b",
                "/app/bin/x",
            ),
            "",
        ),
        (("/var/lib/shop/a.db",), "{shop: /var/lib/shop}"),
        (("/app/started.txt", "/app/data/a.db"), "{data: /app/data}"),
        (("/app/a/data/1", "/app/b/data/1"), ""),
        (("/app/started.txt", "/log"), ""),
    ],
)
def test_what_is_written_has_a_volume_named_to_it(written: tuple[str, ...], said: str) -> None:
    text = lines(replace(FOUND, trial=replace(FOUND.trial, read_only=False), seen=replace(SEEN, written=written)))
    (line,) = [line for line in text.splitlines() if line.startswith("fastapi_app_read_only: false")]
    assert line.partition("fastapi_app_volumes: ")[2] == (f"{said} keeps it" if said else "")
    assert list(volumes(yaml.safe_load(said or "{}"), "compose", [])) == []


ON_SOCKET = replace(SEEN, listening=("socket /the.sock",))


@pytest.mark.parametrize(
    "found",
    [
        FOUND,
        # Plain Uvicorn goes where UVICORN_UDS says, whatever port its command names.
        replace(FOUND, shipped=Shipped(), trial=USUAL, seen=ON_SOCKET, health="/api/health"),
        replace(FOUND, shipped=Shipped(ports=(8080,), user="feed"), trial=replace(USUAL, user=(999, 999), port=8080)),
        # An image without a shell, which names its user by number and misses a secret.
        replace(
            FOUND,
            origin=("fastapi_image_name", "registry.example.org/depot:1.2"),
            shipped=Shipped(user="65532:65532", in_registry=True),
            trial=replace(USUAL, user=(65532, 65532), variables={"DEPOT_KEY": "placeholder"}),
            seen=replace(ON_SOCKET, seconds=31.0),
            health="/ready",
        ),
        replace(FOUND, trial=Trial((0, 0), 1024, port=80, read_only=False, proto="https"), health="/health/?full=1"),
    ],
    ids=["fastapi", "uvicorn", "hypercorn", "no shell", "all"],
)
def test_the_lines_are_an_inventory_of_which_a_release_is_made(found: Found) -> None:
    said = yaml.safe_load(lines(found).replace("{{ vault_depot_key }}", "a key"))
    app = {name: value for name, value in said.items() if name.startswith("fastapi_app_")}
    inputs = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    assert set(app) - set(inputs) == set()
    role = Role("fastapi_app", fastapi_app_image="shop:1", fastapi_app_image_content="0" * 64, **app)
    assert role.value("__fastapi_app_wrong_for_a_release") == []
    web = yaml.safe_load(role.render("compose.yaml.j2"))["services"]["web"]
    assert [published["target"] for published in web.get("ports", [])] == [found.trial.port] * bool(found.trial.port)
    assert json.loads(role.value("__fastapi_app_looked_at"))["path"] == found.health


@pytest.mark.parametrize(
    ("seen", "word"),
    [
        (Seen(running=False, exit_code=3), "exit code 3"),
        (Seen(running=False, exit_code=137, out_of_memory=True), "killed for its memory"),
        (Seen(running=True), "listens nowhere"),
        (Seen(running=True, log="INFO:     Child process [70] died"), "Uvicorn ended its workers while they started"),
        (Seen(running=True, log="E.ArgError: no URL\nINFO: Child process [70] died"), "it runs, and listens nowhere"),
        (Seen(running=True, listening=("tcp port 8000 on 127.0.0.1",)), "loopback alone"),
        (Seen(running=True, listening=("tcp port 80",), answers={"/": Answer(400)}), "slipway_inspect_host"),
        (Seen(running=True, listening=("tcp port 80",), answers={"/": Answer(404)}), "fastapi_app_health_path"),
        (Seen(running=True, listening=("tcp port 80",)), "answers no request"),
    ],
)
def test_what_would_not_serve_is_told(seen: Seen, word: str) -> None:
    assert word in problem(replace(FOUND, health="", seen=seen), "/the.sock")
    assert problem(FOUND, "/the.sock") == ""
