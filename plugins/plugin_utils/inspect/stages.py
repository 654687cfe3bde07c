# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Which stage of a Dockerfile serves, where the last one is another: for development, or for tests. Pure."""

from __future__ import annotations

import re

_STAGE = re.compile(
    r"^[ \t]*FROM[ \t].*[ \t]AS[ \t]+([A-Za-z0-9._-]+)[ \t]*$|^[ \t]*FROM[ \t]", re.IGNORECASE | re.MULTILINE
)
# By their names, the first one that is there.
_SERVES = ("production", "prod", "release", "runtime", "final", "deploy", "runner", "serve", "server", "app", "web")
_SERVES_NOT = re.compile(r"(^|[._-])(dev|devel|development|test|tests|testing|debug|lint|ci|docs|check)([._-]|$)")


def target_of(dockerfile: str) -> tuple[str, str]:
    """The stage to build, and why; both empty where the last one is it, or where no name tells another one."""
    names = [str(match[1] or "") for match in _STAGE.finditer(dockerfile)]
    if not names or not _SERVES_NOT.search(names[-1].lower()):
        return "", ""
    serving = next((name for word in _SERVES for name in names[:-1] if name.lower() == word), "")
    return (serving, f"the last stage of its Dockerfile is {names[-1]}") if serving else ("", "")
