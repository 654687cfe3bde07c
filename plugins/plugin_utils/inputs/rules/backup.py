# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the variables of slipway.fleet.backup must be beyond their types."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.values import Least, Like, Values, broken, password

_PERIODS = ("hourly", "daily", "weekly", "monthly", "yearly")


def backups(value_of: Values) -> Iterator[str]:
    """A sentence for each value that no host can be backed up with."""
    yield from password("backup_password", value_of)
    yield from _repository(str(value_of("backup_repository")))
    yield from _kept(value_of("backup_keep"))
    schedule = r"[A-Za-z0-9*,.:/~ _+-]+"
    unit = r"([\w:.@%-]+\.(service|target))?"
    example = "a time as OnCalendar of systemd reads it, such as *-*-* 02:30:00 (systemd-analyze calendar tells)"
    yield from broken(
        (
            Least("backup_jitter", 0),
            Least("backup_drill_gate_deadline", 1),
            Least("backup_wal_every", 10),
            Least("backup_wal_days", 1),
            Least("backup_wal_room", 256),
            Like("backup_schedule", schedule, example),
            Like("backup_drill_schedule", schedule, example),
            Like("backup_on_failure", unit, "the whole name of a unit, such as mail-admin@%n.service"),
            Like("backup_directories", r"/[^\0\n]*[^/\0\n]", "whole paths of directories, such as /srv/uploads"),
            Like("backup_environment", r"[A-Za-z_][A-Za-z0-9_]*", "names of variables, such as AWS_ACCESS_KEY_ID"),
        ),
        value_of,
    )
    yield from _ssh(value_of)


def _repository(repository: str) -> Iterator[str]:
    place = repository.startswith("/") or re.match(r"(sftp|s3|rest|b2|azure|gs|swift|rclone):.", repository)
    if not place or re.search(r"\s", repository):
        yield (
            f"backup_repository is {repository}; use a directory of the host (/mnt/backup), another host over SSH "
            "(sftp:backup@backups.example.com:/srv/slipway), S3 (s3:https://s3.example.com/slipway) or a server of "
            "restic's own kind (rest:https://backups.example.com/slipway)."
        )
    elif re.match(r"\w+:.*//[^/@\s]*:[^/@\s]+@", repository):
        yield (
            "backup_repository has a password in it, which would be shown; put it into backup_environment in the words "
            "that restic reads, such as RESTIC_REST_USERNAME and RESTIC_REST_PASSWORD."
        )


def _kept(keep: dict[str, object]) -> Iterator[str]:
    counts = [str(count) for count in keep.values()]
    if not keep or set(keep) - set(_PERIODS) or not all(re.fullmatch(r"[1-9]\d*", count) for count in counts):
        yield (
            f"backup_keep is {keep}; use at least one of {', '.join(_PERIODS)} with a number from 1 on, such as "
            "{daily: 7, weekly: 4, monthly: 6}."
        )


def _ssh(value_of: Values) -> Iterator[str]:
    key, hosts = str(value_of("backup_ssh_key")).strip(), str(value_of("backup_ssh_known_hosts")).strip()
    if key and not key.startswith("-----BEGIN"):
        yield "backup_ssh_key is no private key; it begins with -----BEGIN and has several lines, from the vault."
    if key and not hosts:
        yield (
            "backup_ssh_key is set and backup_ssh_known_hosts is empty; take the lines of the repository's host from "
            "ssh-keyscan, and compare them with those that its administrator has."
        )
