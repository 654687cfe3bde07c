"""Whether the tests that have a long form run in it, as `make soak` wants; scenarios run the short one."""

from __future__ import annotations

import os

LONG = bool(os.environ.get("SLIPWAY_SOAK"))
