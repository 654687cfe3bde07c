# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Templates that are compiled once, however many hosts they are rendered for; those of the roles once for many runs."""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Optional

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


Key = tuple[Any, ...]


class Compiled:
    """Code of templates that anybody may read, kept in a file for the runs after this one.

    As Python keeps that of its modules. A text that is not one of these, such as a value of an inventory, may have a
    secret in it and is in no file.

    Args:
        texts: the templates
        path: of the file; what is wrong with it is as if it were not there
    """

    def __init__(self, texts: Iterable[str], path: Optional[Path] = None) -> None:
        self._texts = frozenset(str(text) for text in texts)
        self._path = path or Path(constants.ANSIBLE_HOME, "slipway", f"templates.{sys.implementation.cache_tag}")
        # Another version of what compiles makes other code.
        self._made_by = f"{sys.version} {__version__} {jinja2.__version__}".encode()
        self._found: dict[Key, Any] = {}
        self._new = False
        if not self._texts:
            return
        with contextlib.suppress(OSError, EOFError, ValueError, TypeError):
            digest, _, body = self._path.read_bytes().partition(b"\n")
            if digest == self._digest(body):
                self._found = marshal.loads(body)  # noqa: S302 - of the user's own directory, and whole

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
        body = marshal.dumps({key: code for key, code in self._found.items() if key[1] in self._texts})
        unfinished = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            unfinished.write_bytes(self._digest(body) + b"\n" + body)
            unfinished.replace(self._path)

    def _digest(self, body: bytes) -> bytes:
        return hashlib.sha256(self._made_by + body).hexdigest().encode()


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
