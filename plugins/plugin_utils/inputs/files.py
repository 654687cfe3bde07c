# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Files of this machine that an inventory names."""

from __future__ import annotations

import os
from pathlib import Path


def text_of(path: str) -> str | None:
    """What a regular file says; None where there is none, or none that may be read, or the path can be none at all."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace") if os.path.isfile(path) else None
    except (OSError, ValueError):
        return None
