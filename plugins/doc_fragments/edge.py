# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The documentation of `EDGE_ARGUMENT` in module_utils/edge/haproxy.py."""

from __future__ import annotations


class ModuleDocFragment:
    """For modules that ask the HAProxy of a host."""

    DOCUMENTATION = r"""
options:
  edge:
    description: How HAProxy is reached.
    type: dict
    required: true
    suboptions:
      socket: {description: Admin socket., type: path, required: true}
      backend: {description: Backend of the app., type: str, required: true}
      state_file: {description: Where HAProxy reads server states from at a reload., type: path, required: true}
"""
