"""What operators do with a host that serves: each playbook does what its page says, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from contract import Promise
from deployment import Deployment

# What operators run in the release that serves.
GOOD_COMMAND = 'python -c \'import os; print("release", os.environ["RELEASE_ID"], os.environ["RELEASE_SLOT"])\''
BAD_COMMAND = "python -c 'import sys; print(\"my last words\"); sys.exit(7)'"


def told(deployment: Deployment, what: str, scratch: Path) -> tuple[int, list[dict[str, Any]]]:
    """Exit code and JSON of a playbook that tells."""
    file = scratch / f"{what}.json"
    outcome = deployment.play(what, **{f"slipway_{what}_file": str(file)})
    assert outcome.changed == 0, outcome.output
    rows: list[dict[str, Any]] = json.loads(file.read_text())
    return outcome.code, rows


def test_a_file_changed_by_hand_is_drift_and_ends_with_3(
    deployment: Deployment, host: Any, promise: Promise, tmp_path: Path
) -> None:
    release = f"/opt/slipway/{promise.app}/releases/{deployment.version()['release']}"
    host.check_output(f"echo '# by hand' >> {release}/compose.yaml")
    code, [row] = told(deployment, "status", tmp_path)
    host.check_output(f"sed -i '$d' {release}/compose.yaml")
    assert code == 3
    assert "compose.yaml of release" in row["drift"][0]


def test_a_host_as_it_was_deployed_has_no_drift(deployment: Deployment, tmp_path: Path) -> None:
    """Nor has the one of before, whose file is as it was again."""
    code, [row] = told(deployment, "status", tmp_path)
    assert (code, row["drift"], row["health"]) == (0, [], "ok")
    assert row["release"] == deployment.version()["release"]
    assert row["free_mib"] > 0


def test_a_freeze_refuses_a_deploy_with_its_reason(deployment: Deployment) -> None:
    frozen = deployment.play("lock", slipway_lock="frozen", slipway_lock_reason="the sale runs until Monday")
    assert frozen.code == 0, frozen.output
    refused = deployment.deploy()
    doctor = deployment.play("doctor")
    freed = deployment.play("lock", slipway_lock="free")
    assert refused.code != 0
    assert refused.changed == 0
    assert "the sale runs until Monday" in refused.failure()
    assert (doctor.code, doctor.changed) == (2, 0)
    assert "the sale runs until Monday" in doctor.output
    assert freed.code == 0, freed.output


def test_the_doctor_finds_nothing(deployment: Deployment) -> None:
    outcome = deployment.play("doctor")
    assert (outcome.code, outcome.changed) == (0, 0), outcome.output


def test_logs_are_shown_with_the_name_of_the_host(deployment: Deployment, name: str) -> None:
    outcome = deployment.play("logs", fastapi_app_log_lines=5)
    lines = [line for line in outcome.output.splitlines() if line.startswith(f"{name} | ")]
    assert (outcome.code, outcome.changed) == (0, 0)
    assert 1 <= len(lines) <= 5, outcome.output


def test_a_command_runs_in_the_release_that_serves(deployment: Deployment) -> None:
    outcome = deployment.play("run", slipway_command=GOOD_COMMAND)
    assert outcome.code == 0, outcome.output
    assert f"release {deployment.version()['release']} oneoff" in outcome.output


def test_a_command_that_fails_fails_the_run_with_its_output(deployment: Deployment) -> None:
    outcome = deployment.play("run", slipway_command=BAD_COMMAND)
    assert outcome.code != 0
    assert "exit code 7" in outcome.failure()
    assert "my last words" in outcome.output


def test_the_maintenance_page_outlives_a_reload_and_a_provision_run(deployment: Deployment, host: Any) -> None:
    try:
        assert deployment.play("maintenance", slipway_maintenance="on").changed == 1
        assert deployment.play("maintenance", slipway_maintenance="on").changed == 0
        host.check_output("systemctl reload haproxy")
        status, page = deployment.get("/")
        assert (status, "maintenance" in page) == (503, True)
        assert deployment.get("/readyz")[0] == 200, "a balancer would take the host out"
        assert deployment.play("provision").changed == 0
        assert deployment.get("/")[0] == 503
    finally:
        assert deployment.play("maintenance", slipway_maintenance="off").code == 0
    assert deployment.get("/livez")[0] == 200


def test_the_history_tells_who_did_what(deployment: Deployment, name: str, tmp_path: Path) -> None:
    """All that the tests before did, and the deploy before them."""
    code, rows = told(deployment, "history", tmp_path)
    assert code == 0
    serves = deployment.version()["release"]
    deployed = [row for row in rows if row["result"] == "good"][-1]
    assert (deployed["hosts"], deployed["release"]) == ([name], serves)
    assert all(deployed[what] for what in ("start", "who", "from", "image", "config", "migration"))
    frozen = [row["cause"] for row in rows if row["operation"] == "lock"]
    assert frozen[-2:] == ["frozen: the sale runs until Monday", "the freeze was lifted"]
    good, bad, *last = rows[-5:]
    assert (good["operation"], good["result"], good["release"], good["cause"]) == ("run", "done", serves, GOOD_COMMAND)
    assert (bad["operation"], bad["result"], bad["rc"]) == ("run", "failed", 7)
    done = [(row["operation"], row["result"], row["cause"]) for row in last]
    assert done == [("maintenance", "done", "on"), ("provision", "done", ""), ("maintenance", "done", "off")]


def test_a_check_run_says_what_restarts_and_the_run_after_it_does_so(deployment: Deployment, host: Any) -> None:
    since = "systemctl show --property=ActiveEnterTimestampMonotonic --value docker haproxy"
    before = host.check_output(since)
    for name in ("docker", "haproxy"):
        host.check_output(f"echo '# by hand' >> /etc/systemd/system/{name}.service.d/slipway.conf")
    checked = deployment.play("provision", "--check")
    assert (checked.code, host.check_output(since)) == (0, before)
    assert all(f"A run without --check restarts {name} on" in checked.output for name in ("Docker", "HAProxy"))
    outcome = deployment.play("provision")
    assert outcome.code == 0, outcome.output
    assert all(one != other for one, other in zip(host.check_output(since).split(), before.split(), strict=True))
    deployment.wait_until_serving()


def test_a_removed_app_leaves_nothing_but_its_data(deployment: Deployment, host: Any, promise: Promise) -> None:
    volumes = host.check_output("docker volume ls --quiet")
    outcome = deployment.play("remove", slipway_remove=promise.app)
    assert outcome.code == 0, outcome.output
    assert deployment.get("/livez")[0] == 421, "the edge knows no such app any more"
    for path in (
        f"/opt/slipway/{promise.app}",
        f"/run/slipway/{promise.app}",
        f"/etc/tmpfiles.d/slipway-{promise.app}.conf",
        f"/etc/tmpfiles.d/slipway-{promise.app}-slots.conf",
    ):
        assert not host.file(path).exists, path
    assert host.check_output(f"docker ps --all --quiet --filter label=slipway.app={promise.app}") == ""
    assert host.check_output("docker volume ls --quiet") == volumes
    source = deployment.made_from(str(Path(__file__).resolve().parents[3]))
    without = deployment.deploy(**source)
    assert "provision" in without.failure(), "its piece of the edge is gone, too"
    again = deployment.play("site", **source)
    assert again.code == 0, again.output
    deployment.wait_until_serving()
