"""What may be shown of a text that an app, a host or a registry wrote: nothing that a terminal obeys, and no secret.

Every such text goes through a `Screen` on its way to a terminal, a report, a ledger or a log. Takes time in proportion
to what it reads.
"""

from __future__ import annotations

import base64
import html
import json
import re
import shlex
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

BLANK = "********"
# Characters: shorter secrets are words that stand everywhere, and a text without them would say nothing.
SHORTEST = 4
# Of a line; of a longer one its beginning and its end are shown.
LONGEST_LINE = 8000
# A line of a secret of many lines (a key) is one by itself from here on.
LONG = 16
# Bytes of a secret's file that are looked at.
LARGEST = 1 << 16
# Characters of a secret that is looked for over the ends of lines, in which something else may stand by chance.
OVER_LINES = 8
# What stands at the ends of lines beside blanks, where a terminal's width, a box or a mail breaks what is longer.
EDGES = (" \t", " \t|\u2502=\\")
# Characters beside three dots that are compared with the ends of a secret; pydantic leaves 25 of each.
ENDS = 200
# What stands under these names was written by somebody, or has words of somebody in it; all else is ids and numbers,
# and must stay what it is.
TEXTS = frozenset(
    {
        *("breaks", "cause", "diagnosis", "drift", "error", "evidence", "health", "log", "message", "note", "notes"),
        *("plan", "problems", "reason", "recovered", "sentence", "stderr", "stdout", "traceback", "unseen", "warnings"),
        "what",
    }
)
# ECMA-48: control sequences, strings up to their terminator, and other escapes, each also as one character of C1.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f\n]*(?:\x07|\x1b\\|\x9c)"
    r"|\x1b[ -/]*[0-~]"
)
# Control characters but tab and newline, turned directions, separators that only some take for the end of a line,
# characters without a shape, halves of characters.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
_URL_PASSWORD = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20}://[^\s/:@'\"]{0,256}:)[^\s@/'\"]{1,512}(?=@)")
_CUT = re.compile(r"\.\.\.|\u2026")
# What is called like this is a secret, whether it is known as one or not.
_CALLED = r"[\w.-]{0,64}(?:pass(?:word|wd|phrase)|secret|token|api[_-]?key|credential)[\w.-]{0,64}"
_NAMED = re.compile(rf"(?i)(-{{0,2}}{_CALLED})(=)?")
_GIVEN = re.compile(rf"(?i)\b({_CALLED})=(?:\"[^\"]*\"|'[^']*'|[^\s'\"]+)")
# Characters of a command that are shown.
LONGEST_COMMAND = 2000


class Screen:
    """Shows texts without what a terminal obeys and without these secrets, in whichever form they stand there."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._values = sorted({value for secret in secrets for value in _parts(secret)}, key=len, reverse=True)
        forms = {form for value in self._values for form in _forms(value)}
        self._forms = sorted((form for form in forms if len(form) >= SHORTEST), key=len, reverse=True)
        self._grams = {form[at : at + SHORTEST] for form in self._forms for at in range(len(form) - SHORTEST + 1)}

    def text(self, value: Any, limit: int = LONGEST_LINE) -> str:
        """The value as text with lines of at most `limit` characters; empty for None."""
        if value is None:
            return ""
        return "\n".join(_short(line, limit) for line in self.blank(_visible(str(value))).split("\n"))

    def blank(self, text: str) -> str:
        """The text with `BLANK` for each secret, and for the password of each URL."""
        if self._forms:
            for form in self._forms:
                if form in text:
                    text = text.replace(form, BLANK)
            for edges in EDGES:
                text = self._without_broken(text, edges)
            text = self._without_ends(text)
        return _URL_PASSWORD.sub(rf"\1{BLANK}", text) if "://" in text else text

    def _without_broken(self, text: str, edges: str) -> str:
        """Without a secret that begins in one line and goes on in the next ones."""
        lines = text.split("\n")
        if len(lines) == 1:
            return text
        # Where each line begins in the text, and where in all of them put together.
        begins, offsets, parts, at, offset = [], [], [], 0, 0
        for line in lines:
            part = line.strip(edges)
            begins.append(at + (line.index(part) if part else 0))
            offsets.append(offset)
            parts.append(part)
            at, offset = at + len(line) + 1, offset + len(part)
        whole = "".join(parts)

        def origin(place: int) -> int:
            number = bisect_right(offsets, place) - 1
            return begins[number] + place - offsets[number]

        found = [*self._found(whole), *self._at_ends(whole)]
        spans = sorted((origin(begin), origin(end - 1) + 1) for begin, end in found)
        made, done = [], 0
        for begin, end in spans:
            if begin >= done:
                made += [text[done:begin], BLANK]
            done = max(done, end)
        return "".join([*made, text[done:]])

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        """Where forms of secrets stand that are long enough for it."""
        for form in self._forms:
            begin = text.find(form) if len(form) >= OVER_LINES else -1
            while begin >= 0:
                yield begin, begin + len(form)
                begin = text.find(form, begin + len(form))

    def _at_ends(self, text: str) -> Iterator[tuple[int, int]]:
        """Where the text ends in the middle of a secret, as a log does that is still written, or begins in one."""
        if text[-SHORTEST:] in self._grams:
            count = max(_common(text, form) for form in self._forms)
            if count >= OVER_LINES:
                yield len(text) - count, len(text)
        if text[:SHORTEST] in self._grams:
            count = max(_common_end(text, 0, form) for form in self._forms)
            if count >= OVER_LINES:
                yield 0, count

    def _without_ends(self, text: str) -> str:
        """Without the beginning and the end of a secret that somebody (pydantic) has cut the middle out of."""
        made, done = [], 0
        for match in _CUT.finditer(text):
            begin, end = match.span()
            if text[max(begin - SHORTEST, 0) : begin] in self._grams:
                begin -= max(_common(text[max(begin - ENDS, done) : begin], form) for form in self._forms)
            if text[end : end + SHORTEST] in self._grams:
                end += max(_common_end(text, end, form) for form in self._forms)
            if (begin, end) != match.span() and begin >= done:
                blanks = BLANK if begin < match.start() else "", BLANK if end > match.end() else ""
                made += [text[done:begin], blanks[0], match[0], blanks[1]]
                done = end
        return "".join([*made, text[done:]])

    def told(self, value: Any) -> Any:
        """JSON with its texts as they may be shown: what stands under `TEXTS` blanked, all of it without controls."""
        return self._told(value, False)

    def _told(self, value: Any, written: bool) -> Any:
        if isinstance(value, str):
            return self.text(value) if written else _PLAIN.text(value)
        if isinstance(value, Mapping):
            return {key: self._told(item, written or key in TEXTS) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._told(item, written) for item in value]
        return value


def clean(value: Any, limit: int = LONGEST_LINE) -> str:
    """The value as text without what a terminal obeys; no secrets are known but the passwords of URLs."""
    return _PLAIN.text(value, limit)


def head(text: str, limit: int) -> str:
    """The first characters of a text; where it is longer dots follow, at which a `Screen` knows half a secret."""
    return text if len(text) <= limit else f"{text[:limit]}\u2026"


def tail(text: str, limit: int) -> str:
    """The last characters of a text; where it is longer dots go before them, as in `head`."""
    return text if len(text) <= limit else f"\u2026{text[-limit:]}"


def command_line(words: Iterable[str]) -> str:
    """A command as it may be kept: without the values of what is called like a secret, whoever knows it or not."""
    shown: list[str] = []
    for_secret = False
    for word in (str(word)[:LONGEST_COMMAND] for word in words):
        named = _NAMED.match(word)
        if for_secret:
            shown.append(BLANK)
        elif named and named[2]:
            shown.append(f"{named[1]}={BLANK}")
        else:
            shown.append(shlex.quote(_GIVEN.sub(rf"\1={BLANK}", word)))
        for_secret = not for_secret and named is not None and word.startswith("-") and named.end() == len(word)
    return " ".join(shown)[:LONGEST_COMMAND]


def staged(releases: Path) -> Screen:
    """A screen that knows the secrets of all releases staged on this host, as far as they can be read."""
    return Screen(_staged(releases))


def _visible(text: str) -> str:
    """The text without what is not to be seen."""
    if text.isprintable():  # as most are
        return text
    text = _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return _UNSEEN.sub("\N{REPLACEMENT CHARACTER}", text)


def _staged(releases: Path) -> Iterator[str]:
    try:
        files = sorted(releases.glob("*/secrets/*"))
    except OSError:
        return
    for path in files:
        try:
            yield path.read_text(encoding="utf-8", errors="replace")[:LARGEST]
        except OSError:
            continue


def _parts(secret: str) -> Iterator[str]:
    """What of a secret is one by itself: all of it, its long lines, and the password of a URL."""
    secret = str(secret)[:LARGEST]
    for value in (secret, secret.strip(), _visible(secret), _password(secret)):
        if len(value) >= SHORTEST and value.strip("*"):
            yield value
    lines = secret.splitlines()
    if len(lines) > 1:
        yield from (line.strip() for line in lines if len(line.strip()) >= LONG and not line.startswith("-----"))


def _password(secret: str) -> str:
    try:
        return unquote(urlsplit(secret.strip()).password or "")
    except ValueError:
        return ""


def _forms(value: str) -> Iterator[str]:
    """How a value stands in texts of programs: as it is, as Python, JSON, URLs, HTML, shells, base64, hex have it."""
    spoken = {value}
    for _ in range(2):  # JSON in JSON, a repr in JSON
        spoken |= {form for text in spoken for form in _quoted(text)}
    yield from spoken
    for encoded in (
        quote(value, errors="replace"),
        quote(value, safe="", errors="replace"),
        quote_plus(value, errors="replace"),
    ):
        yield encoded
        yield re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), encoded)
    yield html.escape(value)
    # A single quote within single quotes of a shell, as Python and as a trace of a shell write it.
    yield value.replace("'", "'\"'\"'")
    yield value.replace("'", "'\\''")
    raw = value.encode("utf-8", "replace")
    yield raw.hex()
    yield from _base64(raw)


def _quoted(text: str) -> Iterator[str]:
    yield repr(text)[1:-1]
    yield repr(text.encode("utf-8", "replace"))[2:-1]
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]


def _base64(raw: bytes) -> Iterator[str]:
    """The value in base64, alone and in the middle of something else (user:password), where its ends depend on that."""
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(raw).decode().rstrip("=")
        for before in range(3):
            certain = encode(b"\0" * before + raw).decode()[before + bool(before) : (before + len(raw)) * 8 // 6]
            if len(certain) > SHORTEST + 1:
                yield certain


def _common(text: str, form: str) -> int:
    """How many characters the text ends with that the form begins with; 0 where they are too few to tell."""
    for count in range(min(len(text), len(form)), SHORTEST - 1, -1):
        if text.endswith(form[:count]):
            return count
    return 0


def _common_end(text: str, at: int, form: str) -> int:
    """How many characters of the text from there on the form ends with; 0 where they are too few to tell."""
    for count in range(min(len(form), ENDS), SHORTEST - 1, -1):
        if text.startswith(form[-count:], at):
            return count
    return 0


def _short(line: str, limit: int) -> str:
    """A line, with its middle left out where it is longer than that."""
    if len(line) <= limit:
        return line
    words = f" [{len(line) - limit} and more characters left out] "
    if len(words) >= limit:
        return line[:limit]
    head = (limit - len(words)) // 2
    return line[:head] + words + line[len(line) - (limit - len(words) - head) :]


_PLAIN = Screen()
