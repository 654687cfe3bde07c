"""Which statements of a migration count as destructive, however they are written."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import schema_changes, sql_parser
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.schema_changes import Made, destructive

DESTRUCTIVE = [
    "DROP TABLE links",
    "ALTER TABLE links DROP COLUMN hits",
    "ALTER TABLE links RENAME COLUMN hits TO clicks",
    "ALTER TABLE links RENAME TO urls",
    "ALTER TABLE links ALTER COLUMN url TYPE VARCHAR(100)",
    "ALTER TABLE links ALTER COLUMN note SET NOT NULL",
    "ALTER TABLE links ADD COLUMN owner TEXT NOT NULL",
    "ALTER TABLE links ADD owner TEXT NOT NULL",
    'ALTER TABLE IF EXISTS ONLY public."links" ADD COLUMN IF NOT EXISTS owner TEXT NOT NULL',
    "-- a comment\nDROP TABLE links",
    "/* a comment; */ DROP TABLE links",
    "/* a /* nested */ comment */ ALTER TABLE links DROP COLUMN hits",
    "ALTER /* here */ TABLE links -- and; here\n DROP COLUMN hits",
    "ALTER TABLE links ALTER COLUMN note DROP DEFAULT",
    "ALTER TABLE links ADD CONSTRAINT key UNIQUE (slug)",
    "ALTER TABLE links ADD CONSTRAINT key CHECK (hits > 0) NOT VALID",
    "ALTER TABLE links ADD FOREIGN KEY (owner) REFERENCES owners (id)",
    "ALTER TABLE links ADD COLUMN a TEXT, ADD COLUMN b TEXT NOT NULL",
    "ALTER TABLE links ADD COLUMN a TEXT DEFAULT 'x', ADD CONSTRAINT key UNIQUE (a)",
    "ALTER TABLE links ADD COLUMN a TEXT DEFAULT 'x' NOT NULL UNIQUE",
    "ALTER TABLE links ADD COLUMN a TEXT, ADD CONSTRAINT key UNIQUE NULLS NOT DISTINCT (a)",
    "ALTER TABLE links ADD COLUMN a TEXT, ADD CONSTRAINT key UNIQUE (a, slug)",
    "ALTER TABLE links DROP CONSTRAINT key",
    "ALTER TABLE links DISABLE TRIGGER stamp",
    "CREATE UNIQUE INDEX i ON links (url)",
    "CREATE UNIQUE INDEX CONCURRENTLY i ON links (url)",
    "CREATE TRIGGER stamp BEFORE INSERT ON links EXECUTE FUNCTION stamp()",
    "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 2'",
    "CREATE OR REPLACE VIEW v AS SELECT 1",
    "DROP FUNCTION f()",
    "DROP VIEW v",
    "DROP TYPE t",
    "DROP SCHEMA s CASCADE",
    "DROP SEQUENCE s",
    "DELETE FROM links",
    "WITH gone AS (DELETE FROM links RETURNING *) SELECT * FROM gone",
    "TRUNCATE links",
    "REVOKE SELECT ON links FROM reader",
    "DO $$ BEGIN DROP TABLE links; END $$",
    "ALTER INDEX i RENAME TO j",
    "ALTER TYPE mood RENAME VALUE 'a' TO 'b'",
    "SOMETHING nobody knows",
    "CREATE TABLE IF NOT EXISTS links (a INT); ALTER TABLE links DROP COLUMN a",
    "CREATE TABLE other.links (a INT); ALTER TABLE links DROP COLUMN a",
    'CREATE TABLE Links (a INT); ALTER TABLE "Links" DROP COLUMN a',
    "CREATE TABLE links (a INT); SET search_path TO shop; ALTER TABLE links DROP COLUMN a",
    "ALTER TABLE links ADD COLUMN IF NOT EXISTS a TEXT; CREATE UNIQUE INDEX i ON links (a)",
    "ALTER TABLE other.links ADD COLUMN a TEXT; CREATE UNIQUE INDEX i ON links (a)",
    "ALTER TABLE links ADD a TEXT; ALTER TABLE links ALTER a SET DEFAULT ''; CREATE UNIQUE INDEX i ON links (a)",
]
HARMLESS = [
    "ALTER TABLE links ADD COLUMN owner TEXT DEFAULT 'nobody' NOT NULL",
    "ALTER TABLE links ADD COLUMN owner TEXT NOT NULL DEFAULT 'DROP TABLE links; --'",
    "ALTER TABLE links ADD COLUMN owner TEXT",
    "ALTER TABLE links ADD COLUMN owner TEXT NULL",
    "ALTER TABLE links ADD COLUMN owner TEXT UNIQUE",
    "ALTER TABLE links ADD COLUMN number BIGINT GENERATED ALWAYS AS IDENTITY",
    "ALTER TABLE links ADD COLUMN a TEXT, ADD COLUMN b TEXT",
    "ALTER TABLE links ADD COLUMN a TEXT; ALTER TABLE links ADD CONSTRAINT key UNIQUE (a)",
    "ALTER TABLE links ADD COLUMN a BIGINT; ALTER TABLE links ADD FOREIGN KEY (a) REFERENCES owners (id)",
    "ALTER TABLE links ADD COLUMN a BIGINT; CREATE UNIQUE INDEX i ON links (a)",
    "ALTER TABLE links ALTER COLUMN note DROP NOT NULL",
    "ALTER TABLE links ALTER COLUMN note SET DEFAULT 'none'",
    "ALTER TABLE links VALIDATE CONSTRAINT key",
    "ALTER TYPE mood ADD VALUE 'calm'",
    "COMMENT ON TABLE links IS 'now without DROP TABLE'",
    "CREATE TABLE notes (id BIGINT NOT NULL PRIMARY KEY, slug TEXT UNIQUE)",
    "CREATE TABLE notes (id INT); CREATE UNIQUE INDEX i ON notes (id); ALTER TABLE notes ALTER COLUMN id SET NOT NULL",
    "CREATE TABLE other.links (a INT); ALTER TABLE other.links DROP COLUMN a",
    'CREATE TABLE Links (a INT); ALTER TABLE "links" DROP COLUMN a',
    "CREATE INDEX CONCURRENTLY i ON links (url)",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1; DROP TABLE links; $$",
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    "CREATE TYPE mood AS ENUM ('a', 'b')",
    "DROP INDEX i",
    "INSERT INTO links (slug) VALUES ('DELETE FROM links')",
    "UPDATE links SET hits = 0 WHERE hits IS NULL",
    "-- DROP TABLE links",
    "",
]


@pytest.mark.parametrize("statement", DESTRUCTIVE)
def test_what_takes_something_away_is_found(statement: str) -> None:
    found = destructive(f"BEGIN;\n\n{statement};\n\nCOMMIT;")
    assert len(found) == 1
    assert "\n" not in found[0]


@pytest.mark.parametrize("statements", HARMLESS)
def test_what_only_adds_is_not(statements: str) -> None:
    assert destructive(f"BEGIN;\n{statements}\n;\nCOMMIT;") == []


def test_it_is_told_as_it_was_written_without_the_comment_before_it() -> None:
    sql = "CREATE TABLE a (b INT);\n-- no longer used\nALTER TABLE links\n    DROP COLUMN hits;\nDROP TABLE x;"
    assert destructive(sql) == ["ALTER TABLE links DROP COLUMN hits", "DROP TABLE x"]


def test_sql_that_has_no_end_is_no_harmless_one() -> None:
    (found,) = destructive("ALTER TABLE links ADD COLUMN a TEXT DEFAULT 'open")
    assert found.startswith("SQL that cannot be read: ALTER TABLE links")


def test_what_the_parser_does_not_know_is_no_harmless_one() -> None:
    assert destructive("ALTER TABLE links ADD COLUMN a TEXT", "sqlite") == []
    assert destructive("ALTER TABLE links ADD COLUMN a TEXT", "mariadb") == []
    (found,) = destructive("ALTER TABLE links ADD COLUMN a TEXT", "firebird")
    assert found.startswith("SQL that cannot be read: ALTER TABLE links")


def test_what_the_migration_before_made_may_be_changed() -> None:
    made = Made()
    assert destructive("CREATE TABLE notes (a INT); ALTER TABLE links ADD COLUMN a TEXT", made=made) == []
    assert destructive("ALTER TABLE notes DROP COLUMN a; CREATE UNIQUE INDEX i ON links (a)", made=made) == []
    assert len(destructive("ALTER TABLE notes DROP COLUMN a; CREATE UNIQUE INDEX i ON links (a)")) == 2


@pytest.mark.parametrize("lacks", ["Token", "exp.Grant"])
def test_a_parser_that_lacks_a_name_breaks_no_import(monkeypatch: pytest.MonkeyPatch, lacks: str) -> None:
    whole: Any = sys.modules["sqlglot"]
    old: Any = ModuleType("sqlglot")
    old.__dict__.update({"__path__": whole.__path__, "TokenType": whole.TokenType, "exp": ModuleType("exp")})
    if lacks != "Token":
        old.Token = whole.Token
    monkeypatch.setitem(sys.modules, "sqlglot", old)
    spec = spec_from_file_location("older", schema_changes.__file__)
    assert spec
    assert spec.loader
    again: Any = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "older", again)
    spec.loader.exec_module(again)
    with pytest.raises(again.NoParser, match=r"pip install --upgrade 'sqlglot>=30\.30'"):
        again.destructive("")


@pytest.mark.parametrize(
    ("found", "reason"),
    [("30.30.0", ""), ("31.0.0", ""), ("25.20.0", "sqlglot 25.20.0 is too old"), (None, "no sqlglot is installed")],
)
def test_which_parser_will_do(monkeypatch: pytest.MonkeyPatch, found: str | None, reason: str) -> None:
    def version(name: str) -> str:
        if found is None:
            raise PackageNotFoundError(name)
        return found

    monkeypatch.setattr(sql_parser, "version", version)
    assert sql_parser.lacking() == reason


@pytest.mark.parametrize("place", ["pyproject.toml", "docs/hosts.md", "docs/deploy.md"])
def test_everywhere_the_same_parser_is_asked_for(place: str) -> None:
    assert sql_parser.NEEDED in (Path(__file__).parents[3] / place).read_text(encoding="utf-8")
