"""The server of the application's tests, for projects that are none of ours."""

from __future__ import annotations

from tests.app.conftest import postgres

__all__ = ["postgres"]
