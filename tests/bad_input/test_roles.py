"""Wrong variables of every role, one wrong one for each host of a single run: each is refused by name, with the mend.

The hosts do not exist, so whatever is not refused on the controller ends as unreachable and fails its test.
"""

from __future__ import annotations

import json
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ansible_runs
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NOWHERE = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_common_args": "-o ControlMaster=no"}
MISSING = object()  # the variable is not set at all

SLOTS = {"blue": "/run/slipway/links/blue/app.sock", "green": "/run/slipway/links/green/app.sock"}
LINKS = {"name": "links", "slots": SLOTS}
DEBIAN = {"distribution": "Debian", "distribution_major_version": "13", "memtotal_mb": 2048}
SECRET = "hunter2hunter2hunter2"
PULL = {"fastapi_image_source": "pull", "fastapi_image_name": "r.invalid/app:1"}
SYSTEMD = {"fastapi_app_runtime": "systemd", "fastapi_app_command": ["gunicorn"]}

# What is right, by role; each case changes one thing of it.
RIGHT: dict[str, dict[str, Any]] = {
    "backup": {"backup_repository": "/mnt/backup", "backup_password": "a" * 24},
    "fastapi_app": {
        "fastapi_app_name": "links",
        "fastapi_app_environment": {"LOG": "info"},
        "fastapi_app_secrets": {"SECRET_KEY": "for-tests-only-and-long-enough"},
    },
    "fastapi_image": {"fastapi_app_name": "links"},
    "fastapi_package": {"fastapi_app_name": "links"},
    "haproxy": {"haproxy_apps": [LINKS]},
    "postgres": {"postgres_database": "links", "postgres_user": "links", "postgres_password": "a" * 24},
    "redis": {"redis_password": "a" * 24},
    "docker_engine": {"facts": DEBIAN},
}

Case = tuple[dict[str, Any], tuple[str, ...]]
WRONG: dict[str, dict[str, Case]] = {
    "backup": {
        "no password of the sets": ({"backup_password": MISSING}, ("missing required arguments: backup_password",)),
        "a short password of the sets": ({"backup_password": "short"}, ("vault_backup_password", "openssl rand")),
        "a place that is none": ({"backup_repository": "backups"}, ("backup_repository is backups", "sftp:backup@")),
        "nothing is kept": ({"backup_keep": {"daily": 0}}, ("backup_keep", "a number from 1 on")),
        "a server that is none": ({"backup_database": "mysql"}, ("backup_database", "native, none, elsewhere")),
    },
    "fastapi_app": {
        "no name": ({"fastapi_app_name": MISSING}, ("fastapi_app_name", "undefined")),
        "the name has a space": ({"fastapi_app_name": "short links"}, ("fastapi_app_name", "lower case letters")),
        "the name climbs": ({"fastapi_app_name": "../etc"}, ("fastapi_app_name", "lower case letters, digits")),
        "the name begins with a digit": ({"fastapi_app_name": "1links"}, ("fastapi_app_name", "a letter first")),
        "the name has capitals": ({"fastapi_app_name": "Links"}, ("fastapi_app_name", "lower case letters")),
        "the name is too long": ({"fastapi_app_name": "a" * 40}, ("fastapi_app_name", "at most 31")),
        "the name is empty": ({"fastapi_app_name": ""}, ("fastapi_app_name",)),
        "an unknown runtime": ({"fastapi_app_runtime": "podman"}, ("fastapi_app_runtime", "compose, systemd")),
        "a number that is none": ({"fastapi_app_workers": "many"}, ("fastapi_app_workers is text", "a whole number")),
        "no worker": ({"fastapi_app_workers": 0}, ("fastapi_app_workers is 0", "at least 1")),
        "a port that is none": ({"fastapi_app_port": 70000}, ("fastapi_app_port is 70000", "0 to 65535")),
        "a port that is a name": ({"fastapi_app_port": "http"}, ("fastapi_app_port is text", "fastapi_app_port: 8000")),
        "a port of the host for root": (
            {"fastapi_app_slot_ports": {"blue": 80}},
            ("fastapi_app_slot_ports", "from 1024 to 32767"),
        ),
        "no memory to live in": ({"fastapi_app_memory_mib": 8}, ("fastapi_app_memory_mib is 8", "at least 64")),
        "no processor": ({"fastapi_app_cpus": 0}, ("fastapi_app_cpus is 0", "at least 0.01")),
        "a uid of root": ({"fastapi_app_uid": 0}, ("fastapi_app_uid is 0", "at least 1")),
        "no pass at the gate": ({"fastapi_app_gate_passes": 0}, ("fastapi_app_gate_passes is 0", "at least 1")),
        "a gate that never opens": ({"fastapi_app_gate_deadline": 0}, ("fastapi_app_gate_deadline is 0", "at least 1")),
        "no time to migrate": ({"fastapi_app_migrate_timeout": 0}, ("fastapi_app_migrate_timeout is 0", "at least 1")),
        "a negative soak": ({"fastapi_app_soak": -1}, ("fastapi_app_soak is -1", "at least 0")),
        "no release is kept": ({"fastapi_app_releases_kept": 0}, ("fastapi_app_releases_kept is 0", "at least 1")),
        "a health path without a slash": ({"fastapi_app_health_path": "readyz"}, ("fastapi_app_health_path", "slash")),
        "an unknown policy": ({"fastapi_app_on_failure": "panic"}, ("fastapi_app_on_failure", "revert, hold")),
        "a release that climbs": (
            {"fastapi_app_release": "../../etc"},
            ("fastapi_app_release", "slipway.fleet.history"),
        ),
        "a list for a dictionary": (
            {"fastapi_app_environment": ["A=1"]},
            ("fastapi_app_environment is a list", "a mapping"),
        ),
        "a name that no process can have": (
            {"fastapi_app_environment": {"LOG LEVEL": "info"}},
            ("fastapi_app_environment", "LOG LEVEL", "letters, digits and underscores"),
        ),
        "a text for a list": (
            {"fastapi_app_host_names": "links.example.org"},
            ("fastapi_app_host_names is text and must be a list",),
        ),
        "nothing for a mapping": ({"fastapi_app_environment": None}, ("fastapi_app_environment is nothing",)),
        "a text for the secrets": ({"fastapi_app_secrets": SECRET}, ("fastapi_app_secrets is text", "a mapping")),
        "a name of a secret that climbs": (
            {"fastapi_app_secrets": {"../KEY": SECRET}},
            ("fastapi_app_secrets", "../KEY", "letters, digits and underscores"),
        ),
        "an empty secret": (
            {"fastapi_app_secrets": {"SECRET_KEY": ""}},
            ("fastapi_app_secrets", "SECRET_KEY", "ansible-vault"),
        ),
        "a placeholder": (
            {"fastapi_app_secrets": {"SECRET_KEY": "changeme"}},
            ("SECRET_KEY", "placeholder", "ansible-vault"),
        ),
        "a secret in the environment": (
            {"fastapi_app_environment": {"SECRET_KEY": SECRET}},
            ("SECRET_KEY", "fastapi_app_environment", "remove it"),
        ),
        "the worker outlives the edge's patience": (
            {"fastapi_app_timeout": 90},
            ("fastapi_app_timeout (90)", "smaller than fastapi_app_edge_timeout (75)"),
        ),
        "a name that is too long for its user": (
            SYSTEMD | {"fastapi_app_name": "a" * 24},
            ("fastapi_app_name", "24 characters", "at most 23"),
        ),
        "a hardening that is no directive": (
            SYSTEMD | {"fastapi_app_hardening": {"no new privileges": True}},
            ("fastapi_app_hardening", "no new privileges", "systemd.exec"),
        ),
        "a host name for an address": (
            SYSTEMD | {"fastapi_app_addresses": ["db.example.com"]},
            ("fastapi_app_addresses", "db.example.com", "10.0.0.0/8"),
        ),
        "no command": (SYSTEMD | {"fastapi_app_command": []}, ("fastapi_app_command", "program and its arguments")),
        "secrets as nothing that can be read": (
            {"fastapi_app_secrets_as": ["variables"]},
            ("fastapi_app_secrets_as", "must name files"),
        ),
        "secrets as something else": (
            {"fastapi_app_secrets_as": ["vault"]},
            ("fastapi_app_secrets_as", "files, variables"),
        ),
        "more in /tmp than in memory": (
            {"fastapi_app_tmp_mib": 4096},
            ("fastapi_app_tmp_mib (4096)", "smaller than fastapi_app_memory_mib (512)"),
        ),
        "a migration that is told nothing": (
            {"fastapi_app_allow_destructive": True, "fastapi_app_migrate_command": ["alembic", "upgrade", "head"]},
            ("fastapi_app_allow_destructive_arguments", "--allow-destructive"),
        ),
        "a directory of sockets that is relative": (
            {"fastapi_app_socket_directories": ["run/postgresql"]},
            ("fastapi_app_socket_directories", "run/postgresql", "absolute"),
        ),
        "killed while it lets requests end": (
            {"fastapi_app_stop_grace": 10},
            ("fastapi_app_graceful_timeout (30)", "smaller than fastapi_app_stop_grace (10)"),
        ),
    },
    "fastapi_package": {
        "a directory that is not there": ({"fastapi_package_source": "/no/such"}, ("/no/such", "fastapi_package_lock")),
        "no lock": ({"fastapi_package_lock": "no.lock"}, ("no.lock", "fastapi_package_lock")),
        "a lock without hashes": ({"fastapi_package_lock": "loose.lock"}, ("fastapi", "no exact version", "hash")),
        "a lock with an option": ({"fastapi_package_lock": "option.lock"}, ("--no-binary", "no requirement")),
        "a lock of a tool that does not read it": (
            {"fastapi_package_lock": "uv.lock"},
            ("uv could not export", "context/uv.lock"),
        ),
        "extras of a lock that has what it has": (
            {"fastapi_package_extras": ["server"]},
            ("fastapi_package_extras", "leave the variable empty"),
        ),
        "a way to install that is none": (
            {"fastapi_package_project": "editable"},
            ("fastapi_package_project", "installed", "left_out"),
        ),
        "a file that is not there": ({"fastapi_package_files": ["nothing"]}, ("fastapi_package_files", "nothing")),
        "wheels that are not there": ({"fastapi_package_wheels": "/no/such"}, ("fastapi_package_wheels", "/no/such")),
        "a CA that is not there": ({"fastapi_package_ca_file": "/no.pem"}, ("fastapi_package_ca_file", "/no.pem")),
        "a text for the files": ({"fastapi_package_files": {"app": 1}}, ("fastapi_package_files", "list")),
    },
    "fastapi_image": {
        "an unknown source": ({"fastapi_image_source": "scp"}, ("fastapi_image_source", "build, pull, ship")),
        "pulled without a name": ({"fastapi_image_source": "pull"}, ("fastapi_image_name", "must name the image")),
        "a name for what is built": (
            PULL | {"fastapi_image_source": "build"},
            ("fastapi_image_name is r.invalid/app:1", "fastapi_image_source: pull"),
        ),
        "a directory that is not there": (
            {"fastapi_image_context": "/no/such/directory"},
            ("fastapi_image_context", "/no/such/directory"),
        ),
        "a name without a tag": (PULL | {"fastapi_image_name": "r.invalid/app"}, ("r.invalid/app", "a tag nor")),
        "a name with a scheme": (PULL | {"fastapi_image_name": "https://r/app:1"}, ("https://r", "no image name")),
        "half a login": (PULL | {"fastapi_image_registry_user": "me"}, ("fastapi_image_registry_password", "both")),
        "a password alone": (PULL | {"fastapi_image_registry_password": SECRET}, ("_registry_user", "vault_*")),
        "authorities that are not there": (
            PULL | {"fastapi_image_registry_ca_file": "/no.pem"},
            ("fastapi_image_registry_ca_file", "/no.pem"),
        ),
        "somebody who cannot ask": (PULL | {"fastapi_image_registry_resolve": "dns"}, ("controller, host",)),
        "a key that is not there": (PULL | {"fastapi_image_cosign_key": "/no.pub"}, ("_cosign_key", "/no.pub")),
        "a key for what is built": ({"fastapi_image_cosign_key": "/no.pub"}, ("_cosign_key", "source: build")),
        "a key where a host asks": (
            PULL | {"fastapi_image_cosign_key": "/no.pub", "fastapi_image_registry_resolve": "host"},
            ("fastapi_image_cosign_key", "resolve: host"),
        ),
        "a registry that nobody has": (PULL, ("cannot reach the registry", "r.invalid", "proxy")),
        "a text for the build's arguments": (
            {"fastapi_image_build_args": "PYTHON"},
            ("fastapi_image_build_args", "dict"),
        ),
        "no Dockerfile": ({"fastapi_image_dockerfile": "Nofile"}, ("fastapi_image_dockerfile", "Nofile")),
    },
    "haproxy": {
        "no apps": ({"haproxy_apps": MISSING}, ("haproxy_apps is not set", "fastapi_app_name")),
        "an app of its own with a wrong name": (
            {"haproxy_apps": MISSING, "fastapi_app_name": "links", "fastapi_app_host_names": ["https://links.example"]},
            ("https://links.example", "without scheme"),
        ),
        "an app of its own with a space in its name": (
            {"haproxy_apps": MISSING, "fastapi_app_name": "links", "fastapi_app_host_names": ["links example"]},
            ("fastapi_app_host_names of links", '"links example", which has a space'),
        ),
        "an app of its own that waits too long": (
            {"haproxy_apps": MISSING, "fastapi_app_name": "links", "fastapi_app_edge_timeout": 300},
            ("haproxy_client_timeout (75)", "300"),
        ),
        "an unknown way with settings of others": (
            {"haproxy_shared_settings": "merge"},
            ("haproxy_shared_settings", "refuse, keep, replace"),
        ),
        "two apps of one name": ({"haproxy_apps": [LINKS, LINKS]}, ("haproxy_apps", "every name must be there once")),
        "neither slots nor servers": ({"haproxy_apps": [{"name": "links"}]}, ("haproxy_apps", "slots", "servers")),
        "one slot": ({"haproxy_apps": [LINKS | {"slots": {"blue": "/x"}}]}, ("haproxy_apps", "blue and green")),
        "two apps of one socket": (
            {"haproxy_apps": [LINKS, {"name": "other", "host_names": ["o.example"], "slots": SLOTS}]},
            ("haproxy_apps", "socket", "of its own"),
        ),
        "two apps for every name": (
            {
                "haproxy_apps": [
                    LINKS,
                    {"name": "other", "slots": {"blue": "/o/blue/app.sock", "green": "/o/green/app.sock"}},
                ]
            },
            ("haproxy_apps", "only one app can do without host_names"),
        ),
        "a host name with a scheme": (
            {"haproxy_apps": [LINKS | {"host_names": ["https://links.example"]}]},
            ("haproxy_apps", "without scheme"),
        ),
        "names that lead nowhere": (
            {"haproxy_apps": MISSING, "fastapi_app_name": "links", "fastapi_app_redirect_names": ["www.example.org"]},
            ("fastapi_app_redirect_names of links", "set fastapi_app_host_names"),
        ),
        "a password that is no hash": (
            {"haproxy_apps": MISSING, "fastapi_app_name": "links", "fastapi_app_basic_auth": {"review": SECRET}},
            ("fastapi_app_basic_auth of links", "openssl passwd -6", "ansible-vault edit"),
        ),
        "a rate of a text": (
            {"haproxy_apps": [LINKS | {"rate_limit": "100/10s"}]},
            ("rate_limit", "dict"),
        ),
        "an unknown key of an app": ({"haproxy_apps": [LINKS | {"slot": 1}]}, ("haproxy_apps", "slot")),
        "a server without a port": (
            {"haproxy_apps": [{"name": "links", "servers": {"web1": "10.0.0.1"}}]},
            ("haproxy_apps", "address and port"),
        ),
        "a health path with a space": (
            {"haproxy_apps": [LINKS | {"health_path": "/ready z"}]},
            ("health_path of", "begins with a slash"),
        ),
        "an edge of less patience": ({"haproxy_client_timeout": 30}, ("haproxy_client_timeout (30)", "at least")),
        "maintenance of an app that is not there": (
            {"haproxy_maintenance": ["lonks"]},
            ("haproxy_maintenance", "lonks", "is not in haproxy_apps"),
        ),
        "a certificate without its key": (
            {"haproxy_tls_certificate": f"-----BEGIN CERTIFICATE-----\n{SECRET}\n-----END CERTIFICATE-----"},
            ("haproxy_tls_certificate", "private key"),
        ),
        "a network that is none": (
            {"haproxy_private_networks": ["everybody"]},
            ("haproxy_private_networks", "everybody", "10.0.0.0/8"),
        ),
    },
    "postgres": {
        "no password": ({"postgres_password": MISSING}, ("postgres_password", "missing required")),
        "a short password": ({"postgres_password": "hunter2"}, ("postgres_password", "ansible-vault", "openssl rand")),
        "a password that is a placeholder": (
            {"postgres_password": "changeme"},
            ("postgres_password", "placeholder", "ansible-vault"),
        ),
        "the superuser as user": ({"postgres_user": "postgres"}, ("postgres_user (postgres)", "not those")),
        "a database name with a dash": ({"postgres_database": "my-app"}, ("postgres_database (my-app)", "underscores")),
        "too little memory": ({"postgres_memory_mib": 16}, ("postgres_memory_mib is 16", "at least 128")),
        "published to everybody": ({"postgres_publish": "0.0.0.0:5432"}, ("postgres_publish", "10.0.0.5:5432")),
        "published without a port": ({"postgres_publish": "10.0.0.5"}, ("postgres_publish", "and a port")),
        "an unknown provider": ({"postgres_provider": "rds"}, ("postgres_provider", "compose, native")),
    },
    "redis": {
        "no password": ({"redis_password": MISSING}, ("redis_password", "missing required")),
        "a password with a space": ({"redis_password": "a a" * 9}, ("redis_password", "ansible-vault", "openssl rand")),
        "too little memory": ({"redis_memory_mib": 1}, ("redis_memory_mib is 1", "at least 32")),
        "published to everybody": ({"redis_publish": "[::]:6379"}, ("redis_publish", "10.0.0.5:6379")),
        "an unknown eviction": ({"redis_eviction": "random"}, ("redis_eviction", "allkeys-lru")),
    },
    "docker_engine": {
        "an unknown source": ({"docker_engine_source": "snap"}, ("docker_engine_source", "distribution, docker")),
        "an unsupported distribution": (
            {"facts": DEBIAN | {"distribution": "Fedora", "distribution_major_version": "42"}},
            ("docker_engine_source", "Fedora 42", "Use a host with"),
        ),
        "a distribution with the old Compose": (
            {"facts": DEBIAN | {"distribution_major_version": "12"}},
            ("docker_engine_source", "Debian 12", "Set docker_engine_source: docker"),
        ),
        "facts that were not gathered": ({"facts": {}}, ("facts", "gather_facts")),
        "a network with a space": (
            {"docker_engine_networks": ["my net"]},
            ("docker_engine_networks", "letters, digits", "my net"),
        ),
    },
}
CASES = [(role, case) for role, cases in WRONG.items() for case in cases]


def host_of(role: str, case: str) -> str:
    return f"{role}-{list(WRONG[role]).index(case)}".replace("_", "-")


def playbook(role: str) -> list[dict[str, Any]]:
    """What the playbooks of a role's users do up to the first thing on a host."""

    def part(name: str, entry: str = "main", **more: bool) -> dict[str, Any]:
        return {"ansible.builtin.import_role": {"name": f"slipway.fleet.{name}", "tasks_from": entry, **more}}

    facts = {"ansible.builtin.set_fact": {"cacheable": True, "distribution": "{{ facts.distribution }}"}}
    facts["ansible.builtin.set_fact"] |= {
        name: f"{{{{ facts.{name} }}}}" for name in ("distribution_major_version", "memtotal_mb")
    }
    steps = {
        "fastapi_app": [part("fastapi_image", "identify"), part("fastapi_app", "preflight", rolespec_validate=False)],
        "fastapi_image": [part("fastapi_image", "identify")],
        "fastapi_package": [part("fastapi_package", "identify")],
        "docker_engine": [{**facts, "when": "facts | length > 0"}, part("docker_engine")],
    }
    return [{"hosts": role, "gather_facts": False, "tasks": steps.get(role, [part(role)])}]


def inventory(context: Path) -> dict[str, Any]:
    """A group for each role, and in it a host for each case and one with nothing wrong."""
    found: dict[str, Any] = {}
    for role, values in RIGHT.items():
        right = NOWHERE | {"fastapi_image_context": str(context), "fastapi_package_source": str(context)} | values
        hosts = {host_of(role, case): right | wrong for case, (wrong, _) in WRONG[role].items()}
        found[role] = {"hosts": {host: only_set(given) for host, given in {f"{role}-right": right, **hosts}.items()}}
    return found


def only_set(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not MISSING}


def results(directory: Path, role: str) -> tuple[dict[str, dict[str, Any]], str]:
    """One run over all cases of a role: the last result of every host by its name, and all that was printed."""
    (directory / f"{role}.yml").write_text(yaml.safe_dump(playbook(role)))
    result = ansible_runs.run(
        [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(directory / "hosts.yml"), f"{role}.yml"],
        cwd=directory,
        env=os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"},
        limit=300,
        apart=True,
    )
    assert result.returncode, result.stdout
    printed = json.loads(result.stdout[result.stdout.index("{") :])
    tasks = [task for play in printed["plays"] for task in play["tasks"]]
    return {host: found for task in tasks for host, found in task["hosts"].items()}, result.stdout + result.stderr


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict[str, Any]], str]:
    """The last result of every host of every role, and all that was printed."""
    directory = tmp_path_factory.mktemp("bad-input")
    (directory / "context").mkdir()
    (directory / "context" / "Dockerfile").write_text("FROM scratch\n")
    for path in ("requirements/app.lock", "gunicorn_conf.py", "app/main.py"):
        (directory / "context" / path).parent.mkdir(exist_ok=True)
        (directory / "context" / path).touch()
    (directory / "context" / "uv.lock").write_text("no lock\n")
    (directory / "context" / "loose.lock").write_text("fastapi>=0.1\n")
    (directory / "context" / "option.lock").write_text("--no-binary :all:\n")
    (directory / "hosts.yml").write_text(yaml.safe_dump(inventory(directory / "context")))
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda role: results(directory, role), RIGHT))
    return {host: result for found, _ in runs for host, result in found.items()}, "".join(text for _, text in runs)


@pytest.mark.parametrize(("role", "case"), CASES, ids=[f"{role}: {case}" for role, case in CASES])
def test_a_wrong_variable_is_named_with_its_mend(
    run: tuple[dict[str, dict[str, Any]], str], role: str, case: str
) -> None:
    result = run[0][host_of(role, case)]
    message = " ".join(str(result.get("msg")).split())
    assert result.get("failed"), result
    assert not result.get("unreachable"), message
    assert "cannot be reached" not in message
    for word in WRONG[role][case][1]:
        assert word in message, message


@pytest.mark.parametrize("role", [role for role in RIGHT if role not in ("fastapi_image", "fastapi_package")])
def test_right_variables_are_not_refused(run: tuple[dict[str, dict[str, Any]], str], role: str) -> None:
    """The host is asked then, and is not there."""
    result = run[0][f"{role}-right"]
    assert result.get("unreachable") or "cannot be reached" in result["msg"], result


def test_no_secret_is_shown(run: tuple[dict[str, dict[str, Any]], str]) -> None:
    assert SECRET not in run[1]


def test_nothing_is_changed(run: tuple[dict[str, dict[str, Any]], str]) -> None:
    assert not [host for host, result in run[0].items() if result.get("changed")]


def test_there_are_at_least_forty_cases() -> None:
    assert len(CASES) >= 40
