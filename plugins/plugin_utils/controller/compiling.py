# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Templates that are compiled once, however many hosts they are rendered for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jinja2 import Environment

# What decides, beside its text, what a template is compiled to (Jinja's Environment, "the syntax").
SYNTAX = (
    "block_start_string", "block_end_string", "variable_start_string", "variable_end_string", "comment_start_string",
    "comment_end_string", "line_statement_prefix", "line_comment_prefix", "trim_blocks", "lstrip_blocks",
    "newline_sequence", "keep_trailing_newline",
)  # fmt: skip


@contextmanager
def compiled_once() -> Iterator[None]:
    """Within it equal texts of templates are compiled once in this process.

    Ansible compiles every expression anew whenever its value is used, at a third to a whole millisecond each, and a
    target is made of some hundred. The code is the same for every host: it has no values of variables in it. A text
    with a backslash is left to Ansible, which reads it in two ways.
    """
    compile_anew = Environment.compile
    kept: dict[tuple[Any, ...], Any] = {}

    def compile_once(self: Environment, source: Any, *more: Any, **others: Any) -> Any:
        if more or others or not isinstance(source, str) or "\\" in source:
            return compile_anew(self, source, *more, **others)
        key = (type(self), str(source), *(getattr(self, name) for name in SYNTAX))
        if key not in kept:
            kept[key] = compile_anew(self, source)
        return kept[key]

    Environment.compile = compile_once  # type: ignore[method-assign]
    try:
        yield
    finally:
        Environment.compile = compile_anew  # type: ignore[method-assign]
