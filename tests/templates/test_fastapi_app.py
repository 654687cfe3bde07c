"""What the rendered files of a release say, for both runtimes."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.module_utils.host.files import parse
from ansible_collections.slipway.fleet.plugins.module_utils.release.beside import Process, processes_of
from ansible_collections.slipway.fleet.plugins.module_utils.release.by_image import UNMOVED, by_image
from ansible_collections.slipway.fleet.plugins.module_utils.release.compose import BESIDE_WEB, commands_web
from ansible_collections.slipway.fleet.plugins.module_utils.release.jobs import Job, jobs_of

from tests.templates.rendering import Role

PASSWORD = "planted-secret-0123456789"
KEY = "0123456789abcdef" * 4


def role(runtime: str = "systemd", **variables: Any) -> Role:
    return Role(
        "fastapi_app",
        **{
            "fastapi_app_name": "links",
            "fastapi_app_runtime": runtime,
            "fastapi_app_image": "slipway/links:0123456789ab",
            "fastapi_app_image_content": KEY,
            "fastapi_app_package_content": KEY,
            "fastapi_app_command": ["gunicorn", "app.main:app"],
            "fastapi_app_secrets": {"SECRET_KEY": PASSWORD, "DATABASE_PASSWORD": PASSWORD},
            "fastapi_app_environment": {"PRICE": '5 % of "$9"'},
            **variables,
        },
    )


def unit(**variables: Any) -> dict[str, list[str]]:
    """The directives of the unit, each with its lines."""
    found: dict[str, list[str]] = {}
    for line in role(**variables).render("unit.service.j2").splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def one(name: str, **variables: Any) -> str:
    (value,) = unit(**variables)[name]
    return value


def test_the_unit_runs_the_package_as_the_image_would() -> None:
    assert one("ExecStart").endswith(' "gunicorn" "app.main:app"')
    assert one("WorkingDirectory") == "/srv"
    assert one("BindReadOnlyPaths") == "/opt/slipway/links/packages/0123456789ab/srv:/srv"
    assert one("ExecSearchPath").startswith("/opt/slipway/links/packages/0123456789ab/venv/bin:")


def test_what_the_environment_says_reaches_the_app_as_it_is() -> None:
    environment = unit()["Environment"]
    assert '"PRICE=5 %% of \\"$9\\""' in environment
    assert '"RELEASE_ID=@RELEASE@"' in environment
    assert '"GUNICORN_BIND=unix:/run/slipway/links/@SLOT@/app.sock"' in environment


def test_secrets_are_credentials() -> None:
    assert unit()["LoadCredential"] == [
        "DATABASE_PASSWORD:/opt/slipway/links/releases/@RELEASE@/secrets/DATABASE_PASSWORD",
        "SECRET_KEY:/opt/slipway/links/releases/@RELEASE@/secrets/SECRET_KEY",
    ]
    assert PASSWORD not in role().render("unit.service.j2")
    assert "LoadCredential" not in unit(fastapi_app_secrets={})
    assert "ExecStartPre" not in unit(fastapi_app_secrets={})


def test_a_launcher_makes_variables_of_secrets() -> None:
    launched = one("ExecStart")
    assert launched.startswith('"/bin/sh" "-c" "')
    assert launched.endswith(' "slipway-launch" "gunicorn" "app.main:app"')
    plain = '"gunicorn" "app.main:app"'
    assert one("ExecStart", fastapi_app_secrets_as=["files"]) == one("ExecStart", fastapi_app_secrets={}) == plain
    line = "x-slipway-secrets: variables"
    assert line in role("compose").render("compose.yaml.j2").splitlines()
    assert line not in role("compose", fastapi_app_secrets={}).render("compose.yaml.j2")
    assert line not in role("compose", fastapi_app_secrets_as=["files"]).render("compose.yaml.j2")


def test_the_limits() -> None:
    limits = unit(fastapi_app_memory_mib=300, fastapi_app_cpus=1.5, fastapi_app_pids=99, fastapi_app_stop_grace=50)
    assert limits["MemoryMax"] == ["300M"]
    assert limits["CPUQuota"] == ["150%"]
    assert limits["TasksMax"] == ["99"]
    assert limits["TimeoutStopSec"] == ["50"]
    assert limits["OOMPolicy"] == ["continue"]
    assert limits["LimitNOFILE"] == ["65536"]


def test_the_filter_of_system_calls_begins_with_what_is_allowed() -> None:
    assert unit()["SystemCallFilter"][0] == "@system-service"


def test_each_directive_has_a_switch() -> None:
    assert one("MemoryDenyWriteExecute") == "yes"
    found = unit(
        fastapi_app_hardening={"MemoryDenyWriteExecute": False, "ProcSubset": None, "ProtectHome": "read-only"}
    )
    assert found["MemoryDenyWriteExecute"] == ["no"]
    assert "ProcSubset" not in found
    assert found["ProtectHome"] == ["read-only"]
    assert found["NoNewPrivileges"] == ["yes"], "the others stay"


def test_without_addresses_there_is_no_network() -> None:
    assert "PrivateNetwork" not in unit()
    assert "10.0.0.0/8" in one("IPAddressAllow")
    found = unit(fastapi_app_addresses=[])
    assert found["PrivateNetwork"] == ["yes"]
    assert found["RestrictAddressFamilies"] == ["AF_UNIX"]
    assert "IPAddressAllow" not in found


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Where this machine has systemd's own check; a line that it does not know is a warning there."""
    text = role(fastapi_app_command=["/bin/true"]).render("unit.service.j2")
    path = tmp_path / "slipway-links@blue.service"
    path.write_text(
        text.replace("@RELEASE@", "0123456789ab")
        .replace("@SLOT@", "blue")
        .replace("ExecStartPre=sh", "ExecStartPre=/bin/sh")
    )
    try:
        result = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return
    assert not [line for line in result.stderr.splitlines() if path.name in line and "Unknown" in line]


def test_the_user_is_named_after_the_app() -> None:
    assert 'u slipway-links 10001 "links" / /usr/sbin/nologin' in role().render("sysusers.conf.j2")


@pytest.mark.parametrize(("runtime", "rendered"), [("compose", "compose.yaml"), ("systemd", "unit.service")])
def test_a_release_is_staged_for_its_runtime(runtime: str, rendered: str) -> None:
    """By the rendered file the host knows the runtime of a release."""
    files = [
        Path(item["dest"]).name
        for item in role(runtime, fastapi_app_release="0123456789ab").value("__fastapi_app_files")
        if "dest" in item
    ]
    assert rendered in files
    assert ("unit.service" in files) != ("compose.yaml" in files)


@pytest.mark.parametrize(("runtime", "rendered"), [("compose", "compose.yaml"), ("systemd", "unit.service")])
def test_a_release_is_named_by_the_text_that_is_written(runtime: str, rendered: str) -> None:
    wanted = role(runtime)
    assert wanted.value("__fastapi_app_config") == wanted.render(f"{rendered}.j2")
    assert wanted.value(f"lookup('ansible.builtin.template', '{rendered}.j2')") == wanted.render(f"{rendered}.j2")


def web(**variables: Any) -> dict[str, Any]:
    """The service of a slot."""
    found: dict[str, Any] = yaml.safe_load(role("compose", **variables).render("compose.yaml.j2"))["services"]["web"]
    return found


def test_a_container_is_told_what_the_inventory_says() -> None:
    environment = web(fastapi_app_environment={"NO": ["a$b"], "GUNICORN_WORKERS": None, "HOME": "/data"})["environment"]
    assert environment["NO"] == '["a$$b"]'
    assert environment["HOME"] == "/data"
    assert environment["RELEASE_SLOT"] == "${SLIPWAY_SLOT}"
    assert "GUNICORN_WORKERS" not in environment
    assert web()["environment"]["HOME"] == "/tmp"
    assert '"HOME=/tmp"' in unit()["Environment"]


def test_a_container_runs_the_command_or_that_of_its_image() -> None:
    assert web(fastapi_app_command=["echo", "$HOME"])["command"] == ["echo", "$$HOME"]
    assert "command" not in web(fastapi_app_command=[])


def test_the_limits_of_a_container() -> None:
    found = web()
    assert (found["cpu_quota"], found["cpu_period"], "cpus" in found) == (200000, 100000, False)
    assert found["ulimits"] == {"nofile": "${SLIPWAY_OPEN_FILES:-65536}"}
    assert (found["read_only"], found["tmpfs"]) == (True, ["/tmp:mode=1777,noexec,nosuid,size=64m"])
    found = web(fastapi_app_read_only=False, fastapi_app_tmp_mib=200)
    assert (found["read_only"], found["tmpfs"]) == (False, ["/tmp:mode=1777,noexec,nosuid,size=200m"])


@pytest.mark.parametrize(
    ("allowed", "said", "words"),
    [
        (False, ["--yes"], ["alembic", "upgrade"]),
        (True, ["--yes"], ["alembic", "upgrade", "--yes"]),
        (True, [], ["alembic", "upgrade"]),
    ],
)
def test_a_migration_is_told_what_it_knows(allowed: bool, said: list[str], words: list[str]) -> None:
    found = role(
        fastapi_app_migrate_command=["alembic", "upgrade"],
        fastapi_app_allow_destructive=allowed,
        fastapi_app_allow_destructive_arguments=said,
    ).value("__fastapi_app_target_new.migrate")
    assert found == words


@pytest.mark.parametrize(("said", "allowed"), [(False, False), (True, True), ("false", False), ("true", True)])
def test_an_app_with_alembic_says_where_it_is(said: bool | str, allowed: bool) -> None:
    """A word on the command line arrives as a text."""
    app = role(fastapi_app_migrations="./backend", fastapi_app_allow_destructive=said)
    assert app.value("__fastapi_app_target_present.migrations") == "./backend"
    assert app.value("__fastapi_app_target_new.allow_destructive") is allowed
    assert app.value("__fastapi_app_target_new.migrate") == []


def test_a_container_sees_the_sockets_that_are_named() -> None:
    volumes = web(fastapi_app_socket_directories=["/run/postgresql"])["volumes"]
    assert {"type": "bind", "source": "/run/postgresql", "target": "/run/postgresql", "read_only": True} in volumes


def gate_file(**variables: Any) -> tuple[int, dict[str, str]]:
    """Where among the files of a release the one stands that says how it is looked at, and what it says."""
    files = role("compose", **variables).value("__fastapi_app_files")
    ((place, found),) = [(place, item) for place, item in enumerate(files) if item["dest"].endswith("/gate.json")]
    return place, json.loads(found["content"])


def test_how_a_release_is_looked_at_is_kept_with_it() -> None:
    _, usual = gate_file()
    assert usual == {
        "path": "/readyz", "version_path": "", "statuses": "200-299", "host": "localhost", "proto": "http", "port": 0,
    }  # fmt: skip
    _, found = gate_file(
        fastapi_app_health_path="/health/?full=1",
        fastapi_app_health_statuses=["200", "401-403"],
        fastapi_app_host_names=["links.example.org", "l.example.org"],
        haproxy_tls_certificate="there is one",
    )
    assert found == {
        "path": "/health/?full=1", "version_path": "", "statuses": "200,401-403", "host": "links.example.org",
        "proto": "https", "port": 0,
    }  # fmt: skip


VOLUMES = {"uploads": "/data/uploads", "media": "/srv/media"}


def test_a_container_has_its_volumes_and_the_host_says_who_it_is() -> None:
    text = role("compose", fastapi_app_volumes=VOLUMES, fastapi_app_user="shop").render("compose.yaml.j2")
    found = yaml.safe_load(text)
    assert [volume["target"] for volume in found["services"]["web"]["volumes"]][-2:] == ["/srv/media", "/data/uploads"]
    assert found["services"]["web"]["volumes"][-1] == {
        "type": "bind", "source": "/var/lib/slipway/links/volumes/uploads", "target": "/data/uploads",
        "bind": {"create_host_path": False},
    }  # fmt: skip
    assert found["services"]["web"]["user"] == "${SLIPWAY_USER:-10001:10001}"
    assert 'x-slipway-user: {"user": "shop", "otherwise": 10001}\n' in text


def test_a_unit_has_its_volumes_and_waits_for_the_disks_that_they_are_on() -> None:
    found = unit(fastapi_app_volumes=VOLUMES)
    assert found["BindPaths"][1:] == [
        "/var/lib/slipway/links/volumes/media:/srv/media",
        "/var/lib/slipway/links/volumes/uploads:/data/uploads",
    ]
    assert found["RequiresMountsFor"] == ["/var/lib/slipway/links/volumes/media /var/lib/slipway/links/volumes/uploads"]
    assert "RequiresMountsFor" not in unit()


def test_static_files_are_those_that_the_host_has_made_for_the_release() -> None:
    container = role("compose", fastapi_app_assets=["/srv/app/static"])
    found = yaml.safe_load(container.render("compose.yaml.j2"))["services"]["web"]["volumes"][-1]
    assert found == {
        "type": "bind", "source": "./assets/served/srv/app/static", "target": "/srv/app/static", "read_only": True,
        "bind": {"create_host_path": False},
    }  # fmt: skip
    root = "/opt/slipway/links/releases/@RELEASE@/assets/served"
    assert f"{root}/srv/app/static:/srv/app/static" in unit(fastapi_app_assets=["/srv/app/static"])["BindReadOnlyPaths"]
    files = {Path(item["dest"]).name: item.get("content") for item in container.value("__fastapi_app_files")}
    assert json.loads(files["keeps.json"])["assets"] == ["/srv/app/static"]


@pytest.mark.parametrize("runtime", ["compose", "systemd"])
def test_what_a_release_keeps_is_kept_with_it_and_names_it(runtime: str) -> None:
    usual = role(runtime)
    alone = role(runtime, fastapi_app_volumes=VOLUMES, fastapi_app_slots_overlap=False)
    files = {Path(item["dest"]).name: item.get("content") for item in alone.value("__fastapi_app_files")}
    assert json.loads(files["keeps.json"]) == {"volumes": VOLUMES, "overlap": False}
    other = role(runtime, fastapi_app_volumes=VOLUMES)
    names = [one.value("__fastapi_app_release") for one in (usual, alone, other)]
    assert len(set(names)) == 3
    needs = alone.value("__fastapi_app_needs")
    assert (needs["overlap"], needs["user"]) == (False, "")


def test_no_release_is_without_it() -> None:
    """A crash between two files leaves one that is none yet."""
    files = [Path(item["dest"]).name for item in role("compose").value("__fastapi_app_files")]
    assert max(files.index("gate.json"), files.index("keeps.json")) < files.index("compose.yaml")


def test_how_it_is_looked_at_names_the_release() -> None:
    usual, other = role(), role(fastapi_app_health_path="/healthz")
    assert usual.value("__fastapi_app_release") != other.value("__fastapi_app_release")
    times = role(fastapi_app_gate_deadline=7)
    assert usual.value("__fastapi_app_release") == times.value("__fastapi_app_release")
    assert times.value("__fastapi_app_gate") == {
        "path": "/readyz", "version_path": "", "statuses": "200-299", "host": "localhost", "proto": "http",
        "passes": 3, "interval": 1, "deadline": 7,
    }  # fmt: skip


def environment(text: str) -> dict[str, str]:
    """What a rendered Compose file or unit tells the app."""
    if "services:" in text:
        return {name: str(value) for name, value in yaml.safe_load(text)["services"]["web"]["environment"].items()}
    lines = (shlex.split(line.partition("=")[2]) for line in text.splitlines() if line.startswith("Environment="))
    return dict(word.partition("=")[::2] for line in lines for word in line)


SOCKETS = "/run/slipway/links"
ALL = "0.0.0.0"  # noqa: S104 - of the container


@pytest.mark.parametrize(
    ("runtime", "port", "told"),
    [
        ("compose", 0, {"GUNICORN_BIND": f"unix:{SOCKETS}/${{SLIPWAY_SLOT}}/app.sock",
                        "UVICORN_UDS": f"{SOCKETS}/${{SLIPWAY_SLOT}}/app.sock",
                        "GRANIAN_UDS": f"{SOCKETS}/${{SLIPWAY_SLOT}}/app.sock", "GRANIAN_UDS_PERMISSIONS": "0666"}),
        ("systemd", 0, {"GUNICORN_BIND": f"unix:{SOCKETS}/@SLOT@/app.sock",
                        "UVICORN_UDS": f"{SOCKETS}/@SLOT@/app.sock",
                        "GRANIAN_UDS": f"{SOCKETS}/@SLOT@/app.sock", "GRANIAN_UDS_PERMISSIONS": "0666"}),
        ("compose", 8000, {"GUNICORN_BIND": "0.0.0.0:8000", "HOST": ALL, "PORT": "8000",
                           "UVICORN_HOST": ALL, "UVICORN_PORT": "8000",
                           "GRANIAN_HOST": ALL, "GRANIAN_PORT": "8000"}),
        ("systemd", 8000, {"GUNICORN_BIND": "127.0.0.1:@PORT@", "HOST": "127.0.0.1", "PORT": "@PORT@",
                           "UVICORN_HOST": "127.0.0.1", "UVICORN_PORT": "@PORT@",
                           "GRANIAN_HOST": "127.0.0.1", "GRANIAN_PORT": "@PORT@"}),
    ],
)  # fmt: skip
def test_the_app_is_told_where_to_listen(runtime: str, port: int, told: dict[str, str]) -> None:
    template = {"compose": "compose.yaml.j2", "systemd": "unit.service.j2"}[runtime]
    found = environment(role(runtime, fastapi_app_port=port, fastapi_app_workers=3).render(template))
    where = re.compile("GUNICORN_BIND|(UVICORN_|GRANIAN_)?(HOST|PORT)|(UVICORN|GRANIAN)_UDS.*")
    assert {name: value for name, value in found.items() if where.fullmatch(name)} == told
    assert {found[name] for name in ("WEB_CONCURRENCY", "GUNICORN_WORKERS", "GRANIAN_WORKERS")} == {"3"}
    mine = role(runtime, fastapi_app_port=port, fastapi_app_environment={"PORT": "9", "WEB_CONCURRENCY": "1"})
    found = environment(mine.render(template))
    assert (found["PORT"], found["WEB_CONCURRENCY"]) == ("9", "1")


def test_a_port_of_a_container_is_published_on_loopback_alone() -> None:
    assert "ports" not in yaml.safe_load(role("compose").render("compose.yaml.j2"))["services"]["web"]
    web = yaml.safe_load(role("compose", fastapi_app_port=80).render("compose.yaml.j2"))["services"]["web"]
    (published,) = web["ports"]
    assert (published["host_ip"], published["published"], published["target"]) == ("127.0.0.1", "${SLIPWAY_PORT}", 80)


def test_a_unit_with_a_port_answers_over_loopback_whatever_it_may_talk_to() -> None:
    assert one("IPAddressAllow", fastapi_app_port=1, fastapi_app_addresses=["10.0.0.0/8"]) == "10.0.0.0/8 localhost"
    found = unit(fastapi_app_port=1, fastapi_app_addresses=[])
    assert found["IPAddressAllow"] == ["localhost"]
    assert found["IPAddressDeny"] == ["any"]
    assert "PrivateNetwork" not in found
    assert "AF_INET " in found["RestrictAddressFamilies"][0]
    assert one("ExecStart", fastapi_app_port=1, fastapi_app_command=["a", "@PORT@"]).endswith('"a" "@PORT@"')
    assert one("ExecStart", fastapi_app_command=["a", "@PORT@"]).endswith('"a" "\\x40PORT\\x40"')


@pytest.mark.parametrize("runtime", ["compose", "systemd"])
def test_a_release_says_by_which_door_it_is_reached(runtime: str) -> None:
    of_port, of_socket = (
        role(runtime, fastapi_app_release="0123456789ab", fastapi_app_port=port) for port in (8000, 0)
    )
    for found, port in ((of_port, 8000), (of_socket, 0)):
        (gate,) = [item for item in found.value("__fastapi_app_files") if item["dest"].endswith("/gate.json")]
        assert json.loads(gate["content"])["port"] == port
    names = {role(runtime, fastapi_app_port=port).value("__fastapi_app_config") for port in (0, 8000, 9000)}
    assert len(names) == 3, "another port is another release"
    assert role(runtime, fastapi_app_port=8000).value("__fastapi_app_target.look.port") == 8000


PROCESSES = {
    "worker": {"command": ["celery", "--app", "src.$x"], "replicas": 2, "stop_grace": 300, "environment": {"A": True}},
    "beat": {"command": ["celery", "beat"], "singleton": True, "memory_mib": 128, "cpus": 0.5},
}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"fastapi_app_processes": PROCESSES, "fastapi_app_command": []},
        {"fastapi_app_environment": {"PORT": "9", "UVICORN_UDS": "/run/slipway/app.sock", "GUNICORN_BIND": "$x"}},
    ],
    ids=["usual", "with processes", "told by the inventory"],
)
def test_a_release_whose_image_says_the_port_is_as_one_whose_inventory_does(more: dict[str, Any]) -> None:
    """A host makes the one of the other, since it alone has the image."""
    given = {"fastapi_app_release": "0123456789ab", **more}
    wanted, staged = role("compose", fastapi_app_port=80, **given), role("compose", **given)
    items = parse(
        [
            {"dest": f"/opt/slipway/links/releases/0123456789ab/{name}", "mode": "0644"}
            for name in ("gate.json", "compose.yaml")
        ],
        {"0": staged.value("__fastapi_app_looked_at"), "1": staged.render("compose.yaml.j2")},
    )
    asked: list[str] = []

    def exposed(image: str) -> list[str]:
        asked.append(image)
        return ["80/tcp", "53/udp"]

    (gate, compose), port = by_image(items, exposed)
    assert (port, asked) == (80, ["slipway/links:0123456789ab"])
    assert gate.content.decode() == wanted.value("__fastapi_app_looked_at")
    assert yaml.safe_load(compose.content) == yaml.safe_load(wanted.render("compose.yaml.j2"))
    for ports in ([], ["80/tcp", "443/tcp"], ["53/udp"]):
        assert by_image(items, lambda image, ports=ports: ports) == (items, 0)  # type: ignore[misc]


def test_an_app_can_stay_on_its_socket_whatever_its_image_exposes() -> None:
    usual, unmoved = (
        role("compose", fastapi_app_port_by_image=given, fastapi_app_release="0123456789ab") for given in (True, False)
    )
    assert UNMOVED not in usual.render("compose.yaml.j2")
    assert usual.value("__fastapi_app_config") != unmoved.value("__fastapi_app_config"), "it is another release"
    texts = {"0": unmoved.value("__fastapi_app_looked_at"), "1": unmoved.render("compose.yaml.j2")}
    files = [{"dest": f"/o/links/releases/1/{name}", "mode": "0644"} for name in ("gate.json", "compose.yaml")]
    assert by_image(parse(files, texts), lambda image: ["80/tcp"])[1] == 0
    assert UNMOVED not in role("compose", fastapi_app_port=80, fastapi_app_port_by_image=False).render(
        "compose.yaml.j2"
    )


def test_a_process_is_a_service_with_all_that_the_web_process_has() -> None:
    web, beside = (
        yaml.safe_load(role("compose", fastapi_app_port=8000, **more).render("compose.yaml.j2"))["services"]
        for more in ({}, {"fastapi_app_processes": PROCESSES})
    )
    assert beside["web"] == web["web"]
    worker, beat = beside["worker"], beside["beat"]
    assert worker["command"] == ["celery", "--app", "src.$$x"]
    assert worker["environment"] == web["web"]["environment"] | {"RELEASE_PROCESS": "worker", "A": "true"}
    assert worker["labels"] == web["web"]["labels"] | {"slipway.process": "worker"}
    assert (worker["stop_grace_period"], worker["mem_limit"]) == ("300s", "512m")
    assert (beat["mem_limit"], beat["memswap_limit"], beat["cpu_quota"]) == ("128m", "128m", 50000)
    assert (worker["ports"], worker["healthcheck"], worker["init"]) == ([], {"disable": True}, True)
    for name in ("image", "volumes", "networks", "user", "read_only", "tmpfs", "cap_drop", "security_opt", "restart"):
        assert worker[name] == beat[name] == web["web"][name]


def test_the_services_of_processes_come_after_the_mark_that_the_host_looks_for() -> None:
    text = role("compose", fastapi_app_command=[], fastapi_app_processes=PROCESSES).render("compose.yaml.j2")
    assert BESIDE_WEB in text.splitlines()
    assert not commands_web(text.splitlines()), "a process has a command, the web process that of its image"
    assert commands_web(role("compose", fastapi_app_processes=PROCESSES).render("compose.yaml.j2").splitlines())


@pytest.mark.parametrize("runtime", ["compose", "systemd"])
def test_what_runs_beside_it_is_declared_by_the_release_and_names_it(runtime: str, tmp_path: Path) -> None:
    found = role(runtime, fastapi_app_release="0123456789ab", fastapi_app_processes=PROCESSES)
    (file,) = found.value("__fastapi_app_process_files")
    assert file["dest"] == "/opt/slipway/links/releases/0123456789ab/processes.json"
    (tmp_path / "one").mkdir()
    (tmp_path / "one/processes.json").write_text(file["content"])
    declared = processes_of(tmp_path, "one")
    assert declared["worker"] == Process(
        ["celery", "--app", "src.$x"], 2, stop_grace=300, memory_mib=512, cpus=2.0, environment={"A": "true"}
    )
    assert declared["beat"] == Process(["celery", "beat"], singleton=True, stop_grace=45, memory_mib=128, cpus=0.5)
    other = {"worker": {**PROCESSES["worker"], "replicas": 3}, "beat": PROCESSES["beat"]}
    ids = {role(runtime, fastapi_app_processes=more).value("__fastapi_app_release") for more in ({}, PROCESSES, other)}
    assert len(ids) == 3


JOBS = {"nightly": {"command": ["count", "$all", 7], "schedule": "*-*-* 03:00", "limit": 60}}


@pytest.mark.parametrize("runtime", ["compose", "systemd"])
def test_jobs_are_declared_by_the_release_and_name_it(runtime: str, tmp_path: Path) -> None:
    found = role(runtime, fastapi_app_release="0123456789ab", fastapi_app_jobs=JOBS)
    (file,) = found.value("__fastapi_app_job_files")
    assert file["dest"] == "/opt/slipway/links/releases/0123456789ab/jobs.json"
    assert file in found.value("__fastapi_app_target.files")
    (tmp_path / "one").mkdir()
    (tmp_path / "one/jobs.json").write_text(file["content"])
    assert jobs_of(tmp_path, "one") == {"nightly": Job(["count", "$all", 7], "*-*-* 03:00", 60)}  # type: ignore[list-item]
    assert found.value("__fastapi_app_target.look.jobs") == JOBS
    later = {"nightly": {**JOBS["nightly"], "schedule": "*-*-* 04:00"}}
    ids = {role(runtime, fastapi_app_jobs=jobs).value("__fastapi_app_release") for jobs in ({}, JOBS, later)}
    assert len(ids) == 3
    assert "jobs.json" not in str(role(runtime).value("__fastapi_app_target.files"))


def test_singletons_run_on_the_first_host_or_on_the_one_that_is_named() -> None:
    assert role("compose").value("__fastapi_app_place")["singletons"]
    assert not role("compose", inventory_hostname="web2").value("__fastapi_app_place")["singletons"]
    named = role("compose", inventory_hostname="web2", fastapi_app_singleton_host="web2")
    assert named.value("__fastapi_app_place")["singletons"]


def metadata(**variables: Any) -> str:
    return role(**variables).render("metadata_app.nft.j2")


def test_the_metadata_service_is_shut_to_the_user_and_to_the_networks_of_an_app() -> None:
    assert metadata(fastapi_app_uid=10007).splitlines()[1:] == ["add element inet slipway_metadata users { 10007 }"], (
        "a host without Docker has no networks"
    )
    found = metadata(fastapi_app_bridges_result={"stdout_lines": ["br-0123456789ab", "own"]})
    assert 'add element inet slipway_metadata bridges { "br-0123456789ab", "own" }' in found.splitlines()


def test_a_unit_reaches_the_metadata_service_only_where_that_is_wanted() -> None:
    assert "169.254.169.254" not in one("IPAddressAllow")
    opened = one("IPAddressAllow", fastapi_app_instance_metadata=True).split()
    assert {"10.0.0.0/8", "169.254.169.254", "fd00:ec2::254"} < set(opened)
    alone = unit(fastapi_app_instance_metadata=True, fastapi_app_addresses=[])
    assert "PrivateNetwork" not in alone
    assert "169.254.169.254" in alone["IPAddressAllow"][0].split()
