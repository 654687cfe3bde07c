"""Schema changes. Each is additive: the release before must go on working on the new schema."""

# The newest revision. A constant, so that a start need not load Alembic; a test holds it to the files. Revisions are
# numbered, so that `<` tells whether a schema is older.
HEAD = "0002"
