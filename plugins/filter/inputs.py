# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""A filter that checks the variables of a role."""

from __future__ import annotations

from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.wrong import wrong_values as wrong
from jinja2 import pass_context


@pass_context
def wrong_values(context: Any, use: str) -> list[str]:
    """A sentence for each variable of the host that cannot be used in this use of a role, as in `RULES`.

    They are read here, because Ansible compiles a template anew for every host of the fleet, at about a millisecond
    each.
    """
    return wrong(use, context.resolve)


class FilterModule:
    """What stands above, of slipway.fleet."""

    def filters(self) -> dict[str, Any]:
        return {"wrong_values": wrong_values}
