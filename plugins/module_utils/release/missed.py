"""Variables that an app misses, as its words have them, and which of them are secrets. Takes time in proportion."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Secrets:
    """The secrets that a release has; with `variables` its processes have each as a variable of its name, too."""

    names: tuple[str, ...] = ()
    variables: bool = False


NO_SECRETS = Secrets()


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


def secrets_missed(words: str, there: Secrets = NO_SECRETS) -> str:
    """What to write where an app misses variables that are secrets by their names; empty where it misses none.

    Args:
        words: those of its log that say why it ended, and no other line: an app may do without what it warns of
        there: the secrets that its release has
    """
    text = looked_at(words)
    required = (name.upper() for name, what in fields(text) if "required" in what.lower())
    missing = [name for name in dict.fromkeys([*required, *named(text)]) if secret(name)]
    known = {name.upper() for name in there.names}
    found = [name for name in missing if name.upper() in known]
    unknown = [name for name in missing if name.upper() not in known]
    told = []
    if unknown:
        told.append(f"set {_listed(unknown)} in fastapi_app_secrets, from the vault")
    if found and there.variables:
        told.append(
            f"{_listed(found)} {'are there as variables' if found[1:] else 'is there as a variable'}, so the app looks "
            "under another name, as with a prefix (env_prefix) or an alias: name it so in fastapi_app_secrets"
        )
    elif found:
        told.append(
            f"of {_listed(found)} there is a file below /run/secrets and no variable, as fastapi_app_secrets_as says: "
            "have variables in it, too"
        )
    return "".join(f"; {one}" for one in told)


def _listed(names: list[str]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), names[-1]])
