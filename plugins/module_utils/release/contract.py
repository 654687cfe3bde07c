"""Whether a release keeps the API of the one that serves: their OpenAPI documents, compared before the switch.

The document of a release is kept in its directory, so the live slot, which may have to work for it, is asked only where
there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Optional

from ..host.shown import clean
from ..openapi.compare import compare
from ..openapi.document import NoDocument, parsed
from .model import Probe, other
from .store import Store

# What a break of the API means for a release.
IGNORE, WARN, REFUSE = "ignore", "warn", "refuse"
CHOICES = (WARN, REFUSE, IGNORE)
# Seconds for a document, which an app makes when it is asked first.
PATIENCE = 10.0
# Breaks in the message of a refusal; the ledger has more.
FIRST = 3

# From slot, path and release to what the slot answers, within PATIENCE and of at most one byte more than LARGEST.
Ask = Callable[[str, str, str], Probe]


@dataclass(frozen=True)
class Kept:
    """What became of the API: `breaks` are the first ones, `more` counts others, `note` says why they may not be all.

    `refused` is set where the release may not serve so.
    """

    breaks: tuple[str, ...] = ()
    more: int = 0
    note: str = ""
    refused: bool = False

    def as_dict(self) -> Optional[dict[str, Any]]:
        """For result and ledger; None where nothing is to be told."""
        if not self.breaks and not self.note:
            return None
        return {"breaks": list(self.breaks), "more": self.more, "note": self.note}

    def sentence(self, was: str) -> str:
        """Why the release is refused, and what to do."""
        left = len(self.breaks) + self.more - FIRST
        named = "; ".join(self.breaks[:FIRST]) + (f"; and {left} more" if left > 0 else "")
        return (
            f"it breaks the API of release {was}: {named}. Have the app serve that again (what is marked as deprecated "
            "may go in a later release), or deploy it with -e fastapi_app_breaking_api=warn"
        )


class Contract:
    """Compares what the app of a slot promises with what the earlier release did; `path` is that of its document."""

    def __init__(self, store: Store, ask: Ask, path: str, breaking: str) -> None:
        self._store = store
        self._ask = ask
        self._path = path
        self._refuses = breaking == REFUSE

    def __call__(self, slot: str, release: str, was: Optional[str]) -> Kept:
        """What `release`, in this slot, breaks of what `was` promised, in the other one. Raises nothing.

        An app that has no document breaks nothing; who wants breaks to be refused is told that nothing was compared.
        """
        try:
            now = self._document(slot, release, fresh=True)
            before = self._document(other(slot), was) if was else None
        except NoDocument as error:
            return Kept(note=f"the API was not compared: {error}" if self._refuses and was else "")
        return Kept() if before is None else self._compared(before, now)

    def foreseen(self, release: str, was: str) -> Kept:
        """What `release` breaks of what `was` promised, by what both said when they ran here; asks nobody.

        Nothing is told where one of them did not.
        """
        try:
            before, now = (parsed(self._store.openapi(one)) for one in (was, release))
        except NoDocument:
            return Kept()
        return self._compared(before, now)

    def _compared(self, before: dict[str, Any], now: dict[str, Any]) -> Kept:
        found = compare(before, now)
        note = "" if found.whole else "the OpenAPI documents are too much to be compared whole"
        return Kept(found.breaks, found.more, note, refused=self._refuses and bool(found.breaks))

    def _document(self, slot: str, release: str, fresh: bool = False) -> dict[str, Any]:
        """The document of a release, the one that is kept unless it is to be `fresh`. Raises NoDocument."""
        if not fresh and (text := self._store.openapi(release)):
            with suppress(NoDocument):
                return parsed(text)
        answer = self._ask(slot, self._path, release)
        who = f"GET {self._path} of release {release}"
        if answer.error or answer.status != 200:
            raise NoDocument(f"{who} answers {clean(answer.error, 200) or answer.status}")
        try:
            content = parsed(answer.body)
        except NoDocument as error:
            raise NoDocument(f"{who}: {error}") from error
        with suppress(OSError):  # it is asked again then
            self._store.keep_openapi(release, answer.body)
        return content
