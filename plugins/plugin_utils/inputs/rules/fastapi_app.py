# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the variables of slipway.fleet.fastapi_app must be beyond their types."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.release.canary import GO, Thresholds
from ansible_collections.slipway.fleet.plugins.module_utils.release.doors import FOR_EXAMPLE, wrong_ports
from ansible_collections.slipway.fleet.plugins.module_utils.release.jobs import FOR_EXAMPLE as FOR_EXAMPLE_OF_A_SCHEDULE
from ansible_collections.slipway.fleet.plugins.module_utils.release.words import told
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.sql_parser import INSTALL, lacking
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.rules.names import HostNames
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.rules.paths import paths
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.rules.volumes import NAME, assets, volumes
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.values import (
    Between,
    Least,
    Like,
    NotEmpty,
    Rule,
    Values,
    broken,
    placeholders,
)

# Linux takes 31 characters, and the user is slipway-<app>.
_SYSTEMD_NAME = 23
_VARIABLE, _VARIABLE_USE = "[A-Za-z_][A-Za-z0-9_]*", "letters, digits and underscores, no digit first"
# What HAProxy's checks take as well: they have the same path.
PATH = r"/[A-Za-z0-9/._~-]*(\?[A-Za-z0-9/._~=&-]*)?"
PATH_USE = "a path that begins with a slash, has letters, digits and ._~- and may end with a query such as ?full=1"
STATUSES = "[1-5][0-9]{2}(-[1-5][0-9]{2})?"
STATUSES_USE = "statuses such as 200 and ranges such as 200-299"
# What a process could not be started without, or would be started by another way.
_NO_SECRETS = {"PATH", "HOME", "IFS", "LD_PRELOAD", "LD_LIBRARY_PATH", "CREDENTIALS_DIRECTORY"}
# Docker and systemd make other names of it.
_PROCESS_NAME = "[a-z][a-z0-9-]{0,19}"
_PROCESS_KEYS = ("command", "replicas", "singleton", "stop_grace", "memory_mib", "cpus", "environment")
_PROCESS_LEAST = {"replicas": 1, "stop_grace": 1, "memory_mib": 16, "cpus": 0.01}
_JOB_KEYS = ("command", "schedule", "limit")
# What calendar events are made of, time zones included (systemd.time(7)); the host reads them whole.
_SCHEDULE = r"[A-Za-z0-9*][A-Za-z0-9 *,.:/~_+-]*"
# Each value by itself.
VALUES: tuple[Rule, ...] = (
    Like(
        "fastapi_app_name",
        "[a-z][a-z0-9-]{0,30}",
        "at most 31 lower case letters, digits and dashes, a letter first",
    ),
    Like(
        "fastapi_app_release",
        "([0-9a-f]{12})?",
        "the 12 hexadecimal digits of a release that slipway.fleet.history lists",
    ),
    HostNames("fastapi_app_host_names"),
    HostNames("fastapi_app_former_names"),
    Like("fastapi_app_health_path", PATH, PATH_USE),
    Like("fastapi_app_health_statuses", STATUSES, STATUSES_USE),
    NotEmpty("fastapi_app_health_statuses", "the statuses of a good answer, such as [200-299]"),
    Like("fastapi_app_version_path", f"({PATH})?", f"{PATH_USE}, or nothing"),
    Like("fastapi_app_openapi_path", f"({PATH})?", f"{PATH_USE}, or nothing"),
    Like("fastapi_app_environment", _VARIABLE, _VARIABLE_USE),
    Like("fastapi_app_secrets", _VARIABLE, _VARIABLE_USE),
    Like(
        "fastapi_app_socket_directories",
        "/[A-Za-z0-9/._-]+",
        "absolute paths of directories on the host, such as /run/postgresql",
    ),
    Like(
        "fastapi_app_addresses",
        "any|localhost|link-local|multicast|[0-9a-fA-F.:]+(/[0-9]{1,3})?",
        "addresses and networks such as 10.0.0.0/8, or one of any, localhost, link-local, multicast",
    ),
    Like(
        "fastapi_app_user",
        "(([a-z_][a-z0-9_.-]*|[0-9]+)(:([a-z_][a-z0-9_.-]*|[0-9]+))?)?",
        "the name or the number of a user of the image, with a group after a colon where it is another one, or nothing",
    ),
    Like(
        "fastapi_app_migrations",
        "(alembic|[A-Za-z0-9._-]*/[A-Za-z0-9._/-]*)?",
        "alembic, or the directory of alembic.ini with a slash, such as ./backend or /app/backend, or nothing",
    ),
    Between("fastapi_app_port", 0, 65535, ", the TCP port on which the app listens, or 0 for the slot's Unix socket"),
    Least("fastapi_app_workers", 1),
    Least("fastapi_app_memory_mib", 64),
    Least("fastapi_app_cpus", 0.01),
    Least("fastapi_app_pids", 16),
    Least("fastapi_app_open_files", 256),
    Least("fastapi_app_tmp_mib", 1),
    Least("fastapi_app_uid", 1),
    Least("fastapi_app_gate_passes", 1),
    Least("fastapi_app_gate_interval", 0.1),
    Least("fastapi_app_gate_deadline", 1),
    Least("fastapi_app_check_timeout", 1),
    Least("fastapi_app_migrate_timeout", 1),
    Least("fastapi_app_rehearse_limit", 1),
    Least("fastapi_app_turn_timeout", 1),
    Least("fastapi_app_drain", 0),
    Least("fastapi_app_soak", 0),
    Least("fastapi_app_releases_kept", 1),
    Least("fastapi_app_log_lines", 1),
    Least("fastapi_app_disk_reserve", 0),
)


def app(value_of: Values) -> Iterator[str]:
    """A sentence for each value that cannot be used by itself."""
    return broken(VALUES, value_of)


def release(value_of: Values) -> Iterator[str]:
    """A sentence for each value that no release can be made of, by itself or beside another one."""
    yield from app(value_of)
    names = ("timeout", "edge_timeout", "graceful_timeout", "stop_grace")
    timeout, edge_timeout, graceful, grace = (int(value_of(f"fastapi_app_{name}")) for name in names)
    if timeout >= edge_timeout or graceful >= grace:
        yield (
            f"The timeouts do not fit each other: fastapi_app_timeout ({timeout}) must be smaller than "
            f"fastapi_app_edge_timeout ({edge_timeout}), and fastapi_app_graceful_timeout ({graceful}) smaller than "
            f"fastapi_app_stop_grace ({grace}). Otherwise requests are cut before the app can end them."
        )
    keys = ("name", "paths", "strip_path", "health_path", "version_path")
    yield from paths({key: value_of(f"fastapi_app_{key}") for key in keys})
    yield from runs(value_of)
    yield from migrations(value_of)
    yield from processes(value_of)
    yield from jobs(value_of)
    runtime, sockets = value_of("fastapi_app_runtime"), value_of("fastapi_app_socket_directories")
    yield from volumes(value_of("fastapi_app_volumes"), runtime, sockets)
    yield from assets(value_of("fastapi_app_assets"), runtime, [*value_of("fastapi_app_volumes").values(), *sockets])
    yield from canary(value_of("fastapi_app_canary"))
    unknown, left = value_of("fastapi_app_canary_unknown"), value_of("fastapi_app_before_turn")
    if left and unknown != GO:
        yield (
            f"fastapi_app_canary_unknown is {unknown} and fastapi_app_before_turn takes a host out of its balancer: "
            f"nobody asks it then, so every release would be unknown. Set {GO}, or leave the host in."
        )
    ports = value_of("fastapi_app_slot_ports")
    if wrong := wrong_ports(ports):
        yield f"fastapi_app_slot_ports is {json.dumps(ports)}; {wrong}, {FOR_EXAMPLE}."
    secrets, environment = value_of("fastapi_app_secrets"), value_of("fastapi_app_environment")
    yield from variables(environment)
    if names_of := placeholders(secrets):
        yield (
            f"fastapi_app_secrets: {', '.join(names_of)} is empty or a placeholder; set its vault_* variable with "
            "`ansible-vault edit` in vault.yml of this inventory."
        )
    if "files" not in value_of("fastapi_app_secrets_as"):
        yield (
            "fastapi_app_secrets_as must name files: variables are made of them when a process starts. Write [files, "
            "variables], or [files] for no variables."
        )
    if lost := sorted(set(secrets) & _NO_SECRETS):
        yield (
            f"fastapi_app_secrets: {', '.join(lost)} says where programs and files are, and can be no secret; give it "
            "another name."
        )
    if both := sorted(set(environment) & set(secrets)):
        yield (
            f"{', '.join(both)} stands in fastapi_app_environment and in fastapi_app_secrets; remove it from "
            "fastapi_app_environment, which everybody who may use Docker on the host can read."
        )
    name = value_of("fastapi_app_name")
    if value_of("fastapi_app_runtime") == "systemd" and len(name) > _SYSTEMD_NAME:
        yield (
            f"fastapi_app_name is {name}, {len(name)} characters; with fastapi_app_runtime: systemd at most "
            f"{_SYSTEMD_NAME}, because the app's user is slipway-{name} and Linux takes 31."
        )
    directives = value_of("fastapi_app_hardening")
    if unknown := [one for one in directives if not re.fullmatch("[A-Z][A-Za-z]+", one)]:
        yield (
            f"fastapi_app_hardening: {', '.join(unknown)} is no directive of systemd.exec, such as "
            "MemoryDenyWriteExecute."
        )


def canary(given: dict[str, Any]) -> Iterator[str]:
    """A sentence for each threshold that nobody knows, or that is no number."""
    known = [one.name for one in fields(Thresholds)]
    for name, value in given.items():
        if name == "judged":
            continue
        if name not in known:
            yield (
                f"fastapi_app_canary has {name}, which is none of judged, {', '.join(known)}; remove it. "
                "A release is compared with the 300 s before the switch, and unknown is fastapi_app_canary_unknown."
            )
        elif isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
            usual = getattr(Thresholds(), name)
            yield f"fastapi_app_canary: {name} is {json.dumps(value)}; write a number from 0 on, such as {usual}."


def runs(value_of: Values) -> Iterator[str]:
    """A sentence for each thing that is wrong with what a release runs, and with what it may use."""
    systemd = value_of("fastapi_app_runtime") == "systemd"
    words = value_of("fastapi_app_command")
    if (systemd and not words) or (words and not words[0]):
        yield (
            f"fastapi_app_command is {json.dumps(words)}; write the program and its arguments, a word for each, "
            'such as [gunicorn, --config, gunicorn_conf.py, "app.main:app"]. Only an image has a command of its own.'
        )
    if systemd and (user := value_of("fastapi_app_user")):
        yield (
            f"fastapi_app_user is {json.dumps(user)}, a user of an image; with fastapi_app_runtime: systemd leave it "
            "away. The number of the app's user on its hosts is fastapi_app_uid."
        )
    memory, tmp = int(value_of("fastapi_app_memory_mib")), int(value_of("fastapi_app_tmp_mib"))
    if not systemd and tmp >= memory:
        yield (
            f"fastapi_app_tmp_mib ({tmp}) must be smaller than fastapi_app_memory_mib ({memory}): what lies in /tmp is "
            "memory of the slot. Lower the first, or raise the second."
        )


def migrations(value_of: Values) -> Iterator[str]:
    """A sentence for each thing that is wrong with how the database gets its schema."""
    where, own = value_of("fastapi_app_migrations"), value_of("fastapi_app_migrate_command")
    if where and own:
        yield (
            f"fastapi_app_migrations is {where}, and fastapi_app_migrate_command is {json.dumps(own)}; write one of "
            "them: the first for an app with Alembic, the second for all other tools."
        )
    if where and (asked := value_of("fastapi_app_rollback_check_command")):
        yield (
            f"fastapi_app_migrations is {where}, so a rollback asks the app's Alembic, and "
            f"fastapi_app_rollback_check_command is {json.dumps(asked)}; remove that."
        )
    if where and not value_of("fastapi_app_allow_destructive") and (reason := lacking()):
        yield (
            f"fastapi_app_migrations is {where}, and here is no parser that reads what a migration takes away "
            f"({reason}): {INSTALL}. Or let all of it through with -e fastapi_app_allow_destructive=true."
        )
    allowed, said = value_of("fastapi_app_allow_destructive"), value_of("fastapi_app_allow_destructive_arguments")
    if allowed and own and not said:
        yield (
            "fastapi_app_allow_destructive is true, and fastapi_app_allow_destructive_arguments is empty, so the "
            "migration's command would not be told; write the words that it knows for that, such as "
            "[--allow-destructive], or leave the first one out where the command asks for none."
        )


def processes(value_of: Values) -> Iterator[str]:
    """A sentence for each thing that is wrong with what runs beside the web process."""
    declared = value_of("fastapi_app_processes")
    for name, process in declared.items():
        where = f"fastapi_app_processes: {name}"
        if name == "web" or not re.fullmatch(_PROCESS_NAME, str(name)):
            yield f"{where} cannot be a name; use at most 20 lower case letters, digits and dashes, and not web."
        if not isinstance(process, dict):
            yield f"{where} is {json.dumps(process)}; use a dictionary such as {{command: [celery, worker]}}."
            continue
        yield from _process(where, process, value_of)
    single = any(isinstance(one, dict) and one.get("singleton") for one in declared.values())
    hosts, host = value_of("fastapi_app_fleet"), value_of("fastapi_app_singleton_host")
    if (single or value_of("fastapi_app_jobs")) and host not in hosts:
        yield (
            f"fastapi_app_singleton_host is {host}, which is no host of the app; use one of {', '.join(hosts)}, as the "
            "inventory names it."
        )


def _process(where: str, process: dict[Any, Any], value_of: Values) -> Iterator[str]:
    if unknown := sorted(str(key) for key in process if key not in _PROCESS_KEYS):
        yield f"{where} has {', '.join(unknown)}; known are {', '.join(_PROCESS_KEYS)}."
    words = process.get("command")
    if not isinstance(words, list) or not words or not all(isinstance(word, (str, int, float)) for word in words):
        yield f"{where}: command is {json.dumps(words)}; use the program and its arguments, a word for each."
    for key, least in _PROCESS_LEAST.items():
        value = process.get(key, least)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value < least:
            yield f"{where}: {key} is {json.dumps(value)}; use a number, at least {least}."
    single = process.get("singleton", False)
    if not isinstance(single, bool):
        yield f"{where}: singleton is {json.dumps(single)}; use true or false."
    elif single and process.get("replicas", 1) != 1:
        yield f"{where}: a singleton runs once in the fleet; leave its replicas out."
    environment = process.get("environment") or {}
    if not isinstance(environment, dict):
        yield f"{where}: environment is {json.dumps(environment)}; use names and values."
    elif both := sorted(set(environment) & set(value_of("fastapi_app_secrets"))):
        yield f"{where}: {', '.join(both)} stands in its environment and in fastapi_app_secrets; take it out of one."


def jobs(value_of: Values) -> Iterator[str]:
    """A sentence for each thing that is wrong with what timers start; a host tells what its systemd does not take."""
    for name, job in value_of("fastapi_app_jobs").items():
        where = f"fastapi_app_jobs: {name}"
        if not re.fullmatch(_PROCESS_NAME, str(name)):
            yield f"{where} cannot be a name; use at most 20 lower case letters, digits and dashes, a letter first."
        if not isinstance(job, dict):
            yield (
                f"{where} is {json.dumps(job)}; use a dictionary such as "
                '{command: [python, -m, src.nightly], schedule: "*-*-* 03:00"}.'
            )
            continue
        if unknown := sorted(str(key) for key in job if key not in _JOB_KEYS):
            yield f"{where} has {', '.join(unknown)}; known are {', '.join(_JOB_KEYS)}."
        words = job.get("command")
        if not isinstance(words, list) or not words or not all(isinstance(word, (str, int, float)) for word in words):
            yield f"{where}: command is {json.dumps(words)}; use the program and its arguments, a word for each."
        schedule = job.get("schedule")
        if not isinstance(schedule, str) or not re.fullmatch(_SCHEDULE, schedule):
            yield f"{where}: schedule is {json.dumps(schedule)}; {FOR_EXAMPLE_OF_A_SCHEDULE}."
        limit = job.get("limit", 1)
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or limit < 1:
            yield f"{where}: limit is {json.dumps(limit)}; use a number of seconds, at least 1."


def variables(environment: dict[Any, Any]) -> Iterator[str]:
    """A sentence for each variable of the environment that would not arrive as it is written."""
    if read := [name for name in environment if not isinstance(name, str)]:
        yield (
            f"a key of fastapi_app_environment is {json.dumps(read[0])}, as YAML reads it; put the name in quotes, "
            'such as "ON".'
        )
    if lost := sorted(name for name, text in told(environment).items() if "\0" in text or not _encodes(text)):
        yield (
            f"fastapi_app_environment: {', '.join(lost)} has a character that no variable can hold (NUL, or half of a "
            "pair of surrogates); take it out, or send the value in base64."
        )


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def command(value_of: Values) -> Iterator[str]:
    """A sentence for each thing that keeps a command from being run beside the release that serves."""
    yield from app(value_of)
    if not any(value_of("fastapi_app_run_command")) and not value_of("fastapi_app_run_job"):
        yield "fastapi_app_run_command is empty; give a command and its arguments, such as [alembic, current]."


def removal(value_of: Values) -> Iterator[str]:
    """A sentence for each thing that keeps an app from being removed; a name such as ../x would remove another one."""
    yield from app(value_of)
    name, said = value_of("fastapi_app_name"), value_of("fastapi_app_remove")
    if said != name:
        yield (
            f"Nothing was removed. fastapi_app_remove is {json.dumps(said)}, and the app of this host is {name}; to "
            "take it off for good, say its name."
        )


def volume(value_of: Values) -> Iterator[str]:
    """A sentence for each thing that keeps a volume from being deleted."""
    yield from app(value_of)
    name = value_of("fastapi_app_remove_volume")
    if not re.fullmatch(NAME, name):
        yield (
            f"Nothing was deleted. fastapi_app_remove_volume is {json.dumps(name)}; give the name of a volume that "
            "slipway.fleet.status lists."
        )
