"""What holds on every host whose app runs under systemd."""

from __future__ import annotations

import re
from typing import Any

import pytest
from contract import Promise, live_unit, promise_of, shown


@pytest.fixture(scope="module")
def promise(host: Any) -> Promise:
    return promise_of(host.check_output("hostname"))


@pytest.fixture(scope="module")
def unit(host: Any, promise: Promise) -> str:
    return live_unit(host, promise)


def exposure(host: Any, unit: str) -> float:
    said = host.check_output(f"systemd-analyze security --no-pager {unit}")
    found = re.search(rf"Overall exposure level for {re.escape(unit)}: ([0-9.]+)", said)
    assert found, said
    print(said)
    return float(found[1])


def test_the_host_has_no_docker(host: Any) -> None:
    assert not host.exists("docker")
    assert not host.exists("dockerd")


def test_one_slot_runs_now_and_after_a_reboot(host: Any, promise: Promise, unit: str) -> None:
    units = host.check_output(f"systemctl list-units --plain --no-legend 'slipway-{promise.app}@*'").splitlines()
    assert [line.split()[0] for line in units] == [unit]
    assert host.service(unit).is_enabled
    files = host.check_output(f"ls /etc/systemd/system/ | grep '^slipway-{promise.app}@'").split()
    assert files == [unit], "the idle slot has no unit"


def test_systemd_finds_nothing_wrong_with_the_unit(host: Any, unit: str) -> None:
    # It looks for programs on its own path only, not on ExecSearchPath=.
    said = host.run(f"systemd-analyze verify /etc/systemd/system/{unit}").stderr
    wrong = [line for line in said.splitlines() if unit in line and "is not executable" not in line]
    assert not wrong


def test_the_slot_has_limits(host: Any, promise: Promise, unit: str) -> None:
    assert int(shown(host, unit, "MemoryMax")) == promise.memory_mib << 20
    assert int(shown(host, unit, "TasksMax")) == promise.pids
    assert shown(host, unit, "CPUQuotaPerSecUSec") != "infinity"
    assert int(shown(host, unit, "LogRateLimitBurst")) > 0
    assert shown(host, unit, "TimeoutStopUSec") == "45s"


def test_the_slot_comes_back_by_itself(host: Any, unit: str) -> None:
    assert shown(host, unit, "Restart") == "always"
    assert shown(host, unit, "OOMPolicy") == "continue"
    assert int(shown(host, unit, "StartLimitBurst")) > 0


def test_the_exposure_is_small(host: Any, unit: str) -> None:
    assert exposure(host, unit) <= 1.0


def test_the_app_can_change_nothing_of_itself(host: Any, promise: Promise) -> None:
    assert host.check_output(f"find {promise.root} -not -user root -not -path '*/secrets*'") == ""
    writable = f"find {promise.root} -not -type l -perm /022"
    assert host.check_output(writable) == ""


def test_the_package_is_compiled_and_has_no_tools_to_install(host: Any, promise: Promise) -> None:
    (package,) = host.check_output(f"ls -d {promise.root}/packages/*").split()[-1:]
    assert host.check_output(f"find {package}/srv -name 'main.*.pyc'")
    assert host.check_output(f"find {package}/venv -path '*fastapi/__pycache__/applications.*.pyc'")
    assert not host.file(f"{package}/venv/bin/pip").exists


def test_secrets_are_credentials_and_in_no_environment(host: Any, promise: Promise, unit: str) -> None:
    names = host.check_output(f"ls /run/credentials/{unit}").split()
    assert set(names) == {"DATABASE_PASSWORD", "REDIS_PASSWORD", "SECRET_KEY"}
    assert not set(names) & set(re.findall(r"(\w+)=", shown(host, unit, "Environment")))


def test_database_and_cache_are_sockets_of_the_host(host: Any) -> None:
    listening = host.check_output("ss --listening --tcp --numeric --no-header").splitlines()
    ports = {line.split()[3].rpartition(":")[2] for line in listening}
    assert not {"5432", "6379"} & ports, "nobody reaches them over the network"
    assert host.file("/run/postgresql/.s.PGSQL.5432").is_socket
    assert host.file("/run/redis/redis.sock").is_socket


def test_nobody_gets_into_the_database_without_the_password(host: Any, promise: Promise) -> None:
    database = promise.app
    psql = f"runuser -u slipway-{promise.app} -- psql --no-password -h /run/postgresql -c 'SELECT 1'"
    as_app = host.run(f"{psql} -U {database} {database}")
    assert as_app.rc != 0
    assert "no password supplied" in as_app.stderr
    assert host.run(f"{psql} -U postgres").rc != 0
    assert host.check_output("runuser -u postgres -- psql -Atc 'SHOW password_encryption'") == "scram-sha-256"
    assert host.check_output("runuser -u postgres -- psql -Atc 'SHOW data_checksums'") == "on"
    assert "NOAUTH" in host.check_output("redis-cli -s /run/redis/redis.sock get anything")
