"""What the role backup writes on a host, and whether the program that it puts there starts."""

from __future__ import annotations

import json
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml
from jinja2 import Undefined

from tests.templates.rendering import ROOT, Role

PASSWORD = "planted-secret-0123456789"
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nplanted-key\n-----END OPENSSH PRIVATE KEY-----"


def role(**variables: Any) -> Role:
    usual = {
        "backup_repository": "sftp:backup@host:/srv/sets",
        "backup_password": PASSWORD,
        "backup_environment": {"AWS_SECRET_ACCESS_KEY": "planted-words"},
        "inventory_hostname": "db1",
    }
    return Role("backup", **(usual | variables))


def files(**variables: Any) -> dict[str, dict[str, Any]]:
    return {entry["dest"]: entry for entry in role(**variables).value("__backup_files")}


def test_secrets_are_in_files_of_root_alone_and_shown_nowhere() -> None:
    with_secrets = {
        path: entry
        for path, entry in files(backup_ssh_key=KEY, backup_ssh_known_hosts="host k").items()
        if "planted" in str(entry.get("content", ""))
    }
    assert set(with_secrets) == {f"/etc/slipway/backup/{name}" for name in ("password", "environment.json", "ssh_key")}
    for entry in with_secrets.values():
        assert (entry["mode"], entry["owner"], entry["secret"]) == ("0400", "root", True)
    for template in ("service.j2", "timer.j2", "drill_service.j2", "drill_timer.j2", "program.py.j2", "ssh_config.j2"):
        assert "planted" not in role().render(template)


def test_a_key_that_is_taken_away_goes_from_the_host() -> None:
    assert files()["/etc/slipway/backup/ssh_key"]["state"] == "absent"
    assert files(backup_ssh_key=KEY)["/etc/slipway/backup/ssh_key"]["content"].endswith(
        "-----END OPENSSH PRIVATE KEY-----\n"
    )


def test_the_settings_are_what_the_program_reads() -> None:
    found = json.loads(files(backup_directories=["/srv/a"])["/etc/slipway/backup/config.json"]["content"])
    assert found == {
        "repository": "sftp:backup@host:/srv/sets",
        "host": "db1",
        "database": "none",
        "elsewhere": [],
        "directories": ["/srv/a"],
        "volumes": ["/var/lib/slipway/*/volumes/*"],
        "keep": {"daily": 7, "weekly": 4, "monthly": 6},
        "releases": True,
        "deadline": 300,
        "drill_of": "",
        "drill_image": "",
        "append_only": False,
        "wal": False,
        "wal_days": 7,
        "wal_room": 2048,
    }
    assert json.loads(files(backup_database="native")["/etc/slipway/backup/config.json"]["content"])["wal"] is True


@pytest.mark.parametrize(
    ("given", "packages", "images"),
    [
        ({}, False, []),
        ({"backup_drill_provider": "native"}, False, []),
        ({"backup_drill_of": "db1"}, False, [{"name": "postgres:17.6", "source": "ship"}]),
        (
            {"backup_drill_of": "db1", "backup_drill_image": "postgres:15"},
            False,
            [{"name": "postgres:17.6", "source": "ship"}, {"name": "postgres:15"}],
        ),
        ({"backup_drill_of": "db1", "backup_drill_provider": "native"}, True, []),
    ],
)
def test_a_host_that_drills_for_another_one_has_what_stands_in_for_its_servers(
    given: dict[str, Any], packages: bool, images: list[dict[str, str]]
) -> None:
    made = role(backup_drill_images=[{"name": "postgres:17.6", "source": "ship"}], **given)
    assert ("postgresql" in made.value("__backup_packages")) == packages
    assert made.value("__backup_drill_images") == images


def test_points_in_time_are_kept_where_a_database_is_backed_up_and_they_are_wanted() -> None:
    timer = "/etc/systemd/system/slipway-backup-wal.timer"
    assert files(backup_database="compose")[timer]["src"] == "wal_timer.j2"
    assert "slipway-backup-wal.timer" in role(backup_database="compose").value("__backup_timers")
    without: list[dict[str, Any]] = [{"backup_database": provider} for provider in ("none", "elsewhere")]
    for off in (*without, {"backup_database": "compose", "backup_wal": False}):
        assert files(**off)[timer]["state"] == "absent"
        assert "slipway-backup-wal.timer" not in role(**off).value("__backup_timers")


def unit(text: str) -> ConfigParser:
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    return parser


@pytest.mark.parametrize(
    ("template", "when"), [("timer.j2", "*-*-* 02:30:00"), ("drill_timer.j2", "Sun *-*-* 04:30:00")]
)
def test_what_was_missed_is_made_up_for(template: str, when: str) -> None:
    timer = unit(role().render(template))["Timer"]
    assert (timer["OnCalendar"], timer["Persistent"], timer["RandomizedDelaySec"]) == (when, "true", "1800")


@pytest.mark.parametrize(
    ("template", "verb"), [("service.j2", "backup --reason=timer"), ("drill_service.j2", "drill --reason=timer")]
)
def test_what_serves_goes_first(template: str, verb: str) -> None:
    service = unit(role().render(template))["Service"]
    assert service["ExecStart"] == f"/usr/local/sbin/slipway-backup {verb}"
    assert (service["Nice"], service["IOSchedulingClass"]) == ("19", "idle")


@pytest.mark.parametrize("template", ["service.j2", "drill_service.j2"])
def test_a_failure_of_a_timer_starts_what_the_inventory_says(template: str) -> None:
    assert "OnFailure" not in unit(role().render(template))["Unit"]
    asked = unit(role(backup_on_failure="mail-admin@%n.service").render(template))["Unit"]
    assert asked["OnFailure"] == "mail-admin@%n.service"


def test_the_program_starts_from_its_own_files(tmp_path: Path) -> None:
    written = role(__backup_tools=str(tmp_path / "tools"))
    for entry in written.value("__backup_program"):
        path = Path(entry["dest"])
        if entry.get("state") == "directory":
            path.mkdir(parents=True)
        else:
            path.write_text(entry["content"])
    script = written.render("program.py.j2")
    (tmp_path / "slipway-backup").write_text(script)
    words = [sys.executable, "-I", str(tmp_path / "slipway-backup")]
    helped = subprocess.run([*words, "--help"], capture_output=True, text=True, check=True)
    assert "restore a set" in helped.stdout
    refused = subprocess.run([*words, "restore"], capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "--part" in refused.stderr


def test_a_restore_holds_the_app_before_it_is_seen_and_restarts_it_behind_the_page() -> None:
    plays = [play["name"] for play in yaml.safe_load((ROOT / "playbooks" / "restore.yml").read_text())]
    order = ["Say what", "Refuse where", "Hold the fleet", "Show the", "Restore"]
    order += ["Start the app anew", "Take the", "Fail where"]
    assert [name.startswith(word) for name, word in zip(plays[1:], order, strict=True)] == [True] * len(order), plays


@pytest.mark.parametrize(
    ("told", "restarts"), [({"told": {"restart": True}}, True), ({"told": {}}, False), ({"failed": True}, False)]
)
def test_only_where_directories_were_restored_the_app_is_restarted(told: dict[str, Any], restarts: bool) -> None:
    plays = yaml.safe_load((ROOT / "playbooks" / "restore.yml").read_text())
    (when,) = [play["when"] for play in plays if play["name"].startswith("Start the app anew")]
    known = role(restored_host="db1", hostvars={"db1": {"backup_restore_result": told}})
    assert known.value(when) is restarts


@pytest.mark.parametrize("playbook", ["backup", "drill", "status"])
def test_hosts_that_are_not_backed_up_are_left_out(playbook: str) -> None:
    plays = yaml.safe_load((ROOT / "playbooks" / f"{playbook}.yml").read_text())
    tasks = [task for play in plays for outer in play.get("tasks", ()) for task in outer.get("block", [outer])]
    own = [task for task in tasks if "backup" in task.get("ansible.builtin.import_role", {}).get("name", "")]
    assert own
    for task in own:
        assert role().value(task["when"]) is True
        assert role(backup_repository=Undefined()).value(task["when"]) is False
