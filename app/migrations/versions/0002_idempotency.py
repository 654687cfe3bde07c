"""A repeated request finds the link that the first one made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("links", sa.Column("idempotency_key", sa.String(128), nullable=True))
    op.create_unique_constraint("links_idempotency_key_key", "links", ["idempotency_key"])
