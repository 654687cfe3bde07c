# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""How large the files are that the release which serves can take: a container has them in /tmp while they come."""

from __future__ import annotations

import re
from typing import Any, Optional

from ..openapi.document import NoDocument, parsed
from ..openapi.uploads import uploads
from .store import Store

_SIZE = re.compile(r"^ *tmpfs: \[[^\]]*\bsize=(\d+)m", re.MULTILINE)
_ELSEWHERE = re.compile(r"^\s*-?\s*[\"']?TMPDIR\b", re.MULTILINE)


def room_for_files(store: Store, release: Optional[str]) -> Optional[dict[str, Any]]:
    """The operations that take files, and the MiB of /tmp; None where none does, or nothing limits them there.

    By what the release said of its API when it started. Raises nothing.
    """
    if not release:
        return None
    try:
        compose = (store.releases / release / "compose.yaml").read_text(encoding="utf-8", errors="replace")
        found = uploads(parsed(store.openapi(release)))
    except (NoDocument, OSError):
        return None
    size = _SIZE.search(compose)
    if not found or size is None or _ELSEWHERE.search(compose):
        return None
    return {"takes": found, "tmp_mib": int(size[1])}
