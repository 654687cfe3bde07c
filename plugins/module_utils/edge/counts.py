"""What the edge counts for one app in memory: the answers of its slots with their times, and the paths asked for.

They end with HAProxy's worker, so a reload begins anew. Only root can read them.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from .haproxy import EdgeError, number_in, rows_of

# How the tables of an app are called (app.cfg.j2), by what comes after the first word in the name of its backend.
BACKEND, ANSWERS, ASKED = "app_", "answers_", "asked_"
# What a worker tells of itself (`show info`), and of the entries of a table (`show table`); 1xx begin a websocket.
_INFO = re.compile(r"^(Pid|Uptime_sec): (\d+)$", re.MULTILINE)
_ANSWERS = re.compile(
    r"^0x[0-9a-f]+: key=([2-9])/([a-z]+)(?:-[a-z]+)?/(\d+) .*\bgpc0=(\d+) gpc0_rate\((\d+)\)=(\d+)", re.MULTILINE
)
_ASKED = re.compile(r"^0x[0-9a-f]+: key=(/\S*) .*\bexp=(\d+) .*\bgpc0=(\d+)", re.MULTILINE)
# How HAProxy writes what could be taken for the end of a key (dump_text in its tools.c).
_ESCAPED = re.compile(r"\\(?:x([0-9a-fA-F]{2})|(.))")

# Of `show stat`.
ANSWERED = ("hrsp_2xx", "hrsp_3xx", "hrsp_4xx", "hrsp_5xx")
COUNTED = ("pxname", "svname", "econ", "eresp", "srv_abrt", *ANSWERED)
WHOLE = "BACKEND"

# Commands in one line to HAProxy, which takes 16 kB.
AT_ONCE = 100

Ask = Callable[[str], str]


@dataclass(frozen=True)
class Answers:
    """Of one slot: its answers by their time in ms, rounded down to two digits, those that failed, and none at all.

    `failed` is those with 5xx. `broken` is how often a slot that was asked gave no connection, no answer in time, or no
    whole one. HAProxy counts so each time that it asks, also where it asked again and the user got an answer, and some
    twice. `noticed` is how often users may have: by an answer of the edge's own, of the app and not of a slot alone, or
    by one of the slot that was cut.
    """

    times: Counter[int] = field(default_factory=Counter)
    failed: int = 0
    broken: int = 0
    noticed: int = 0

    @property
    def answered(self) -> int:
        return sum(self.times.values())

    @property
    def unanswered(self) -> int:
        """How many requests had no answer of the slot, or no whole one."""
        return min(self.broken, self.noticed)

    def since(self, before: Answers) -> Answers:
        """What came after that."""
        return Answers(
            self.times - before.times,
            self.failed - before.failed,
            self.broken - before.broken,
            max(self.noticed - before.noticed, 0),
        )


@dataclass(frozen=True)
class Counts:
    """What one worker counted of each slot since it began, or was told to forget, and what in the last seconds.

    These are `recent`. What was unanswered is not forgotten, and not known of them: there it is the share of the
    worker's whole `age`. `noticed` is what the edge answered itself, for whichever slot.
    """

    worker: str
    age: float
    recent: float
    ever: dict[str, Answers]
    lately: dict[str, Answers]
    noticed: int = 0

    def of(self, slot: str) -> Answers:
        """What was counted of a slot so far."""
        return self.ever.get(slot, Answers(noticed=self.noticed))


def counts(ask: Ask, backend: str) -> Counts:
    """What is counted of the slots of a backend. Raises EdgeError."""
    table = ANSWERS + backend[len(BACKEND) :]
    # In one connection: in a reload two may be answered by two workers.
    said = ask(f"show info;show table {table};show stat")
    if f"# table: {table}," not in said:
        raise EdgeError("the edge of this host does not count answers yet; run slipway.fleet.provision")
    try:
        return _read(said, backend)
    except ValueError as error:
        raise EdgeError(f"what the edge counted of {backend} cannot be read: {error}") from error


def _read(said: str, backend: str) -> Counts:
    info = dict(_INFO.findall(said))
    found = _ANSWERS.findall(said)
    slots, by_itself = _statistics(said[said.index("# pxname") :], backend)
    ever, lately = {}, {}
    for slot in {slot for _, slot, *_ in found} | {slot for slot, row in slots.items() if _broken(row)}:
        of_slot = [(digit, int(ms), int(ever), int(lately)) for digit, its, ms, ever, _, lately in found if its == slot]
        row = slots[slot]
        ever[slot] = _answers(
            [(digit, ms, count) for digit, ms, count, _ in of_slot], _broken(row), by_itself + row["srv_abrt"]
        )
        recent = _answers([(digit, ms, count) for digit, ms, _, count in of_slot])
        unanswered = ever[slot].unanswered
        share = unanswered / max(unanswered + sum(row[name] for name in ANSWERED), 1)
        of_recent = round(recent.answered * share)
        lately[slot] = Answers(recent.times, recent.failed, of_recent, of_recent)
    period = max((int(entry[4]) for entry in found), default=0) / 1000
    return Counts(info.get("Pid", ""), float(info.get("Uptime_sec", 0)), period, ever, lately, by_itself)


def forget(ask: Ask, backend: str, slot: str) -> None:
    """Have nothing counted of a slot that gets no requests: another release was there before. Raises EdgeError."""
    table = ANSWERS + backend[len(BACKEND) :]
    keys = re.findall(rf" key=([1-9]/{slot}(?:-[a-z]+)?/\d+) ", ask(f"show table {table}"))
    for first in range(0, len(keys), AT_ONCE):
        ask(";".join(f"clear table {table} key {key}" for key in keys[first : first + AT_ONCE]))


def paths(ask: Ask, backend: str) -> list[str]:
    """Path and query of GET requests that users were answered well, the one that was asked for last first.

    Raises EdgeError.
    """
    said = ask(f"show table {ASKED}{backend[len(BACKEND) :]}")
    if not said.lstrip().startswith("# table: "):
        raise EdgeError("the edge of this host does not keep what it was asked for yet; run slipway.fleet.provision")
    found = sorted(((int(left), path) for path, left, count in _ASKED.findall(said) if int(count)), reverse=True)
    # In a request a path is ASCII: what is not was sent by nobody who can be repeated.
    return [path for path in (_ESCAPED.sub(_character, path) for _, path in found) if path.isascii()]


def _answers(counted: list[tuple[str, int, int]], broken: int = 0, noticed: int = 0) -> Answers:
    times: Counter[int] = Counter()
    for _, ms, count in counted:
        times[ms] += count
    return Answers(+times, sum(count for digit, _, count in counted if digit >= "5"), broken, noticed)


def _statistics(statistics: str, backend: str) -> tuple[dict[str, Counter[str]], int]:
    """The figures of each slot from `show stat`, of both its doors, and how many 5xx the edge answered itself.

    These it counts of the backend (HAProxy management guide, section 9.1), at the end of an answer, and those of a
    server at the beginning of one.
    """
    slots: dict[str, Counter[str]] = defaultdict(Counter)
    everything: Counter[str] = Counter()
    for row in rows_of(statistics, ",", COUNTED, backend):
        of = everything if row["svname"] == WHOLE else slots[row["svname"].partition("-")[0]]
        of.update({name: number_in(row, name) for name in COUNTED[2:]})
    of_slots = sum(row["hrsp_5xx"] for row in slots.values())
    return slots, max(everything["hrsp_5xx"] - of_slots, 0)


def _broken(row: Counter[str]) -> int:
    return row["econ"] + row["eresp"]


def _character(escaped: re.Match[str]) -> str:
    return chr(int(escaped[1], 16)) if escaped[1] else escaped[2]
