"""Wrong input to the playbooks is refused before a host is changed: the host of these tests does not exist.

Each case says what is wrong and what to do. Wrong variables of the roles are in test_roles.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import ansible_runs
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
GROUP_VARS = ROOT / "inventories" / "lab" / "group_vars" / "web"
# Nobody listens on port 1, so a task that reaches out fails with "unreachable" instead of the message wanted here.
NOWHERE = {"ansible_host": "127.0.0.1", "ansible_port": 1, "ansible_ssh_common_args": "-o ControlMaster=no"}
VAULT = {f"vault_{name}": f"for-tests-only-{name}" for name in ("postgres_password", "redis_password", "secret_key")}
CLIMBS = "../../etc"

# Playbook, what is wrong on the command line, and what the message has to say.
Case = tuple[str, dict[str, Any], tuple[str, ...]]
WRONG: dict[str, Case] = {
    "a freeze without a reason": (
        "lock",
        {"slipway_lock": "frozen"},
        ("slipway_lock_reason is empty", "needs a reason"),
    ),
    "a freeze with a blank reason": (
        "lock",
        {"slipway_lock": "frozen", "slipway_lock_reason": "  "},
        ("slipway_lock_reason", "needs a reason"),
    ),
    "an unknown state of a lock": (
        "lock",
        {"slipway_lock": "stuck"},
        ('slipway_lock is "stuck"; it can be', "shown, free, or frozen."),
    ),
    "no command": ("run", {}, ("slipway_command is empty", "-e slipway_command=")),
    "a command with an open quote": (
        "run",
        {"slipway_command": "python -c 'print(1)"},
        ("slipway_command", "No closing quotation", "close its quotes"),
    ),
    "neither on nor off": ("maintenance", {"slipway_maintenance": "maybe"}, ("slipway_maintenance", "=on or", "=off")),
    "a drain where nobody sends requests": (
        "drain",
        {"haproxy_server": "nowhere"},
        (
            'haproxy_server is "nowhere", so nothing was done',
            "the group load_balancer send requests (there are 0)",
            "-e haproxy_server=",
        ),
    ),
    "a drain to an unknown state": (
        "drain",
        {"haproxy_server": "nowhere", "haproxy_server_state": "up"},
        ('Nothing was done. haproxy_server_state is "up"; it can be drain', "or ready, which brings it back"),
    ),
    "a removal without the name": ("remove", {}, ("slipway_remove", "say -e slipway_remove=shortlinks")),
    "a removal with another name": (
        "remove",
        {"slipway_remove": "shortlink"},
        ("slipway_remove", "say -e slipway_remove=shortlinks"),
    ),
    "a removal of a name that climbs": (
        "remove",
        {"fastapi_app_name": CLIMBS, "slipway_remove": CLIMBS},
        ("fastapi_app_name", "lower case letters"),
    ),
    "a rollback to a release that climbs": (
        "rollback",
        {"fastapi_app_release": CLIMBS},
        ("fastapi_app_release", "slipway.fleet.history"),
    ),
    "a rollback that waits a negative time": ("rollback", {"fastapi_app_drain": -5}, ("fastapi_app_drain", "at least")),
    "a restart of a name with a space": (
        "restart",
        {"fastapi_app_name": "short links"},
        ("fastapi_app_name", "lower case letters"),
    ),
    "a variable that is almost one": (
        "deploy",
        {"fastapi_app_enviroment": {}},
        ("fastapi_app_enviroment", "did you mean fastapi_app_environment?", "slipway_own_variables"),
    ),
    "a variable of a playbook that is none": (
        "rollback",
        {"slipway_release": "0123456789ab"},
        (
            "slipway_release (given with -e) is no variable of Slipway; did you mean fastapi_app_release?",
            "slipway_own_variables",
        ),
    ),
    "a rollback to a release by another name": (
        "rollback",
        {"release": "0123456789ab"},
        ("release (given with -e) is no variable of Slipway; did you mean fastapi_app_release?",),
    ),
    "a deploy to a host that is not there": ("deploy", {}, ("cannot be reached", "Mend its connection")),
    "a provision of a host that is not there": (
        "provision",
        {},
        ("nothing was changed; nowhere cannot be reached", "Mend its connection"),
    ),
    "a lock of a host that is not there": (
        "remove_volume",
        {},
        ("the fleet is not held; nowhere cannot be reached", "Mend its connection"),
    ),
    "a provision with a list for a mapping": (
        "provision",
        {"docker_engine_daemon": ["debug"]},
        ("Nothing was done. docker_engine_daemon is a list and must be a mapping", "(of nowhere"),
    ),
    "a backup with a text for a number": (
        "backup",
        {"redis_memory_mib": "many"},
        ("Nothing was done. redis_memory_mib is text and must be a whole number, such as `redis_memory_mib: 3`",),
    ),
    "a doctor of a host that is not there": ("doctor", {}, ("cannot be reached", "Mend its connection", "nowhere")),
}


def inventory(directory: Path, *, without: tuple[str, ...] = (), hosts: dict[str, Any] | None = None) -> Path:
    """An inventory with the lab's variables, a vault that is not encrypted, and a host that does not exist."""
    values: dict[str, Any] = {}
    for path in sorted(GROUP_VARS.glob("*.yml")):
        if path.name != "vault.yml":
            values |= yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    values = {key: value for key, value in (values | VAULT).items() if key not in without}
    file = directory / "hosts.yml"
    group = {"hosts": {"nowhere": NOWHERE} if hosts is None else hosts, "vars": values}
    file.write_text(yaml.safe_dump({"web": group}), encoding="utf-8")
    return file


def play(playbook: str, file: Path, *arguments: str, **variables: Any) -> tuple[int, str]:
    """Exit code and output of a playbook."""
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(file), f"slipway.fleet.{playbook}"]
    command += ["-e", json.dumps(variables), *arguments]
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    result = ansible_runs.run(command, cwd=ROOT, env=environment, limit=120)
    return result.returncode, result.stdout


def refused(code: int, output: str, *words: str) -> None:
    assert code != 0, output
    assert "unreachable=1" not in output, f"found out only on the way to the host:\n{output}"
    assert not re.search(r"\bchanged=[1-9]", output), output
    flat = " ".join(output.split())
    for word in words:
        assert word in flat, output


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[int, str]]:
    """Exit code and output of every case, a few of them at a time."""
    file = inventory(tmp_path_factory.mktemp("inputs"))
    with ThreadPoolExecutor(3) as pool:
        started = {case: pool.submit(play, playbook, file, **wrong) for case, (playbook, wrong, _) in WRONG.items()}
        return {case: run.result() for case, run in started.items()}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_input_is_named_with_its_mend(runs: dict[str, tuple[int, str]], case: str) -> None:
    words = WRONG[case][2]
    refused(*runs[case], *words)
    if "Mend its connection" not in words:
        assert "cannot be reached" not in runs[case][1]


def test_a_host_that_an_operation_does_not_reach_is_named_at_its_end_with_the_mend(tmp_path: Path) -> None:
    code, output = play("maintenance", inventory(tmp_path), slipway_maintenance="on")
    assert code == 4, output
    said = output[output.index("PLAY RECAP") :]
    assert "nowhere cannot be reached. Mend its connection\n" in said, "without it there is no host to go on with"


def test_an_undefined_variable_of_the_database_is_named_with_its_place(tmp_path: Path) -> None:
    file = inventory(tmp_path)
    hosts = yaml.safe_load(file.read_text(encoding="utf-8"))
    here = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    here |= {"postgres_provider": "native", "redis_provider": "none", "postgres_user": "a", "postgres_database": "a"}
    wrong = {"postgres_password": "{{ vault_pg_password }}", "vault_postgres_password": "a" * 24}
    hosts = {"data": {"hosts": {"db1": here | wrong}}}
    file.write_text(yaml.safe_dump(hosts), encoding="utf-8")
    code, output = play("provision", file, "--check")
    meant = "did you mean vault_postgres_password?"
    refused(code, output, f"'vault_pg_password' is undefined, which postgres_password uses; {meant}")


def test_a_removal_of_a_cache_that_is_not_there_holds_nobody(tmp_path: Path) -> None:
    """It is refused before the app's host is asked, and no ledger has that it began."""
    file = inventory(tmp_path)
    hosts = yaml.safe_load(file.read_text(encoding="utf-8"))
    here = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
    hosts["data"] = {"hosts": {"db1": here | {"redis_password": "a" * 24, "redis_instance": "of-this-test"}}}
    file.write_text(yaml.safe_dump(hosts), encoding="utf-8")
    code, output = play("remove_cache", file, slipway_remove_cache="redis", slipway_cache_unused=True)
    refused(code, output, "Nothing was done. db1 has no cache redis-of-this-test of Slipway.")
    assert "Hold the fleet" not in output


def test_a_backup_of_nothing_is_a_failure(tmp_path: Path) -> None:
    """What follows it in a script would go on without a set."""
    code, output = play("backup", inventory(tmp_path))
    refused(code, output, "Nothing was done. No host of this run is backed up (backup_repository)")


def test_a_secret_that_the_vault_lacks_is_named(tmp_path: Path) -> None:
    code, output = play("deploy", inventory(tmp_path, without=("vault_secret_key",)))
    refused(code, output, "vault_secret_key")


def test_a_wrong_vault_password(tmp_path: Path) -> None:
    wrong = tmp_path / "password"
    wrong.write_text("this is not the password\n", encoding="utf-8")
    directory = tmp_path / "group_vars" / "web"
    directory.mkdir(parents=True)
    secret = tmp_path / "right"
    secret.write_text("this is the password\n", encoding="utf-8")
    vault = directory / "vault.yml"
    vault.write_text(yaml.safe_dump(VAULT), encoding="utf-8")
    encrypt = [
        str(Path(sys.executable).parent / "ansible-vault"),
        "encrypt",
        "--vault-password-file",
        str(secret),
        str(vault),
    ]
    subprocess.run(encrypt, check=True, capture_output=True, timeout=60)
    code, output = play("deploy", inventory(tmp_path, without=tuple(VAULT)), "--vault-password-file", str(wrong))
    refused(code, output, f"{vault}: Decryption failed", "--vault-password-file")


def test_broken_yaml_is_named_with_its_file_and_line_and_without_a_word_of_the_vault(tmp_path: Path) -> None:
    broken = tmp_path / "group_vars/web/fastapi_app.yml"
    broken.parent.mkdir(parents=True)
    broken.write_text("---\nfastapi_app_host_names: [links.example\nfastapi_app_name: links\n", encoding="utf-8")
    code, output = play("deploy", inventory(tmp_path))
    refused(code, output, f"{broken}:3:17: YAML parsing failed", "Nothing was done.")
    assert "vault" not in output


def test_a_vault_that_everybody_can_open(tmp_path: Path) -> None:
    """The lab's, copied into an inventory of one's own with the password that is published beside it."""
    lab = ROOT / "inventories/lab"
    (tmp_path / "group_vars").mkdir()
    shutil.copy(lab / "group_vars/all/vault.yml", tmp_path / "group_vars/all.yml")
    file = inventory(tmp_path, without=tuple(VAULT))
    for playbook in ("doctor", "deploy"):
        code, output = play(playbook, file, "--vault-password-file", str(lab / ".vault_password"))
        refused(code, output, "Everybody can open", "group_vars/all.yml", "ansible-vault rekey")


def test_a_drain_without_a_host_is_told_what_to_name(tmp_path: Path) -> None:
    file = inventory(tmp_path)
    hosts = yaml.safe_load(file.read_text(encoding="utf-8"))
    hosts["load_balancer"] = {"hosts": {"lb1": NOWHERE}}
    file.write_text(yaml.safe_dump(hosts), encoding="utf-8")
    code, output = play("drain", file)
    refused(code, output, 'haproxy_server is "", so nothing was done', "-e haproxy_server=", "(there are 1)")


def test_an_inventory_without_hosts(tmp_path: Path) -> None:
    code, output = play("deploy", inventory(tmp_path, hosts={}))
    refused(code, output, "web", "hosts.yml")


def test_an_inventory_that_is_not_there(tmp_path: Path) -> None:
    code, output = play("deploy", tmp_path / "no-such-inventory")
    refused(code, output, "no-such-inventory")


def test_a_doctor_of_a_database_that_is_down_looks_at_the_app(tmp_path: Path) -> None:
    """All hosts of data are gone, or do not answer what is asked: those of web have their table all the same.

    With --check, too: whoever says it with a playbook that only looks is told no less.
    """
    file = inventory(tmp_path)
    hosts = yaml.safe_load(file.read_text(encoding="utf-8"))
    failing = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": "/no/python"}
    hosts["data"] = {"hosts": {"db1": NOWHERE, "db2": failing}, "vars": {"backup_repository": "/mnt/backup"}}
    full = failing | {"ansible_python_interpreter": sys.executable, "fastapi_app_disk_reserve": 1 << 40}
    hosts["web"]["hosts"]["full"] = full
    file.write_text(yaml.safe_dump(hosts), encoding="utf-8")
    code, output = play("doctor", file, "--check")
    assert code == 2, output
    told = output[output.index("Kept outside") :]
    assert re.search(r"^db1: .*connect", told, re.MULTILINE), output
    assert re.search(r"^db2: .*/no/python", told, re.MULTILINE), output
    assert re.search(r"^nowhere +cannot be reached", told, re.MULTILINE), output
    assert not re.search(r"^full +none", told, re.MULTILINE), output
