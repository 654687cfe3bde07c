# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""To which release a fleet goes back: one for all hosts, so that they never end on different ones. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.verdict import recorded

Answers = Mapping[str, Mapping[str, Any]]  # of verb look, by host


class NoCommonRelease(Exception):
    """There is none; the text says on which hosts not, and what to do."""


def common_release(answers: Answers) -> str:
    """The newest good release that every host has, to which no host would go forward and not all are already.

    After a roll that was held in the middle that is what the other hosts serve still. Raises NoCommonRelease.
    """
    found = earlier(answers)
    for release in found:
        if not lacking(release, answers):
            return release
    if not found:
        serving = "; ".join(f"{host} serves {recorded(answer) or 'nothing'}" for host, answer in answers.items())
        raise NoCommonRelease(
            f"there is no good release to return to before the one that serves ({serving}){by_name(answers)}"
        )
    best = min(found, key=lambda release: len(lacking(release, answers)))
    raise NoCommonRelease(
        f"there is no good release to which every host can return; {missing(best, answers)}, which splits the fleet "
        "until a deploy of all, or name another with -e fastapi_app_release=ID, which slipway.fleet.history lists"
        f"{by_name(answers)}"
    )


def by_name(answers: Answers) -> str:
    """The newest release that every host has and that was rolled back from: that is meant where it is named alone."""
    serving = {recorded(answer) for answer in answers.values()}
    for release in (one for answer in answers.values() for one in answer.get("skipped") or ()):
        there = all(
            release in (answer.get("skipped") or ()) or not lack(release, answer) for answer in answers.values()
        )
        if there and serving != {release}:
            return (
                f"; {release} is on all hosts and was skipped, since it was rolled back from: "
                f"-e fastapi_app_release={release}"
            )
    return ""


def earlier(answers: Answers) -> list[str]:
    """Releases that at least one host could return to, the newest first."""
    found: list[str] = []
    serving = {recorded(answer) for answer in answers.values()}
    for answer in answers.values():
        releases = [entry["release"] for entry in answer.get("good") or ()]
        current = recorded(answer)
        if current in releases:
            releases = releases[: releases.index(current) + 1]
        found += [release for release in reversed(releases) if release not in found]
    back = [release for release in found if not any(ahead(release, answer) for answer in answers.values())]
    return [release for release in back if serving - {None} != {release}]


def ahead(release: str, answer: Mapping[str, Any]) -> bool:
    """Whether a host had this release after the one that it serves."""
    releases = [entry["release"] for entry in answer.get("good") or ()]
    current = recorded(answer)
    return release in releases and current in releases and releases.index(release) > releases.index(current)


def lacking(release: str, answers: Answers) -> dict[str, str]:
    """What keeps hosts from returning to a release, by host."""
    found = {host: lack(release, answer) for host, answer in answers.items()}
    return {host: why for host, why in found.items() if why}


def lack(release: str, answer: Mapping[str, Any]) -> str:
    """What keeps one host from returning to a release; empty where nothing does, or where it serves that already."""
    if recorded(answer) == release:
        return ""
    entry: Optional[Mapping[str, Any]] = next(
        (entry for entry in answer.get("good") or () if entry["release"] == release), None
    )
    if entry is None:
        return "does not have it"
    return "" if entry.get("there", True) else "has no longer its image or package"


def missing(release: str, answers: Answers) -> str:
    """Which hosts lack a release and how to leave them out."""
    lacks = lacking(release, answers)
    named = ", ".join(f"{host} {why}" for host, why in lacks.items())
    return f"of release {release}: {named}; leave {them(list(lacks))}"


def them(hosts: Sequence[str]) -> str:
    """How to leave hosts out of a run."""
    pattern = ":".join(["all", *(f"!{host}" for host in hosts)])
    return f"{'them' if hosts[1:] else 'it'} out of this run with --limit '{pattern}'"


def mend(hosts: Sequence[str], every: bool = False) -> str:
    """What to do about hosts that cannot be reached; without those a run has no other where they are `every` one."""
    way = f"Mend {'their' if hosts[1:] else 'its'} connection"
    return way if every else f"{way}, or leave {them(hosts)}"


def unreached(host: str, why: object, hosts: Sequence[str]) -> str:
    """That a host of those in a run cannot be reached, and what to do about it."""
    return f"{host} cannot be reached: {str(why).rstrip('.')}. {mend([host], len(hosts) == 1)}"
