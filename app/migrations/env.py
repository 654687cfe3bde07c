"""Alembic's entry: runs on the connection that app.migrate hands over, or writes SQL without one."""

from __future__ import annotations

from alembic import context

from app.models import Base

if context.is_offline_mode():
    context.configure(dialect_name="postgresql", target_metadata=Base.metadata, literal_binds=True)
else:
    context.configure(
        connection=context.config.attributes["connection"],
        target_metadata=Base.metadata,
        transaction_per_migration=True,
    )
with context.begin_transaction():
    context.run_migrations()
