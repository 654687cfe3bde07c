"""What no release, no command and no removal of an app can be made of."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import sql_parser

from tests.unit.inputs.saying import says

# What the role has by itself, where a rule looks.
RIGHT: dict[str, Any] = {
    "fastapi_app_name": "links",
    "fastapi_app_release": "",
    "fastapi_app_host_names": ["links.example.org"],
    "fastapi_app_former_names": [],
    "fastapi_app_health_path": "/readyz",
    "fastapi_app_health_statuses": ["200-299", "401"],
    "fastapi_app_version_path": "",
    "fastapi_app_paths": [],
    "fastapi_app_strip_path": False,
    "fastapi_app_openapi_path": "/openapi.json",
    "fastapi_app_environment": {"LOG": "info"},
    "fastapi_app_secrets": {"KEY": "k3v9-real-one"},
    "fastapi_app_secrets_as": ["files", "variables"],
    "fastapi_app_socket_directories": ["/run/postgresql"],
    "fastapi_app_addresses": ["localhost", "10.0.0.0/8", "fc00::/7"],
    "fastapi_app_command": ["gunicorn"],
    "fastapi_app_processes": {"worker": {"command": ["work"]}, "beat": {"command": ["b"], "singleton": True}},
    "fastapi_app_jobs": {"nightly": {"command": ["count"], "schedule": "*-*-* 03:00 Europe/Berlin", "limit": 60}},
    "fastapi_app_singleton_host": "web1",
    "fastapi_app_fleet": ["web1", "web2"],
    "fastapi_app_port": 0,
    "fastapi_app_slot_ports": {},
    "fastapi_app_canary": {"judged": True},
    "fastapi_app_canary_unknown": "go",
    "fastapi_app_workers": 1,
    "fastapi_app_memory_mib": 64,
    "fastapi_app_cpus": 0.01,
    "fastapi_app_pids": 16,
    "fastapi_app_open_files": 256,
    "fastapi_app_tmp_mib": 1,
    "fastapi_app_migrate_command": ["alembic", "upgrade", "head"],
    "fastapi_app_migrations": "",
    "fastapi_app_rollback_check_command": [],
    "fastapi_app_allow_destructive": False,
    "fastapi_app_allow_destructive_arguments": [],
    "fastapi_app_uid": 1,
    "fastapi_app_user": "",
    "fastapi_app_volumes": {},
    "fastapi_app_assets": [],
    "fastapi_app_gate_passes": 1,
    "fastapi_app_gate_interval": 0.1,
    "fastapi_app_gate_deadline": 1,
    "fastapi_app_check_timeout": 1,
    "fastapi_app_migrate_timeout": 1,
    "fastapi_app_rehearse_limit": 1,
    "fastapi_app_before_turn": ["true"],
    "fastapi_app_after_turn": [],
    "fastapi_app_turn_timeout": 1,
    "fastapi_app_drain": 0,
    "fastapi_app_soak": 0,
    "fastapi_app_releases_kept": 1,
    "fastapi_app_log_lines": 1,
    "fastapi_app_disk_reserve": 0,
    "fastapi_app_timeout": 30,
    "fastapi_app_edge_timeout": "75",
    "fastapi_app_graceful_timeout": 40,
    "fastapi_app_stop_grace": 45,
    "fastapi_app_runtime": "compose",
    "fastapi_app_hardening": {"MemoryDenyWriteExecute": False},
    "fastapi_app_run_command": ["alembic", "current"],
    "fastapi_app_run_job": "",
    "fastapi_app_remove": "links",
    "fastapi_app_remove_volume": "uploads",
}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"fastapi_app_name": "Links"}, ['fastapi_app_name is "Links"; use at most 31 lower case']),
        ({"fastapi_app_name": "a" * 32}, ["fastapi_app_name"]),
        ({"fastapi_app_name": "../etc"}, ["fastapi_app_name"]),
        ({"fastapi_app_release": "0123456789ab"}, []),
        ({"fastapi_app_release": "../../etc"}, ["that slipway.fleet.history lists"]),
        ({"fastapi_app_health_path": "readyz"}, ["begins with a slash"]),
        ({"fastapi_app_health_path": ""}, ["fastapi_app_health_path"]),
        ({"fastapi_app_health_path": "/health/"}, []),
        ({"fastapi_app_health_path": "/health/?full=1&deep=yes"}, []),
        ({"fastapi_app_health_path": "/health|x"}, ["may end with a query such as ?full=1"]),
        ({"fastapi_app_health_path": "/health?a=1?b=2"}, ["may end with a query"]),
        ({"fastapi_app_health_statuses": ["2xx", "200"]}, ['statuses is "2xx"; use statuses such as 200 and ranges']),
        ({"fastapi_app_health_statuses": []}, ["the statuses of a good answer"]),
        ({"fastapi_app_host_names": ["https://links.example.org"]}, ["begins with a scheme; use plain names"]),
        ({"fastapi_app_host_names": []}, []),
        ({"fastapi_app_former_names": ["https://old.example.org"]}, ['fastapi_app_former_names has "https://old.']),
        ({"fastapi_app_version_path": "version"}, ["or nothing"]),
        ({"fastapi_app_openapi_path": "openapi.json"}, ["a query such as ?full=1, or nothing."]),
        ({"fastapi_app_openapi_path": ""}, []),
        ({"fastapi_app_environment": {"LOG LEVEL": "x"}}, ["a key of fastapi_app_environment"]),
        ({"fastapi_app_secrets": {"../KEY": "k3v9"}}, ["a key of fastapi_app_secrets"]),
        ({"fastapi_app_socket_directories": ["run"]}, ["absolute paths"]),
        ({"fastapi_app_addresses": ["db.example.com"]}, ["10.0.0.0/8"]),
        ({"fastapi_app_workers": 0, "fastapi_app_pids": 15}, ["workers is 0; use at least 1", "pids is 15; use"]),
        ({"fastapi_app_turn_timeout": 0}, ["fastapi_app_turn_timeout is 0; use at least 1"]),
        ({"fastapi_app_port": 65535}, []),
        *[({"fastapi_app_user": user}, []) for user in ("root", "shop", "1000", "1000:www-data")],
        ({"fastapi_app_user": "shop 5"}, ["the name or the number of a user of the image"]),
        (
            {"fastapi_app_port": 65536},
            ["fastapi_app_port is 65536; use 0 to 65535, the TCP port on which the app listens"],
        ),
        ({"fastapi_app_port": -1}, ["fastapi_app_port is -1"]),
        ({"fastapi_app_timeout": 75}, []),
    ],
)
def test_values_that_cannot_be_used_by_themselves(changed: dict[str, Any], said: list[str]) -> None:
    says("fastapi_app", RIGHT | changed, *said)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"fastapi_app_workers": 0, "fastapi_app_timeout": 75}, ["workers is 0", "timeouts do not fit"]),
        ({"fastapi_app_timeout": 75}, ["fastapi_app_timeout (75) must be smaller"]),
        (
            {"fastapi_app_paths": ["/api", "/x"], "fastapi_app_health_path": "/readyz"},
            ["fastapi_app_health_path of links is /readyz, which is at none of its paths (/api, /x): asked"],
        ),
        ({"fastapi_app_paths": ["/api"], "fastapi_app_health_path": "/api?full=1"}, []),
        ({"fastapi_app_paths": ["/api"], "fastapi_app_strip_path": True}, []),
        (
            {"fastapi_app_paths": ["/api/"], "fastapi_app_strip_path": "no"},
            ['links (paths in haproxy_apps): "/api/" can'],
        ),
        ({"fastapi_app_slot_ports": {"blue": 1024, "green": "32767"}}, []),
        ({"fastapi_app_slot_ports": {"green": 1023}}, ['{"green": 1023}; use numbers from 1024 to 32767, below those']),
        ({"fastapi_app_slot_ports": {"green": "http"}}, ["use numbers from"]),
        (
            {"fastapi_app_slot_ports": {"blue": 20010, "green": 20010}},
            ["each slot needs a port of its own, as in {blue"],
        ),
        ({"fastapi_app_slot_ports": {"red": 20010}}, ["a slot is blue or green"]),
        ({"fastapi_app_canary": {"judged": False, "requests": 20, "chance": 0.01}}, []),
        (
            {"fastapi_app_canary": {"before": 60}},
            ["fastapi_app_canary has before, which is none of judged, requests, errors"],
        ),
        ({"fastapi_app_canary": {"ms_ratio": "much"}}, ['ms_ratio is "much"; write a number from 0 on, such as 3.0']),
        ({"fastapi_app_canary": {"errors": -1}}, ["errors is -1; write a number"]),
        ({"fastapi_app_canary_unknown": "revert", "fastapi_app_before_turn": []}, []),
        (
            {"fastapi_app_canary_unknown": "hold"},
            ["fastapi_app_canary_unknown is hold and fastapi_app_before_turn takes a host out"],
        ),
        ({"fastapi_app_stop_grace": "40"}, ["fastapi_app_graceful_timeout (40) smaller than"]),
        ({"fastapi_app_secrets": {"A": "", "B": "todo"}}, ["A, B is empty or a placeholder"]),
        ({"fastapi_app_environment": {"KEY": "x"}}, ["KEY stands in fastapi_app_environment and"]),
        ({"fastapi_app_secrets_as": ["variables"]}, ["fastapi_app_secrets_as must name files"]),
        ({"fastapi_app_secrets": {"PATH": "k3v9", "KEY": "k3v9"}}, ["fastapi_app_secrets: PATH says where"]),
        ({"fastapi_app_environment": {True: "x"}}, ["a key of fastapi_app_environment is true"]),
        ({"fastapi_app_environment": {"A": "\0", "B": ["\ud800"], "C": "ü"}}, ["A, B has a character"]),
        ({"fastapi_app_command": []}, []),
        ({"fastapi_app_command": [], "fastapi_app_runtime": "systemd"}, ["fastapi_app_command is []; write"]),
        ({"fastapi_app_command": [""]}, ["the program and its arguments"]),
        ({"fastapi_app_tmp_mib": 64}, ["fastapi_app_tmp_mib (64) must be smaller than fastapi_app_memory_mib (64)"]),
        ({"fastapi_app_tmp_mib": 64, "fastapi_app_runtime": "systemd"}, []),
        ({"fastapi_app_allow_destructive": True}, ["fastapi_app_allow_destructive_arguments is empty"]),
        (
            {
                "fastapi_app_allow_destructive": True,
                "fastapi_app_allow_destructive_arguments": ["--allow-destructive"],
            },
            [],
        ),
        ({"fastapi_app_allow_destructive": True, "fastapi_app_migrate_command": []}, []),
        *[
            ({"fastapi_app_migrations": where, "fastapi_app_migrate_command": []}, [])
            for where in ("alembic", "./backend", "/app/backend/", "backend/db")
        ],
        (
            {"fastapi_app_migrations": "backend", "fastapi_app_migrate_command": []},
            ['fastapi_app_migrations is "backend"; use alembic, or the directory of alembic.ini with a slash'],
        ),
        ({"fastapi_app_migrations": "alembic"}, ["write one of them: the first for an app with Alembic"]),
        (
            {
                "fastapi_app_migrations": "alembic",
                "fastapi_app_migrate_command": [],
                "fastapi_app_rollback_check_command": ["check"],
            },
            ['fastapi_app_rollback_check_command is ["check"]; remove that'],
        ),
        ({"fastapi_app_name": "a" * 24}, []),
        ({"fastapi_app_name": "a" * 24, "fastapi_app_runtime": "systemd"}, ["24 characters"]),
        ({"fastapi_app_assets": ["/srv/app/static", "/srv/app/media"]}, []),
        ({"fastapi_app_assets": ["static"]}, ['fastapi_app_assets has "static"; write the absolute path']),
        ({"fastapi_app_assets": ["/usr/lib/x"]}, ["/usr/lib belongs to the system"]),
        ({"fastapi_app_assets": ["/srv"]}, ["such as /srv/static"]),
        (
            {"fastapi_app_assets": ["/srv/app", "/srv/app/static"]},
            ["fastapi_app_assets has /srv/app/static, where /srv/app is another directory"],
        ),
        (
            {"fastapi_app_assets": ["/data/up"], "fastapi_app_volumes": {"up": "/data/up"}},
            ["fastapi_app_assets has /data/up, where /data/up is another directory"],
        ),
        (
            {"fastapi_app_assets": ["/data/static"], "fastapi_app_runtime": "systemd"},
            ["under systemd an app's files are below /srv"],
        ),
        ({"fastapi_app_volumes": {"uploads": "/etc"}}, ['fastapi_app_volumes: "uploads" is at "/etc"']),
        (
            {"fastapi_app_user": "shop", "fastapi_app_runtime": "systemd"},
            ["a user of an image; with fastapi_app_runtime"],
        ),
        ({"fastapi_app_hardening": {"no_new": 1, "UMask": 1}}, ["fastapi_app_hardening: no_new is no"]),
    ],
)
def test_values_of_which_no_release_can_be_made(changed: dict[str, Any], said: list[str]) -> None:
    says("fastapi_app.release", RIGHT | changed, *said)


def test_who_deploys_an_app_with_alembic_needs_a_parser_of_sql(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_parser, "version", lambda _: "27.29.0")
    values = RIGHT | {"fastapi_app_migrations": "alembic", "fastapi_app_migrate_command": []}
    said = f"(sqlglot 27.29.0 is too old): {sys.executable} -m pip install --upgrade 'sqlglot>=30.30'"
    says("fastapi_app.release", values, said)
    says("fastapi_app.release", values | {"fastapi_app_allow_destructive": True})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"fastapi_app_run_command": []}, ["fastapi_app_run_command is empty"]),
        ({"fastapi_app_run_command": ["", ""]}, ["fastapi_app_run_command is empty"]),
        ({"fastapi_app_run_command": [], "fastapi_app_run_job": "nightly"}, []),
        ({"fastapi_app_name": "../etc"}, ["fastapi_app_name"]),
    ],
)
def test_commands_that_cannot_be_run(changed: dict[str, Any], said: list[str]) -> None:
    says("fastapi_app.command", RIGHT | changed, *said)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"fastapi_app_remove": "link"}, ['fastapi_app_remove is "link", and the app of this host is links']),
        ({"fastapi_app_name": "../etc", "fastapi_app_remove": "../etc"}, ["fastapi_app_name"]),
    ],
)
def test_apps_that_are_not_removed(changed: dict[str, Any], said: list[str]) -> None:
    says("fastapi_app.removal", RIGHT | changed, *said)


COMMAND = {"command": ["work"]}


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({}, []),
        ({"worker": {**COMMAND, "stop_grace": 300, "memory_mib": 128, "cpus": 0.5, "environment": {"A": 1}}}, []),
        ({"web": COMMAND}, ["fastapi_app_processes: web cannot be a name"]),
        ({"My Worker": COMMAND}, ["My Worker cannot be a name; use at most 20 lower case letters"]),
        ({"worker": ["work"]}, ['worker is ["work"]; use a dictionary such as {command: [celery, worker]}']),
        ({"worker": {**COMMAND, "replica": 2}}, ["worker has replica; known are command, replicas, singleton"]),
        ({"worker": {}}, ["worker: command is null; use the program and its arguments, a word for each"]),
        ({"worker": {"command": "celery worker"}}, ['command is "celery worker"; use the program']),
        ({"worker": {**COMMAND, "replicas": 0}}, ["worker: replicas is 0; use a number, at least 1."]),
        ({"worker": {**COMMAND, "memory_mib": "64m"}}, ['memory_mib is "64m"; use a number, at least 16.']),
        ({"beat": {**COMMAND, "singleton": "yes"}}, ['singleton is "yes"; use true or false.']),
        ({"beat": {**COMMAND, "singleton": True, "replicas": 2}}, ["beat: a singleton runs once in the fleet"]),
        ({"worker": {**COMMAND, "environment": ["A=1"]}}, ["use names and values"]),
        ({"worker": {**COMMAND, "environment": {"KEY": "1"}}}, ["KEY stands in its environment and in"]),
    ],
)
def test_processes(declared: dict[str, Any], said: list[str]) -> None:
    says("fastapi_app.release", {**RIGHT, "fastapi_app_processes": declared}, *said)


JOB = {"command": ["count"], "schedule": "daily"}


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({}, []),
        ({"web": JOB, "every-15": {**JOB, "schedule": "*:0/15"}, "half": {**JOB, "limit": 0.5e3}}, []),
        ({"Nightly": JOB}, ["fastapi_app_jobs: Nightly cannot be a name; use at most 20 lower case letters"]),
        ({"nightly": "count"}, ['nightly is "count"; use a dictionary such as {command: [python, -m, src.nightly]']),
        ({"nightly": {**JOB, "at": "daily"}}, ["nightly has at; known are command, schedule, limit."]),
        ({"nightly": {**JOB, "command": "count all"}}, ['command is "count all"; use the program and its arguments']),
        ({"nightly": {"command": ["count"]}}, ['nightly: schedule is null; write one such as "*-*-* 03:00"']),
        ({"nightly": {**JOB, "schedule": "daily\nPersistent=no"}}, ["man systemd.time"]),
        ({"nightly": {**JOB, "schedule": "%i"}}, ["schedule is"]),
        ({"nightly": {**JOB, "schedule": 3}}, ["schedule is 3;"]),
        ({"nightly": {**JOB, "limit": "1h"}}, ['nightly: limit is "1h"; use a number of seconds, at least 1.']),
        ({"nightly": {**JOB, "limit": 0}}, ["limit is 0"]),
    ],
)
def test_jobs(declared: dict[str, Any], said: list[str]) -> None:
    says("fastapi_app.release", {**RIGHT, "fastapi_app_jobs": declared}, *said)


def test_singletons_run_on_a_host_of_the_app() -> None:
    says(
        "fastapi_app.release",
        {**RIGHT, "fastapi_app_singleton_host": "web9"},
        "fastapi_app_singleton_host is web9, which is no host of the app; use one of web1, web2",
    )
    jobs_alone = {**RIGHT, "fastapi_app_processes": {}, "fastapi_app_singleton_host": "web9"}
    says("fastapi_app.release", jobs_alone, "fastapi_app_singleton_host is web9")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"fastapi_app_remove_volume": ""}, ['Nothing was deleted. fastapi_app_remove_volume is ""']),
        ({"fastapi_app_remove_volume": "../../x"}, ["that slipway.fleet.status lists"]),
        ({"fastapi_app_name": "../etc"}, ["fastapi_app_name"]),
    ],
)
def test_volumes_that_are_not_deleted(changed: dict[str, Any], said: list[str]) -> None:
    says("fastapi_app.volume", RIGHT | changed, *said)
