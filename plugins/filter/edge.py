# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Filters for the configuration of an edge."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.edge.peers import at_the_door
from ansible_collections.slipway.fleet.plugins.module_utils.edge.routing import (
    at_or_below,
    leading_to,
    other_spellings,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.files import text_of

# What stands in a page for the id of the request that it answers.
REQUEST_ID = "REQUEST_ID"


class FilterModule:
    """Of slipway.fleet."""

    def filters(self) -> dict[str, Any]:
        return {
            "at_or_below": at_or_below,
            "at_the_door": at_the_door,
            "leading_to": leading_to,
            "other_spellings": other_spellings,
            "own_page": own_page,
        }


def own_page(app: Mapping[str, Any], directory: str) -> dict[str, str]:
    """The maintenance page of an app as a file below `directory` of the host.

    It is a format of HAProxy's, in which two percent signs are one.
    """
    text = (text_of(str(app["maintenance_page"])) or "").replace("%", "%%")
    return {
        "content": text.replace(REQUEST_ID, "%[var(txn.shown_id)]"),
        "dest": f"{directory}/planned-{app['name']}.html",
        "owner": "root",
        "group": "root",
        "mode": "0644",
    }
