# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What became of a fleet, from what its hosts answer at the end of a run. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

# How a host's part in a roll can end: the transaction's own result.
GOOD, UNCHANGED, FAILED, UNREACHABLE, HELD = "good", "unchanged", "failed", "unreachable", "held"
# And once the fleet is settled.
REVERTED, UNTOUCHED = "reverted", "untouched"
# The kind of a trouble that says nothing about what the host does.
DOUBT = "doubt"

# What a host serves that cannot see it.
UNKNOWN = "something unknown"
# And one on which a transaction died in its switch.
TWOFOLD = "two releases at once"


@dataclass(frozen=True)
class Trouble:
    """Why a host did not do what it was asked: `outcome` is failed or unreachable, `cause` one line for people.

    `kind` is that of a refusal (see Refused); DOUBT where nobody knows whether the host does it nevertheless.
    """

    outcome: str
    cause: str
    diagnosis: str = ""
    kind: str = ""


@dataclass
class Part:
    """What is known of one host's part in a run; it grows while the run goes on."""

    name: str
    batch: int = 0
    wanted: str = ""  # the release that it is to serve, empty while unknown
    settled: bool = False  # it served that before, as it should, and is left alone
    before: Optional[str] = None  # what it served before, None for nothing
    rolled: str = ""  # how its transaction ended: good, unchanged, failed, unreachable; empty where it was not begun
    trouble: Optional[Trouble] = None  # why not good
    return_trouble: Optional[Trouble] = None  # why it could not be taken back
    now: Optional[Mapping[str, Any]] = None  # what it answered at last, see verb let_go
    lost: Optional[Trouble] = None  # why it could not be asked for that
    steps: list[dict[str, Any]] = field(default_factory=list)
    gap: float = 0.0  # seconds in which nobody answered, since one release made way for another
    api: Optional[Mapping[str, Any]] = None  # what the release breaks of the API, see verb activate
    replay: Optional[Mapping[str, Any]] = None  # what it breaks of what users asked for, see verb activate
    canary: Optional[Mapping[str, Any]] = None  # how it answers beside the one before, see verb activate

    @property
    def serves(self) -> Optional[str]:
        """What answers at its edge now; None for nothing, or where that is not known."""
        return serving(self.now or {})


def serving(answer: Mapping[str, Any]) -> Optional[str]:
    """The release that answers at the edge of a host, as it says itself; None where none does."""
    return (answer.get("serving") or {}).get("release") or None


def recorded(answer: Mapping[str, Any]) -> Optional[str]:
    """The release that a host serves or, where nothing answers, should serve by its records; None for none."""
    return serving(answer) or (answer.get("state") or {}).get("release") or None


def end_of(part: Part, stopped: bool, kept: bool) -> tuple[str, Optional[Trouble]]:
    """The outcome of one host and what was wrong with it. What answers now counts, not what was reported.

    Args:
        part: of the host
        stopped: whether the roll ended before it was good everywhere
        kept: whether hosts that had switched were left on the new release then
    """
    if part.lost:
        return part.lost.outcome, joined(part.trouble, part.lost)
    if part.settled or not stopped:
        return (part.rolled or UNCHANGED, None) if good(part) else (FAILED, falls_short(part))
    if not part.rolled:
        return untouched(part)
    if part.rolled in (FAILED, UNREACHABLE):
        return part.rolled, part.trouble
    return switched(part, kept)


def untouched(part: Part) -> tuple[str, Optional[Trouble]]:
    """One that was not begun. What stopped the run before the roll may have been its own trouble."""
    if part.trouble:
        return part.trouble.outcome, part.trouble
    if part.serves == part.before:
        return UNTOUCHED, None
    cause = f"serves {seen(part)} and served {said(part.before)} before, which this run did not do"
    return FAILED, Trouble(FAILED, cause)


def switched(part: Part, kept: bool) -> tuple[str, Optional[Trouble]]:
    """One that was good when the roll failed elsewhere."""
    if part.before and part.before != part.wanted and not kept:
        if part.serves == part.before:
            return REVERTED, None
        trouble = part.return_trouble or Trouble(FAILED, f"serves {seen(part)} and not {part.before} again")
        return trouble.outcome, trouble
    if not good(part):
        return FAILED, falls_short(part)
    return (HELD if kept and part.before != part.wanted else part.rolled), None


def good(part: Part) -> bool:
    """Whether the host answers with what it is to serve, and nothing differs from what it should be."""
    return part.serves == part.wanted and not drift(part)


def falls_short(part: Part) -> Trouble:
    """Why a host that reported success is not good."""
    if part.serves != part.wanted:
        found = "; ".join(drift(part))
        return Trouble(FAILED, f"serves {seen(part)} and not {part.wanted}{f': {found}' if found else ''}")
    return Trouble(FAILED, f"serves {part.wanted}, but {'; '.join(drift(part))}")


def drift(part: Part) -> list[str]:
    return [str(found) for found in (part.now or {}).get("drift") or ()]


def joined(first: Optional[Trouble], last: Trouble) -> Trouble:
    """Both causes where there are two; the evidence is that of the first."""
    if first is None or first.cause == last.cause:
        return first or last
    return Trouble(last.outcome, f"{first.cause}; then it {last.cause}", first.diagnosis or last.diagnosis)


def seen(part: Part) -> str:
    """What a host serves, for people."""
    return answered(part.now or {})


def answered(now: Mapping[str, Any]) -> str:
    """What a host serves by its answer; one whose runtime or edge does not answer does not know it itself."""
    if now.get("twofold"):
        return TWOFOLD
    unseen = now.get("slots") == {} or now.get("servers") == {}
    return UNKNOWN if unseen and not serving(now) else said(serving(now))


def said(release: Optional[str]) -> str:
    return release or "nothing"


def breaks_of(told: Mapping[str, Any]) -> list[str]:
    """What a release breaks, by what its transaction told of the API and of a replay, whatever a host says there."""
    parts = (told.get(name) for name in ("api", "replay"))
    lists = (part.get("breaks") for part in parts if isinstance(part, Mapping))
    return [str(found) for breaks in lists if isinstance(breaks, list) for found in breaks]


def host_row(part: Part, stopped: bool, kept: bool) -> dict[str, Any]:
    """One host for the report: what it was, what was tried, what it is now."""
    outcome, trouble = end_of(part, stopped, kept)
    return {
        "host": part.name,
        "batch": part.batch,
        "was": part.before,
        "tried": part.wanted or None,
        "now": part.serves,
        "outcome": outcome,
        "cause": trouble.cause if trouble else "",
        "diagnosis": trouble.diagnosis if trouble else "",
        "drift": drift(part),
        "gap": round(part.gap, 2),
        "breaks": breaks_of({"api": part.api, "replay": part.replay}),
        "breaks_left_out": int((part.api or {}).get("more") or 0),
        "canary": dict(part.canary) if part.canary else None,
        "steps": sorted(part.steps, key=lambda step: float(step["start"])),
    }


def steps(began: float, phases: Sequence[Mapping[str, Any]], revert: bool = False) -> list[dict[str, Any]]:
    """The phases of a transaction on the controller's clock, `began` in seconds since the epoch."""
    return [
        {
            "phase": phase["phase"],
            "start": began + phase.get("at", 0.0),
            "seconds": phase["seconds"],
            "revert": revert or phase["phase"] == "return",
        }
        for phase in phases
    ]


def verdict(rows: Sequence[Mapping[str, Any]]) -> str:
    """One word for the fleet: good, nothing, reverted, held or failed."""
    outcomes = {row["outcome"] for row in rows}
    if outcomes <= {GOOD, UNCHANGED}:
        return "good" if GOOD in outcomes else "nothing"
    if HELD in outcomes:
        return "held"
    # Of a host that failed and for which nothing answers it is not known that this was so before.
    known = all(row["now"] or row["outcome"] == UNTOUCHED for row in rows)
    return "reverted" if known and all(row["now"] == row["was"] for row in rows) else "failed"


def sentence(
    word: str,
    rows: Sequence[Mapping[str, Any]],
    release: str,
    reason: str = "",
    restart: bool = False,
    changed: bool = False,
    others: str = "",
) -> str:
    """The verdict in one sentence, with the next step where there is one.

    `reason` says why the run was stopped where no host was the cause. What a `restart` starts anew serves already, and
    is not what was refused. `changed`: a host was, with an image perhaps that turned out to be the one that serves.
    `others` says which hosts of the fleet the run was not about, see `not_in_it`.
    """
    first = next((row for row in rows if row["cause"]), None)
    because = f"{first['host']}: {first['cause']}" if first else reason or "see the table"
    ended = "stopped" if reason and not first else "refused"
    subject = "the restart" if restart else f"release {release}"
    served = ", ".join(dict.fromkeys(str(row["now"]) for row in rows)) or release
    each = f"release {release}" if served == release else f"what it is to serve ({served})"
    hosts = f"every host{' of this run' if others else ''}"
    if word == "nothing":
        return f"{hosts} serves {each} already; nothing was {'switched' if changed else 'changed'}{others}"
    if word == "good":
        return f"{hosts} serves {each}{others}"
    if word == "reverted":
        return f"{subject} was {ended} ({because}); every host serves what it served before"
    if word == "held":
        wanted_so = "" if reason and not first else ", as fastapi_app_on_failure says"
        return f"{subject} stopped in the middle ({because}) and was held there{wanted_so}; mend the cause and " + (
            "restart again" if restart else "deploy again, or run slipway.fleet.rollback"
        )
    return shortfall(rows, because, ended, release, "restart" if restart else "deploy")


# What takes hosts that a run left out to what the others serve, by its operation. A restart takes nobody anywhere.
_TAKEN_ALONG = {
    "deploy": ": a deploy without --limit takes {them} there",
    "rollback": ": a rollback without --limit, with -e fastapi_app_release={release}, takes {them} there",
}
# Hosts that are named of those that a run left out.
MOST_LEFT_OUT = 8


def not_in_it(left_out: Sequence[str], operation: str, release: str) -> str:
    """Which hosts of the fleet a run was not about, and what takes them along; empty where it was about all."""
    if not left_out:
        return ""
    many = len(left_out) > 1
    keep = "which keep what they serve" if many else "which keeps what it serves"
    if operation == "restart":
        keep = f"which {'were' if many else 'was'} not started anew"
    along = _TAKEN_ALONG.get(operation, "").format(release=release, them="them" if many else "it")
    more = f" and {len(left_out) - MOST_LEFT_OUT} more" if left_out[MOST_LEFT_OUT:] else ""
    return f"; not in it: {', '.join(left_out[:MOST_LEFT_OUT])}{more}, {keep}{along}"


def shortfall(rows: Sequence[Mapping[str, Any]], because: str, ended: str, release: str, operation: str) -> str:
    """What became of a release that serves neither everywhere nor nowhere, and the next step."""
    outcomes = {row["outcome"] for row in rows}
    if GOOD in outcomes and outcomes <= {GOOD, UNCHANGED, UNREACHABLE}:
        return (
            f"release {release} serves on every host that answers, but not all do ({because}); mend their connection "
            f"and {operation} again, which takes them along"
        )
    if GOOD in outcomes and outcomes <= {GOOD, UNCHANGED, UNREACHABLE, FAILED}:
        return (
            f"release {release} does not serve as it should on every host ({because}); mend the hosts of the table "
            f"that say so and {operation} again"
        )
    subject = "the restart" if operation == "restart" else f"release {release}"
    return (
        f"{subject} was {ended} ({because}), and not every host is back on what it served before; mend the hosts of "
        f"the table that say so and {operation} again"
    )


def wrong(rows: Sequence[Mapping[str, Any]], message: str, release: str, restart: bool = False) -> dict[str, str]:
    """For each host that did not end as the run wanted, what it serves and why.

    A cause is told by the host that has it; the others name that host. After a `restart` that a host serves its release
    says nothing.
    """
    blamed = next((row["host"] for row in rows if row["cause"]), "")
    otherwise = f"because of {blamed}" if blamed else message
    return {
        row["host"]: wrong_of(row, otherwise, str(row["tried"] or release), restart)
        for row in rows
        if row["outcome"] not in (GOOD, UNCHANGED)
    }


def wrong_of(row: Mapping[str, Any], otherwise: str, release: str, restart: bool) -> str:
    """What a host serves and why; its own cause may begin with what it serves."""
    cause = str(row["cause"] or otherwise)
    if cause.startswith("serves "):
        return cause
    if row["now"] != release:
        return f"serves {row['now'] or 'something unknown'} and not {release}: {cause}"
    return f"serves {release}{', and was not started anew' if restart else ', but not as it should'}: {cause}"


def wanted(rows: Sequence[Mapping[str, Any]]) -> str:
    """The release that the run was about, from what the hosts tried."""
    return str(next((row["tried"] for row in rows if row["tried"]), "") or "unknown")


def plan(
    rows: Sequence[Mapping[str, Any]],
    release: str,
    migrations: Sequence[str] = (),
    free: Optional[Mapping[str, int]] = None,
    images: Sequence[tuple[str, str]] = (),
    saved: str = "",
    activations: Sequence[Mapping[str, Any]] = (),
    unread: bool = False,
    others: str = "",
) -> str:
    """What a run would do, as lines for people.

    Args:
        rows: the hosts
        release: the wanted one
        migrations: what the database needs before
        free: disk space of each host in MiB
        images: for each host that changes, the image of the release that serves and of the wanted one
        saved: what is done for the database before it is migrated
        activations: of each host that changes and serves something, what verb activate would be asked
        unread: whether only the image can tell what the database needs
        others: which hosts of the fleet the run is not about, see `not_in_it`
    """
    waiting = [row for row in rows if row["batch"]]
    if not waiting:
        return f"Plan: nothing; every host{' of this run' if others else ''} serves release {release} already{others}."
    lines = [f"Plan: release {release} on {len(waiting)} of {len(rows)} hosts, in this order:"]
    for number in sorted({row["batch"] for row in waiting}):
        hosts = [f"{row['host']} ({row['was'] or 'nothing'})" for row in waiting if row["batch"] == number]
        lines.append(f"  batch {number}: {', '.join(hosts)}")
    lines += [f"Image: {was or 'none'} -> {to}" for was, to in dict.fromkeys(images) if to not in ("", was)]
    if migrations:
        lines.append(f"Migrations before the first host: {', '.join(migrations)}")
    if unread:
        lines.append(
            "Migrations before the first host: its image tells them once it is there, and what may break the release "
            "that serves is refused then, before anything is switched (slipway_migrations, the directory of the "
            "revisions in a checkout, names them here)"
        )
    lines += [saved] if saved else []
    lines += dict.fromkeys(words for activation in activations for words in compared(activation))
    lines += foreseen(waiting, release)
    if free:
        host = min(free, key=lambda name: free[name])
        lines.append(f"Least free disk: {free[host]} MiB on {host}")
    if others:
        lines.append(f"Of the fleet{others.removeprefix(';')}")
    return "\n".join(lines)


def foreseen(rows: Sequence[Mapping[str, Any]], release: str) -> list[str]:
    """What a release is known to break, once for all hosts on which it ran before and breaks the same."""
    hosts: dict[tuple[tuple[str, ...], int], list[str]] = {}
    for row in rows:
        if row["breaks"]:
            hosts.setdefault((tuple(row["breaks"]), row["breaks_left_out"]), []).append(row["host"])
    lines = []
    for (breaks, left_out), names in hosts.items():
        count = len(breaks) + left_out
        places = "place" if count == 1 else "places"
        where = ", ".join(names)
        lines.append(f"API: {release} breaks it in {count} {places}, by what it said when it ran on {where}:")
        lines += [f"  {sentence}" for sentence in breaks]
        lines += [f"  and {left_out} more"] if left_out else []
    return lines


# What becomes of a release that breaks something, by what its variable says.
_ON_A_BREAK = {"refuse": "keeps the release from serving", "warn": "is named, and the release goes on"}


def compared(activation: Mapping[str, Any]) -> list[str]:
    """What a host compares before its switch with what serves there, a line each; nothing where it is not to."""
    contract, replay = activation.get("contract") or {}, activation.get("replay")
    breaking = contract.get("breaking") if contract.get("path") else None
    found = []
    if end := _ON_A_BREAK.get(str(breaking)):
        found.append(f"API, compared before each switch: a break {end} (fastapi_app_breaking_api: {breaking})")
    if end := _ON_A_BREAK.get(str(replay)):
        found.append(f"Replay, before each switch: a route that is broken {end} (fastapi_app_replay: {replay})")
    return found
