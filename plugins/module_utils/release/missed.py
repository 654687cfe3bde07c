"""Variables that an app misses, as its log has them, and which of them are secrets. Takes time in proportion to it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

_LOOKED_AT = 1 << 16  # characters of a log, from its end
_NAME = r"[A-Za-z_][A-Za-z0-9_]{2,80}"
# A line of its own in an error of pydantic: the field, and below it what is wrong with it.
_FIELD = re.compile(rf"^(?P<name>{_NAME})(?:\.[\w.]+)?\n[ ]{{2}}(?P<what>[^\n]{{1,300}})", re.MULTILINE)
_VARIABLE = r"\b(?P<name>[A-Z][A-Z0-9_]{2,80})"
_NAMED = (
    re.compile(rf"KeyError: ['\"]{_VARIABLE}['\"]"),
    re.compile(rf"{_VARIABLE} (?:environment )?(?:variable )?"
               r"(?:(?:is |are )?(?:not set|not defined|required|missing|unset)|must be (?:set|defined))\b"),
    re.compile(rf"\bSet the {_VARIABLE} environment variable"),
    re.compile(rf"{_VARIABLE} not found\. Declare it as envvar"),
)  # fmt: skip
_SECRET = re.compile(r"SECRET|PASSW|TOKEN|_KEY|^KEY|CREDENTIAL|DSN|DATABASE_UR[IL]|_URL$|_URI$")


def looked_at(log: str) -> str:
    """What is read of a log: lines inside JSON are lines, too."""
    return log[-_LOOKED_AT:].replace("\\n", "\n").replace("\r", "")


def fields(text: str) -> Iterator[tuple[str, str]]:
    """Fields of a model with what pydantic says of each.

    Source: pydantic 2, Errors (`Field required`, `Input should be a valid integer`).
    """
    if "validation error" in text:
        for match in _FIELD.finditer(text):
            yield match["name"], match["what"]


def named(text: str) -> Iterator[str]:
    """Variables that are missed by their names; os.environ raises KeyError."""
    for pattern in _NAMED:
        for match in pattern.finditer(text):
            yield match["name"]


def secret(name: str) -> bool:
    """Whether the value of a variable is probably nobody's business."""
    return bool(_SECRET.search(name))


def secrets_missed(log: str, there: Collection[str] = ()) -> str:
    """What to write where a log misses variables that are secrets by their names; empty where it misses none.

    Args:
        log: what the app wrote
        there: the secrets that its release has
    """
    text = looked_at(log)
    required = (name.upper() for name, what in fields(text) if "required" in what.lower())
    missing = [name for name in dict.fromkeys([*required, *named(text)]) if secret(name)]
    known = {name.upper() for name in there}
    files = [name for name in missing if name.upper() in known]
    unknown = [name for name in missing if name.upper() not in known]
    told = []
    if unknown:
        told.append(f"set {_listed(unknown)} in fastapi_app_secrets, from the vault")
    if files:
        told.append(
            f"of {_listed(files)} there is a file below /run/secrets and no variable, as fastapi_app_secrets_as says: "
            "have variables in it, too"
        )
    return "".join(f"; {words}" for words in told)


def _listed(names: list[str]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), names[-1]])
