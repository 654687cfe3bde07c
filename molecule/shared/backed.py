"""What tests of a host that is backed up have in common."""

from __future__ import annotations

import json
from typing import Any

PSQL = "docker exec -i slipway-postgres-postgres-1 psql --username postgres --tuples-only --no-align --dbname"
VOLUME = "/var/lib/slipway/shortlinks/volumes/media"
# What a later release does to the database.
REVISION = """
import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.execute("UPDATE ballast SET words = words || '!' WHERE id <= 500")
    op.execute("ALTER TABLE ballast ADD COLUMN stamp float DEFAULT random()")
"""


def sql(host: Any, statement: str, database: str = "shortlinks") -> str:
    found: str = host.check_output(f'{PSQL} {database} -c "{statement}"')
    return found.strip()


def asked(host: Any, words: str) -> dict[str, Any]:
    """The answer of the host's program, which succeeds."""
    answer: dict[str, Any] = json.loads(host.check_output(f"slipway-backup {words}"))
    return answer


def refused(host: Any, words: str) -> str:
    """Why the host's program did not do it."""
    result = host.run(f"slipway-backup {words}")
    assert result.rc != 0, result.stdout
    said: str = result.stderr
    return said
