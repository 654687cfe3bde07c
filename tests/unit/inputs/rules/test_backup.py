"""With which variables no host can be backed up."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.wrong import wrong_values

from tests.unit.inputs.saying import says

RIGHT: dict[str, Any] = {
    "backup_repository": "sftp:backup@backups.example.com:/srv/slipway",
    "backup_password": "a" * 16,
    "backup_environment": {},
    "backup_ssh_key": "",
    "backup_ssh_known_hosts": "",
    "backup_schedule": "*-*-* 02:30:00",
    "backup_drill_schedule": "Sun *-*-* 04:30:00",
    "backup_jitter": 1800,
    "backup_wal_every": 60,
    "backup_wal_days": 7,
    "backup_wal_room": 2048,
    "backup_drill_gate_deadline": 300,
    "backup_keep": {"daily": 7, "weekly": 4, "monthly": 6},
    "backup_directories": [],
    "backup_on_failure": "",
    "backup_database": "none",
    "backup_database_elsewhere": {},
    "backup_drill_of": "",
}
AWAY = {"host": "db.example.com", "user": "links", "password": "planted-secret", "databases": ["links"]}
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n"


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"backup_repository": "/mnt/backup"}, []),
        ({"backup_repository": "s3:https://s3.example.com/slipway"}, []),
        ({"backup_repository": "backups.example.com"}, ["backup_repository is backups.example.com; use a directory"]),
        ({"backup_repository": "/mnt/my backup"}, ["backup_repository is /mnt/my backup"]),
        ({"backup_repository": "rest:https://me:hidden@host/r"}, ["has a password in it, which would be shown"]),
        ({"backup_password": "short"}, ["set vault_backup_password"]),
        ({"backup_environment": {"AWS KEY": "x"}}, ["a key of backup_environment"]),
        ({"backup_ssh_key": "/root/.ssh/id_ed25519", "backup_ssh_known_hosts": "h k"}, ["is no private key"]),
        ({"backup_ssh_key": KEY}, ["backup_ssh_known_hosts is empty"]),
        ({"backup_ssh_key": KEY, "backup_ssh_known_hosts": "h ssh-ed25519 k"}, []),
        ({"backup_drill_of": "db1"}, []),
        (
            {"backup_drill_of": "db1", "backup_database": "native"},
            ["backup_drill_of is db1 on a host that is told of a"],
        ),
        ({"backup_database_elsewhere": AWAY}, []),
        ({"backup_database_elsewhere": AWAY, "backup_database": "native"}, ["runs the database itself (native)"]),
        ({"backup_database_elsewhere": {**AWAY, "hosts": "x"}}, ["has hosts; it knows host, user"]),
        ({"backup_database_elsewhere": {**AWAY, "password": ""}}, ["has no password; it needs host"]),
        (
            {"backup_database_elsewhere": {**AWAY, "password": "two\nlines"}},
            ["password of backup_database_elsewhere has to be printable"],
        ),
        (
            {"backup_database_elsewhere": {**AWAY, "port": "5432 sslmode=disable"}},
            ["port of backup_database_elsewhere has to be a number"],
        ),
        ({"backup_database_elsewhere": {**AWAY, "databases": "links"}}, ["use a list, such as [links]"]),
        ({"backup_database_elsewhere": {**AWAY, "databases": ["a/b"]}}, ["has to be names of databases"]),
        (
            {"backup_database_elsewhere": {**AWAY, "tls": "prefer"}},
            ["has to be verify-full, verify-ca, require or disable"],
        ),
        ({"backup_database_elsewhere": {**AWAY, "authority": "/etc/ca.pem"}}, ["has to be a certificate"]),
        ({"backup_on_failure": "mail-admin@%n.service"}, []),
        ({"backup_on_failure": "failed.target"}, []),
        ({"backup_on_failure": "mail-admin"}, ["the whole name of a unit"]),
        ({"backup_on_failure": "mail admin"}, ["the whole name of a unit"]),
        ({"backup_schedule": ""}, ["backup_schedule is"]),
        ({"backup_schedule": "daily\nUnit=x"}, ["backup_schedule is"]),
        ({"backup_jitter": -1}, ["use at least 0"]),
        ({"backup_drill_gate_deadline": 0}, ["backup_drill_gate_deadline is 0; use at least 1"]),
        ({"backup_wal_every": 1}, ["backup_wal_every is 1; use at least 10"]),
        ({"backup_wal_days": 0}, ["backup_wal_days is 0; use at least 1"]),
        ({"backup_wal_room": 64}, ["backup_wal_room is 64; use at least 256"]),
        ({"backup_keep": {}}, ["use at least one of hourly, daily"]),
        ({"backup_keep": {"daily": 0}}, ["backup_keep is"]),
        ({"backup_keep": {"dayly": 7}}, ["backup_keep is"]),
        ({"backup_directories": ["uploads"]}, ["whole paths of directories"]),
        ({"backup_directories": ["/"]}, ["whole paths of directories"]),
    ],
)
def test_hosts_that_cannot_be_backed_up(changed: dict[str, Any], said: list[str]) -> None:
    says("backup", RIGHT | changed, *said)


def test_no_secret_is_shown() -> None:
    wrong = RIGHT | {"backup_repository": "rest:https://me:hidden@host/r", "backup_password": "hidden"}
    assert "hidden" not in " ".join(wrong_values("backup", wrong.__getitem__))
