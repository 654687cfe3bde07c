"""What is wrong with a host is said before anything on it changes: the place, and the next step. The app serves on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from contract import Promise
from deployment import Deployment, Outcome


def refused(deployment: Deployment, host: Any, promise: Promise, playbook: str = "deploy", **variables: Any) -> Outcome:
    """Run a playbook that must fail, and see that it left everything as it was."""
    before = deployment.version()
    files = f"find {promise.root} /etc -ignore_readdir_race -printf '%p %m %s %T@\\n' | sort"
    there = host.check_output(files)
    outcome = deployment.play(playbook, **variables)
    assert outcome.code != 0, outcome.output
    assert outcome.changed == 0, outcome.output
    assert host.check_output(files) == there
    assert deployment.version() == before
    return outcome


@contextmanager
def replaced(host: Any, path: str, command: str) -> Iterator[None]:
    """Keep a copy of a file, change it by a command, and put it back with its time."""
    host.check_output(f"cp -a --dereference {path} /run/kept && {command}")
    try:
        yield
    finally:
        host.check_output(f"cp -a --remove-destination /run/kept {path} && rm /run/kept")


@contextmanager
def stopped_docker(host: Any) -> Iterator[None]:
    host.check_output("systemctl stop docker.socket docker.service")
    try:
        yield
    finally:
        host.check_output("systemctl start docker.socket docker.service")


def test_too_little_room(deployment: Deployment, host: Any, promise: Promise) -> None:
    message = refused(deployment, host, promise, fastapi_app_disk_reserve=1 << 30).failure()
    assert "MiB free" in message
    assert "fastapi_app_disk_reserve" in message


def test_a_full_disk(deployment: Deployment, host: Any, promise: Promise) -> None:
    """A file system of 2 MB where the app's files go, full."""
    host.check_output(f"mount -t tmpfs -o size=2m tmpfs {promise.root}")
    try:
        message = refused(deployment, host, promise).failure()
    finally:
        host.check_output(f"umount {promise.root}")
    assert "MiB free" in message
    assert promise.root in message


def test_docker_is_stopped(deployment: Deployment, host: Any, promise: Promise) -> None:
    """Containers go on running without their engine, so the app serves; a release needs it."""
    with stopped_docker(host):
        message = refused(deployment, host, promise).failure()
    assert "Docker is installed but does not answer" in message
    assert "systemctl status docker" in message


def test_a_distribution_that_is_not_supported(deployment: Deployment, host: Any, promise: Promise) -> None:
    # Of Debian, Ansible's facts take the version from here.
    with replaced(host, "/etc/debian_version", "echo 11.11 > /etc/debian_version"):
        outcome = deployment.play("provision")
    assert outcome.code != 0, outcome.output
    assert outcome.changed == 0, outcome.output
    assert "has no Docker Engine with Compose v2 for Debian 11" in outcome.failure()


def test_a_value_of_the_last_role_is_refused_before_the_first_one_begins(
    deployment: Deployment, host: Any, promise: Promise
) -> None:
    outcome = refused(deployment, host, promise, "provision", fastapi_app_rate_limit={"requests": 0, "seconds": 10})
    assert "rate_limit" in outcome.failure()
    assert "Hold the host for this run" not in outcome.output


def test_a_stopped_edge(deployment: Deployment, host: Any, promise: Promise) -> None:
    host.check_output("systemctl stop haproxy")
    try:
        outcome = deployment.deploy()
    finally:
        host.check_output("systemctl start haproxy")
    deployment.wait_until_serving()
    assert outcome.code != 0, outcome.output
    assert outcome.changed == 0, outcome.output
    assert "/run/haproxy/admin.sock" in outcome.failure()
