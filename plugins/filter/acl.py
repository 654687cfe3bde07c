# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Filter that reads the users of a cache."""

from __future__ import annotations

import re
from typing import Any

_APPS = re.compile(r"^user default (.*)$", re.MULTILINE)
_DIGEST = re.compile(r"(?<!\S)#([0-9a-f]{64})(?!\S)")


def acl_passwords(users: str) -> list[str]:
    """The SHA-256 of each password that the apps' user has in a file of Redis' ACL; none where there is no such user.

    Source of the format: redis.io/docs/latest/operate/oss_and_stack/management/security/acl, "ACL rules".
    """
    return [digest for line in _APPS.findall(users) for digest in _DIGEST.findall(line)]


class FilterModule:
    """acl_passwords, of slipway.fleet."""

    def filters(self) -> dict[str, Any]:
        return {"acl_passwords": acl_passwords}
