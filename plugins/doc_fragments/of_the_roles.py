# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""A note for modules that are no use without the roles and playbooks of this collection."""

from __future__ import annotations


class ModuleDocFragment:
    """For modules whose options are what these roles have, and change with them."""

    DOCUMENTATION = r"""
options: {}
notes:
  - The roles and playbooks of this collection call it, and its options may change with any version. Use those.
"""
