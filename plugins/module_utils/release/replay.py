"""What users asked for last, asked of a release before it serves: a route that it breaks is found before a user does.

GET requests alone are asked, without credentials, cookies and bodies, and without what looks like a token or an action.
"""

from __future__ import annotations

import re
import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Optional
from urllib.parse import parse_qsl, urlsplit

from .model import Probe

# What a broken route means for a release.
REFUSE, WARN, IGNORE = "refuse", "warn", "ignore"
CHOICES = (REFUSE, WARN, IGNORE)
# What tells the app that no user asks, so that it need not count.
MARK = {"Slipway-Replay": "1"}
# Requests of a replay, seconds for each, and for all of them.
REQUESTS = 20
PATIENCE, LIMIT = 5.0, 30.0
# Routes that begin alike among those that are asked first.
ALIKE = 5
# Bytes of an answer that says that something is not there, and routes that a message names.
PAGE, FIRST = 4096, 3
# A route that is not there, or not for GET; and the answers with which the live release serves one.
GONE, WELL = (404, 405), range(200, 400)
# A part of a path that differs from request to request: a number, a UUID, digits in hexadecimal.
_ID = re.compile(r"[0-9]+|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|(?=.*[0-9])[0-9a-f]{6,31}")
# What may open something to whoever has it, by its look or by its name in a query.
_TOKEN = re.compile(
    r"[0-9a-fA-F]{32,}|(?=.*[0-9])(?=.*[A-Z])(?=.*[a-z])[\w.~=-]{20,}|(?=(.*[0-9]){3})(?=.*[a-z])[a-z0-9]{16,}"
)
# Whose name it may be, as text or as a path writes it.
_PERSON = re.compile("(?i)@|%40")
# A file that a front end has beside its pages: its name is another one in each build.
_FILE = re.compile(r".*[^/.]\.[a-zA-Z][a-zA-Z0-9]{0,10}")
_CREDENTIAL = re.compile(
    "(?i).*(pass|pwd|secret|token|key|sign|auth|session|jwt|otp|credential|ticket|nonce|hash|e-?mail|invit).*|sig|code|state|sid"
)
# What a GET should not do, and does in many an app.
_ACTION = re.compile(
    "(?i).*(log-?_?(out|off)|sign-?_?(out|off)|subscribe|delete|remove|cancel|confirm|verify|activate|callback|webhook|reset"
    "|accept|approve|reject|restart|trigger|magic|invit|(?<![a-z])(run(?!n|time)|pay(?!ment|roll|load)|stop)).*"
)


@dataclass(frozen=True)
class Replayed:
    """What became of it: how many were `asked`, one sentence for each route in `breaks`, and why there may be more.

    `refused` is set where the release may not serve so.
    """

    asked: int = 0
    breaks: tuple[str, ...] = ()
    note: str = ""
    refused: bool = False

    def as_dict(self) -> Optional[dict[str, Any]]:
        """For result and ledger; None where nothing is to be told."""
        if not self.asked and not self.note:
            return None
        return {"asked": self.asked, "breaks": list(self.breaks), "note": self.note}

    def sentence(self, was: str) -> str:
        """Why the release is refused, and what to do."""
        left = len(self.breaks) - FIRST
        named = "; ".join(self.breaks[:FIRST]) + (f"; and {left} more" if left > 0 else "")
        return (
            f"it breaks what release {was} answers its users: {named}. Mend that, or where it is meant deploy with "
            "-e fastapi_app_replay=warn"
        )


# From slot, path and release to what the slot answers, within so many seconds; so many bytes of the body are read.
Ask = Callable[[str, str, str, float, int], Probe]


class _Over(Exception):
    """There is no time left."""


@dataclass
class _Found:
    """What came out so far, a sentence by route: breaks, what is to be told, and files that are not there."""

    was: str
    breaks: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)

    def told(self, asked: int, refuses: bool) -> Replayed:
        notes = list(self.notes.values())
        if self.files:
            more = f" and {len(self.files) - 1} more" if len(self.files) > 1 else ""
            notes.append(f"release {self.was} has files that are not there any more ({self.files[0]}{more})")
        return Replayed(asked, tuple(self.breaks.values()), "; ".join(notes), refuses and bool(self.breaks))


class Replay:
    """Asks a release what users asked the one before."""

    def __init__(self, paths: Callable[[], list[str]], ask: Ask, clock: Callable[[], float], refuses: bool) -> None:
        """`paths` are those that were asked for, the last one first, and may raise EdgeError; `clock` is in seconds."""
        self._paths = paths
        self._ask = ask
        self._clock = clock
        self._refuses = refuses
        self._until = 0.0  # on the clock

    def __call__(self, new: tuple[str, str], old: tuple[str, str], breathe: Callable[[], None]) -> Replayed:
        """What the new (slot, release) breaks of what the old one answers. Raises what `breathe` does.

        The old one is asked only what the new one does not answer well, and both once more before that counts.
        """
        try:
            chosen = choice(self._paths(), REQUESTS)
        except Exception as error:  # noqa: BLE001 - what breaks here is no fault of the release
            return Replayed(note=f"nothing was asked that users had asked: {error}")
        self._until, asked = self._clock() + LIMIT, 0
        found = _Found(old[1])
        for path in chosen:
            breathe()
            route = route_of(path)
            try:
                if route not in found.breaks:
                    self._judge(new, old, path, found)
            except _Over:
                found.notes["time"] = f"{len(chosen) - asked} of {len(chosen)} were not asked within {LIMIT:.0f} s"
                break
            except Exception as error:  # noqa: BLE001 - what breaks here is no fault of the release
                found.notes[route] = f"GET {route} could not be judged ({type(error).__name__}: {error})"
            asked += 1
        return found.told(asked, self._refuses)

    def _judge(self, new: tuple[str, str], old: tuple[str, str], path: str, found: _Found) -> None:
        said = self._breaks(new, old, path)
        if said is None:
            return
        route = route_of(path)
        sentence = f"GET {route} answers {_said(said)} where release {old[1]} answers well"
        if said.status == 404 and _FILE.fullmatch(urlsplit(path).path):
            found.files.append(route)
        elif said.late:
            found.notes[route] = f"{sentence}; it may be slow at its first request"
        elif said.status == 404 and self._own(new, path):
            found.notes[route] = f"{sentence}; its page says that the route is there"
        else:
            found.breaks[route] = sentence

    def _breaks(self, new: tuple[str, str], old: tuple[str, str], path: str) -> Optional[Probe]:
        """What the new release answers, where that is twice not what the old one does."""
        found = Probe()
        for _ in range(2):
            found = self._asked(new, path)
            if not _broken(found) or not self._serves(old, path):
                return None
        return found

    def _serves(self, old: tuple[str, str], path: str) -> bool:
        found = self._asked(old, path)
        return not found.error and found.status in WELL

    def _own(self, new: tuple[str, str], path: str) -> bool:
        """Whether 404 means that what was asked for is not there, and not the route: what the app keeps in memory.

        An app answers otherwise then than for a route that it never had.
        """
        nowhere = f"/{secrets.token_hex(8)}"
        pages = [self._asked(new, asked, PAGE).body.replace(urlsplit(asked).path, "") for asked in (path, nowhere)]
        return pages[0] != pages[1]

    def _asked(self, where: tuple[str, str], path: str, most: int = 0) -> Probe:
        """What a (slot, release) answers in the time that is left. Raises _Over where there is none."""
        left = self._until - self._clock()
        if left <= 0:
            raise _Over
        return self._ask(where[0], path, where[1], min(PATIENCE, left), most)


def _broken(found: Probe) -> bool:
    return bool(found.error) or found.status >= 500 or found.status in GONE


def _said(found: Probe) -> str:
    return f"nothing ({found.error})" if found.error else str(found.status)


def choice(paths: Sequence[str], most: int) -> list[str]:
    """The paths to ask: each part of the app in turn, with the newest path of each of its routes, then all others.

    A part is what begins alike and is as long: a route that has a name in its path looks like many. Of what begins
    alike there are five first, however long: a crawler finds many.
    """
    parts: dict[tuple[int, str], list[str]] = {}
    further: list[str] = []
    others: list[str] = []
    seen: set[str] = set()
    begun: Counter[str] = Counter()
    for path in filter(may_be_asked, paths):
        words = urlsplit(path).path.split("/")
        first, route = words[1] * (len(words) > 2), route_of(path)
        if route in seen:
            others.append(path)
        elif begun[first] == ALIKE:
            further.append(path)
        else:
            parts.setdefault((len(words), first), []).append(path)
            begun[first] += 1
        seen.add(route)
    in_turn = [path for turn in zip_longest(*parts.values()) for path in turn if path is not None]
    return [*in_turn, *further, *others][:most]


def may_be_asked(path: str) -> bool:
    """Whether a GET request may be repeated by somebody else, as far as its path and its query tell."""
    try:
        parts = urlsplit(path)
        query = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError:
        return False
    words = parts.path.split("/")
    return not (
        # Two slashes begin the name of a host, for whoever reads it as an address.
        path.startswith("//")
        or not path.isascii()
        or any(_TOKEN.fullmatch(word) or _ACTION.fullmatch(word) for word in words)
        or any(_CREDENTIAL.fullmatch(name) or _ACTION.fullmatch(name) for name, _ in query)
        or any(_TOKEN.fullmatch(value) or _ACTION.fullmatch(value) for _, value in query)
    )


def route_of(path: str) -> str:
    """The path without what differs from request to request, and of its query the names: no word of a user's."""
    parts = urlsplit(path)
    words = ["{}" if _ID.fullmatch(word) or _PERSON.search(word) else word for word in parts.path.split("/")]
    names = sorted({name for name, _ in parse_qsl(parts.query, keep_blank_values=True)})
    return "/".join(words) + (f"?{'&'.join(names)}" if names else "")
