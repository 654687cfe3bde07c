# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Which statements of a migration the release before it may not survive.

Each statement is parsed, and harmless is only what is known to be: whoever adds something that nobody has to use takes
nothing away. Everything else counts, so a statement that is new to this list is asked about and not waved through.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Optional

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.sql_parser import INSTALL, lacking

MISSING = lacking()
try:
    import sqlglot
    from sqlglot import Token, TokenType, exp
    from sqlglot.errors import SqlglotError

    _NO_CHANGE_OF_A_SCHEMA = (
        *(exp.Transaction, exp.Commit, exp.Set, exp.Comment, exp.Grant),
        *(exp.Select, exp.Insert, exp.Update),
    )
    # A value of its own for every row, so that nobody has to give one.
    _FILLED = (exp.DefaultColumnConstraint, exp.GeneratedAsIdentityColumnConstraint, exp.ComputedColumnConstraint)
    _NARROWING = (exp.UniqueColumnConstraint, exp.PrimaryKeyColumnConstraint, exp.CheckColumnConstraint, exp.Reference)
except (ImportError, AttributeError) as error:  # of a version that has not these names
    MISSING = MISSING or str(error)

_MADE_WITHOUT_HARM = {"TABLE", "VIEW", "SEQUENCE", "SCHEMA", "TYPE", "FUNCTION", "PROCEDURE"}

# The parser's names of databases, where they are not SQLAlchemy's.
_DIALECTS = {"postgresql": "postgres", "mariadb": "mysql", "mssql": "tsql"}


class NoParser(Exception):
    """SQL cannot be read here; the text says what to do."""


@dataclass
class Made:
    """What pending migrations made, of which the release before knows nothing; of columns those that may stay empty."""

    tables: set[str] = field(default_factory=set)
    columns: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def forget(self) -> None:
        """From here on the same names may be those of other tables."""
        self.tables.clear()
        self.columns.clear()


def destructive(sql: str, dialect: str = "postgresql", made: Optional[Made] = None) -> list[str]:
    """The statements of `sql` that may break a release that knows the schema before, a line each.

    `dialect` is SQLAlchemy's name of the database; `made` is what migrations before this one made that the release does
    not know either, and gets what this one makes. Raises NoParser where sqlglot is not installed, or too old.
    """
    if MISSING:
        raise NoParser(f"what a migration takes away cannot be read here ({MISSING}): {INSTALL}")
    made = Made() if made is None else made
    dialect = _DIALECTS.get(dialect, dialect)
    try:
        statements = list(_statements(sql, dialect))
    except (SqlglotError, ValueError):  # ValueError: of a dialect that the parser does not know
        return [f"SQL that cannot be read: {_line(sql)[:200]}"]
    return [_line(text) for text, words in statements if not _is_harmless(text, words, dialect, made)]


def _statements(sql: str, dialect: str) -> Iterator[tuple[str, list[str]]]:
    """Text and words of each statement, from its first word on: comments and semicolons in texts are none."""
    tokens: list[Token] = []
    end = Token(TokenType.SEMICOLON, ";")
    for token in [*sqlglot.tokenize(sql, read=dialect), end]:
        if token.token_type is not TokenType.SEMICOLON:
            tokens.append(token)
        elif tokens:
            yield sql[tokens[0].start : tokens[-1].end + 1], [word.text.upper() for word in tokens]
            tokens = []


def _is_harmless(text: str, words: list[str], dialect: str, made: Made) -> bool:
    try:
        statement = sqlglot.parse_one(text, read=dialect)
    except SqlglotError:
        return False
    if isinstance(statement, _NO_CHANGE_OF_A_SCHEMA):
        if "search_path" in text.lower():
            made.forget()
        return not statement.find(exp.Delete)
    if isinstance(statement, exp.Create):
        return _creates_harmlessly(statement, made)
    if isinstance(statement, exp.Alter):
        return _alters_harmlessly(statement, made)
    if isinstance(statement, exp.Drop):
        return statement.args.get("kind") == "INDEX"
    # What the parser leaves as it is.
    return (
        words[:2] == ["CREATE", "EXTENSION"]
        or (words[:2] == ["ALTER", "TYPE"] and words[3:5] == ["ADD", "VALUE"])
        or (words[:2] == ["ALTER", "TABLE"] and words[3:5] == ["VALIDATE", "CONSTRAINT"])
    )


def _creates_harmlessly(statement: exp.Create, made: Made) -> bool:
    kind = statement.args.get("kind")
    if statement.args.get("replace"):
        return False
    if kind == "INDEX":
        index = statement.this
        table = _named(index.args["table"])
        columns = (column.name for column in index.find_all(exp.Column))
        return not statement.args.get("unique") or table in made.tables or _all_new(columns, table, made)
    if kind == "TABLE" and not statement.args.get("exists"):
        made.tables |= {_named(table) for table in [statement.find(exp.Table)] if table}
    return kind in _MADE_WITHOUT_HARM


def _alters_harmlessly(statement: exp.Alter, made: Made) -> bool:
    actions = statement.args.get("actions") or []
    if statement.args.get("kind") != "TABLE" or not actions:
        return False
    table = _named(statement.this)
    return table in made.tables or all(_acts_harmlessly(action, table, made) for action in actions)


def _acts_harmlessly(action: exp.Expression, table: str, made: Made) -> bool:
    if isinstance(action, exp.ColumnDef):
        return _adds_harmlessly(action, table, made)
    if isinstance(action, exp.AlterColumn):
        no_longer_required = action.args.get("drop") and action.args.get("allow_null")
        if action.args.get("default"):
            made.columns[table].discard(action.name)
            return True
        return bool(no_longer_required)
    if isinstance(action, exp.AddConstraint):
        return all(_constrains_harmlessly(constraint, table, made) for constraint in action.expressions)
    return False


def _adds_harmlessly(column: exp.ColumnDef, table: str, made: Made) -> bool:
    """The release before inserts without this column, so it must do without a value, or have one for every row."""
    constraints = [constraint.args["kind"] for constraint in column.args.get("constraints") or []]
    required = any(
        (isinstance(kind, exp.NotNullColumnConstraint) and not kind.args.get("allow_null"))
        or isinstance(kind, exp.PrimaryKeyColumnConstraint)
        for kind in constraints
    )
    if any(isinstance(kind, _FILLED) for kind in constraints):
        return not any(isinstance(kind, _NARROWING) for kind in constraints)
    if not required and not column.args.get("exists"):
        made.columns[table].add(column.name)
    return not required


def _constrains_harmlessly(constraint: exp.Expression, table: str, made: Made) -> bool:
    """What is about new columns only, which the release before leaves empty: empty is neither equal nor wrong."""
    if constraint.find(exp.PrimaryKey, exp.PrimaryKeyColumnConstraint):
        return False
    if unique := constraint.find(exp.UniqueColumnConstraint):
        if unique.args.get("nulls"):
            return False
        return _all_new((column.name for column in unique.find_all(exp.Identifier)), table, made)
    if foreign := constraint.find(exp.ForeignKey):
        return _all_new((column.name for column in foreign.expressions), table, made)
    return _all_new((column.name for column in constraint.find_all(exp.Column)), table, made)


def _all_new(columns: Iterable[str], table: str, made: Made) -> bool:
    named = set(columns)
    return bool(named) and named <= made.columns[table]


def _named(table: exp.Table) -> str:
    """With its schema, as it is written: the same name in another one is another table."""
    return ".".join(part.name if part.args.get("quoted") else part.name.lower() for part in table.parts)


def _line(text: str) -> str:
    return " ".join(text.split())
