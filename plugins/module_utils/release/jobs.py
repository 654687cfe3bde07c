"""What a timer starts from the release that serves: as a release's files declare it, and when it is to begin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..host import command
from ..host.durable import read_json
from ..host.errors import Damaged

# What a release declares; one without the file has no jobs.
SCHEDULED = "jobs.json"
# Seconds that a job may take where it does not say.
LIMIT = 3600.0
FOR_EXAMPLE = 'write one such as "*-*-* 03:00", "Mon..Fri 08:30" or "*:0/15" (man systemd.time, Calendar Events)'


@dataclass(frozen=True)
class Job:
    """One job of a release. `schedule` is a calendar event of systemd; it is stopped after `limit` seconds."""

    command: list[str]
    schedule: str
    limit: float = LIMIT


def jobs_of(releases: Path, release: str) -> dict[str, Job]:
    """What a staged release declares, by name; empty where it declares nothing. Raises Damaged and OSError."""
    path = releases / release / SCHEDULED
    content = read_json(path) or {}
    known = {field.name for field in fields(Job)}
    try:
        found = {
            str(name): Job(**{key: value for key, value in said.items() if key in known})
            for name, said in content.items()
        }
    except (TypeError, AttributeError) as error:
        raise Damaged(f"{path} is damaged ({error}); stage the release again") from error
    if not all(isinstance(job.command, list) for job in found.values()):
        raise Damaged(f"{path} is damaged (a command is no list); stage the release again")
    return found


def schedule_problems(declared: Mapping[str, Any]) -> Iterator[str]:
    """A sentence for each schedule that the systemd of this host does not take, or that never comes."""
    for name, said in sorted(declared.items()):
        schedule = str(said.get("schedule") or "") if isinstance(said, Mapping) else ""
        if wrong := schedule_problem(schedule):
            yield f"fastapi_app_jobs: {name}: schedule is {schedule!r}; {wrong}"


def schedule_problem(schedule: str) -> str:
    """Why nothing could ever begin by a schedule on this host, and what to write; empty where it can."""
    try:
        ran = command.run(["systemd-analyze", "calendar", "--iterations=1", "--", schedule], 30)
    except command.CommandError:
        return "this host has no systemd (`systemd-analyze` is not there) that could start jobs; leave them out"
    if ran.returncode:
        return f"systemd does not understand it ({ran.said.splitlines()[-1]}); {FOR_EXAMPLE}"
    if "Next elapse: never" in ran.stdout:
        return f"that time never comes again; {FOR_EXAMPLE}"
    return ""
