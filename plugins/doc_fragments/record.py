# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The documentation of `RECORD_ARGUMENT` in module_utils/host/ledger.py."""

from __future__ import annotations


class ModuleDocFragment:
    """For modules that do what is to stand in the ledger of an app."""

    DOCUMENTATION = r"""
options:
  record:
    description:
      - In which ledger it stands and whose operation it is, as P(slipway.fleet.record#lookup) says. Without it in none.
    type: dict
    suboptions:
      root: {description: Directory of the app on the host., type: path}
      run: {description: Names the run., type: str}
      who: {description: The person or job behind the run., type: str}
      from: {description: The controller., type: str}
"""
