"""Finds what looks like a secret in a text: keys and tokens by their shape, others by their name and their disorder.

The shapes are those that their makers document, as detect-secrets and gitleaks have them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator

SHAPES = {
    "private key": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:\\n|\s)+[A-Za-z0-9+/=]{40,}"),
    "key of AWS": re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    "token of GitHub": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{60,})\b"),
    "token of GitLab": re.compile(r"\bglpat-[A-Za-z0-9_-]{20}"),
    "token of Slack": re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{20,}"),
    "key of Google": re.compile(r"\bAIza[A-Za-z0-9_-]{35}\b"),
    "key of Stripe": re.compile(r"\b[rs]k_live_[A-Za-z0-9]{20,}"),
    "token of PyPI": re.compile(r"\bpypi-AgE[A-Za-z0-9_-]{40,}"),
    "token of npm": re.compile(r"\bnpm_[A-Za-z0-9]{36}\b"),
    "signed token": re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
    "basic credentials": re.compile(r"(?i)\bauthorization[\"']?\s*[:=]\s*[\"']?basic\s+[A-Za-z0-9+/]{16,}={0,2}"),
}
# Something named like a secret, and a literal text.
_NAMED = re.compile(
    r"(?i)[a-z0-9_.-]*(?:passw(?:or)?d|passphrase|secret|token|api_?key|private_?key|credential)[a-z0-9_]*"
    r"[\"']?\s*(?::|=|=>)\s*[\"']?(?P<value>[^\s\"'`,;(){}\[\]<>]{12,200})"
)
_URL = re.compile(r"[a-z][a-z0-9+.-]{1,20}://[^\s/:@'\"{}<>$]{1,64}:(?P<value>[^\s/@'\"{}<>$%]{8,200})@")
# Bits for each character; words of a language have less than three, a random text of letters and digits more than four.
DISORDER = 3.3


def disorder(text: str) -> float:
    """Shannon's entropy of a text, in bits for each character."""
    return -sum(count / len(text) * math.log2(count / len(text)) for count in Counter(text).values())


def random_looking(value: str) -> bool:
    """Whether a text is one that a machine drew: letters and digits in disorder, no words, no path, no expression."""
    letters, digits = sum(map(str.isalpha, value)), sum(map(str.isdigit, value))
    words = re.findall(r"[A-Za-z]{5,}", re.sub(r"[A-Z]", "-", value))
    readable = sum(map(len, words)) > len(value) / 3 or "/" in value[:1] or "." in value.strip(".")
    return letters > 3 and digits > 2 and not readable and disorder(value) >= DISORDER


def found(text: str) -> Iterator[tuple[int, str, str]]:
    """Line, kind and text of whatever looks like a secret."""
    for kind, shape in SHAPES.items():
        for match in shape.finditer(text):
            yield text.count("\n", 0, match.start()) + 1, kind, match[0]
    for kind, named in (("value of a secret's name", _NAMED), ("password in a URL", _URL)):
        for match in named.finditer(text):
            if random_looking(match["value"]):
                yield text.count("\n", 0, match.start()) + 1, kind, match["value"]
