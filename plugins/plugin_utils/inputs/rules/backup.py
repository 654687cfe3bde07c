# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the variables of slipway.fleet.backup must be beyond their types."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.values import Least, Like, Values, broken, password

# What backup_database_elsewhere has to have, and what it may have besides; what each of it is, a line of libpq's file.
_NEEDED, _MORE = ("host", "user", "password", "databases"), ("port", "tls", "authority")
_WORD = ("[!-~]+", "printable ASCII characters without a space or a newline")
_PARTS = {
    "host": _WORD,
    "user": _WORD,
    "password": _WORD,
    "databases": (r"[^\0-\x1f/]+", "names of databases"),
    "port": ("[1-9][0-9]{0,4}", "a number"),
    "tls": ("verify-full|verify-ca|require|disable", "verify-full, verify-ca, require or disable"),
    "authority": (r"\s*-----BEGIN CERTIFICATE[\s\S]*", "a certificate, several lines from -----BEGIN CERTIFICATE on"),
}
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
    yield from _elsewhere(value_of("backup_database_elsewhere"), str(value_of("backup_database")))
    if (other := value_of("backup_drill_of")) and str(value_of("backup_database")) != "none":
        yield (
            f"backup_drill_of is {other} on a host that is told of a database of its own (group data), whose sets have "
            "what a release needs; set it on a host of the app that has none."
        )


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


def _elsewhere(given: Mapping[str, Any], provider: str) -> Iterator[str]:
    """How a database on no host of the fleet is reached."""
    name = "backup_database_elsewhere"
    if given and provider in ("compose", "native"):
        yield f"{name} is set on a host that runs the database itself ({provider}); say postgres_provider: none."
    if given and (unknown := sorted({*map(str, given)} - {*_NEEDED, *_MORE})):
        yield f"{name} has {unknown[0]}; it knows {', '.join((*_NEEDED, *_MORE))}."
    if missing := [part for part in _NEEDED if given and not given.get(part)]:
        yield f"{name} has no {missing[0]}; it needs {', '.join(_NEEDED)}."
    for part, (pattern, use) in _PARTS.items():
        value = given.get(part) or []
        if not all(re.fullmatch(pattern, str(one)) for one in (value if isinstance(value, list) else [value])):
            yield f"{part} of {name} has to be {use}."
    if isinstance(given.get("databases"), str):
        yield f"databases of {name} is {given['databases']}; use a list, such as [{given['databases']}]."


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
