# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Templates that are compiled once, however many hosts they are rendered for; those of the roles once for many runs."""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jinja2
from ansible import constants
from ansible.release import __version__
from jinja2 import Environment

# What decides, beside its text, what a template is compiled to (Jinja's Environment, "the syntax").
SYNTAX = (
    "block_start_string", "block_end_string", "variable_start_string", "variable_end_string", "comment_start_string",
    "comment_end_string", "line_statement_prefix", "line_comment_prefix", "trim_blocks", "lstrip_blocks",
    "newline_sequence", "keep_trailing_newline",
)  # fmt: skip


# Seconds after which a file of other texts or versions goes: a month.
KEPT = 30 * 24 * 3600
Key = tuple[Any, ...]


class Compiled:
    """Code of templates that anybody may read, kept in a file for the runs after this one.

    As Python keeps that of its modules. A text that is not one of these, such as a value of an inventory, may have a
    secret in it and is in no file. A file that is not whole, or that somebody else can write, is as if it were not
    there.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = frozenset(str(text) for text in texts)
        # Other texts, and another version of what compiles them, make other code.
        made_of = [sys.version, __version__, jinja2.__version__, *sorted(self._texts)]
        name = hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:16]
        self._path = Path(constants.ANSIBLE_HOME, "slipway", f"templates-{name}")
        self._found: dict[Key, Any] = {}
        self._new = False
        if not self._texts:
            return
        with contextlib.suppress(OSError, EOFError, ValueError, TypeError):
            if all(is_our_own(path) for path in (self._path.parent, self._path)):
                digest, _, body = self._path.read_bytes().partition(b"\n")
                if digest == digest_of(body):
                    self._found = marshal.loads(body)  # noqa: S302 - nobody else could write it

    def of(self, key: Key, text: str, compile_anew: Callable[[], Any]) -> Any:
        """The code of a text in one syntax, which is all that the key says."""
        if text not in self._texts:
            return compile_anew()
        if key not in self._found:
            self._found[key], self._new = compile_anew(), True
        return self._found[key]

    def keep(self) -> None:
        """Write what is new; where that cannot be done, the next run compiles again."""
        if not self._new:
            return
        unfinished = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        with contextlib.suppress(OSError, ValueError):
            body = marshal.dumps(self._found)
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            for earlier in self._path.parent.glob("templates-*"):
                if time.time() - earlier.stat().st_mtime > KEPT:
                    earlier.unlink()
            with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
                stream.write(digest_of(body) + b"\n" + body)
            unfinished.replace(self._path)


def is_our_own(path: Path) -> bool:
    """Whether nobody but this user, and root, can have written it. Raises OSError."""
    found = path.lstat()
    return found.st_uid == os.geteuid() and not found.st_mode & 0o022


def digest_of(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest().encode()


@contextmanager
def compiled_once(texts: Iterable[str] = ()) -> Iterator[None]:
    """Within it equal texts of templates are compiled once in this process, and `texts` once for many runs.

    Ansible compiles every expression anew whenever its value is used, at a third to a whole millisecond each, and a
    target is made of some hundred. The code is the same for every host: it has no values of variables in it. A text
    with a backslash is left to Ansible, which reads it in two ways.
    """
    compile_anew = Environment.compile
    of_all_runs = Compiled(texts)
    kept: dict[Key, Any] = {}

    def compile_once(self: Environment, source: Any, *more: Any, **others: Any) -> Any:
        if more or others or not isinstance(source, str) or "\\" in source:
            return compile_anew(self, source, *more, **others)
        kind = f"{type(self).__module__}.{type(self).__qualname__}"
        key = (kind, str(source), *(getattr(self, name) for name in SYNTAX))
        if key not in kept:
            kept[key] = of_all_runs.of(key, str(source), lambda: compile_anew(self, source))
        return kept[key]

    Environment.compile = compile_once  # type: ignore[method-assign]
    try:
        yield
        of_all_runs.keep()
    finally:
        Environment.compile = compile_anew  # type: ignore[method-assign]
