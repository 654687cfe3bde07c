"""What holds on every host that serves an app, whichever runtime it has."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from contract import (
    Promise,
    app_processes,
    assert_no_secret,
    get,
    process_files,
    process_statuses,
    promise_of,
    read_json,
    scan_from_neighbour,
)


@pytest.fixture(scope="module")
def promise(host: Any) -> Promise:
    return promise_of(host.check_output("hostname"))


def test_the_edge_serves_the_release_that_the_records_name(host: Any, promise: Promise) -> None:
    status, body = get(host, "/version")
    assert status == 200
    state = read_json(host, f"{promise.root}/state.json")
    version = json.loads(body)
    assert (version["app"], version["release"], version["slot"]) == (promise.app, state["release"], state["slot"])


def test_the_app_is_ready_and_its_page_is_there(host: Any) -> None:
    assert get(host, "/readyz")[0] == 200
    status, page = get(host, "/")
    assert status == 200
    assert "<html" in page


def test_the_metrics_are_not_for_the_world(host: Any, promise: Promise) -> None:
    address = host.check_output("hostname -I").split()[0]
    assert "403" in host.check_output(f"curl -s -o /dev/null -w '%{{http_code}}' http://{address}/metrics")


def test_the_ledger_is_whole_and_ends_with_what_serves(host: Any, promise: Promise) -> None:
    ledger = host.file(f"{promise.root}/ledger.jsonl").content_string
    assert ledger.endswith("\n")
    entries = [entry for entry in map(json.loads, ledger.splitlines()) if "release" in entry]
    good = [entry for entry in entries if entry["result"] == "good"]
    assert good[-1]["release"] == read_json(host, f"{promise.root}/state.json")["release"]
    for entry in entries:
        assert {"release", "slot", "start", "end", "result", "who", "from", "image", "config", "phases"} <= entry.keys()
    assert not host.file(f"{promise.root}/intent.json").exists


def test_every_process_of_the_app_has_no_power(host: Any, promise: Promise) -> None:
    statuses = process_statuses(host, app_processes(host, promise))
    assert len(statuses) >= 2, "a master and a worker"
    for status in statuses:
        assert status["Uid"].split() == [str(promise.uid)] * 4
        assert status["Gid"].split() == [str(promise.uid)] * 4
        for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[capabilities], 16) == 0, capabilities
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"


def test_the_app_cannot_write_to_its_root(host: Any, promise: Promise) -> None:
    found = process_files(host, app_processes(host, promise), "mountinfo")
    assert len(found) >= 2, "a master and a worker"
    for content in found.values():
        mounts = [line.split() for line in content.splitlines()]
        (root,) = [mount for mount in mounts if mount[4] == "/"]
        assert "ro" in root[5].split(",")


def test_only_the_app_and_the_edge_reach_the_sockets(host: Any, promise: Promise) -> None:
    slot = read_json(host, f"{promise.root}/state.json")["slot"]
    for path in (promise.sockets, f"{promise.sockets}/{slot}"):
        directory = host.file(path)
        assert (directory.uid, directory.group, directory.mode) == (promise.uid, "haproxy", 0o750)
    assert host.file(f"{promise.sockets}/{slot}/app.sock").is_socket


def test_secret_files_belong_to_the_app_alone(host: Any, promise: Promise) -> None:
    release = read_json(host, f"{promise.root}/state.json")["release"]
    directory = f"{promise.root}/releases/{release}/secrets"
    assert host.file(directory).mode == 0o500
    names = host.file(directory).listdir()
    assert names
    for name in names:
        file = host.file(f"{directory}/{name}")
        assert (file.uid, file.gid, file.mode) == (promise.uid, promise.uid, 0o400)


def test_the_edge_is_sandboxed(host: Any) -> None:
    said = host.check_output("systemd-analyze security --no-pager haproxy.service")
    exposure = re.search(r"Overall exposure level for haproxy.service: ([0-9.]+)", said)
    assert exposure
    assert float(exposure[1]) <= 3.0


def test_only_ssh_and_http_answer_a_neighbour(host: Any) -> None:
    # The address on the lab's network: those of Docker's own bridges inside the host lead a neighbour elsewhere.
    own = re.search(r"inet ([0-9.]+)/", host.check_output("ip -4 -o address show dev eth0"))
    assert own
    answering = scan_from_neighbour(own[1])
    assert 80 in answering
    assert set(answering) <= {22, 80, 443}


def test_no_secret_of_the_vault_is_anywhere_but_in_its_file(host: Any, promise: Promise) -> None:
    assert_no_secret(host, promise.secrets, app=promise)


def test_a_secret_left_behind_would_be_found(host: Any, promise: Promise) -> None:
    canary = {"canary": "Zq7-not-a-secret-but-looks-like-one"}
    host.check_output("install -m 0600 /dev/null /var/tmp/left-behind")
    host.check_output(f"echo password={canary['canary']} > /var/tmp/left-behind")
    try:
        with pytest.raises(AssertionError, match="canary in /var/tmp/left-behind"):
            assert_no_secret(host, canary)
    finally:
        host.check_output("rm /var/tmp/left-behind")


def test_nothing_has_failed(host: Any) -> None:
    assert host.check_output("systemctl list-units --failed --no-legend --plain") == ""
