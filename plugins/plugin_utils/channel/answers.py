# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What a frame of the agent says. Whoever has the host writes it, so nothing of it is taken for granted."""

from __future__ import annotations

from ansible_collections.slipway.fleet.plugins.module_utils.agent.protocol import Broken, Header
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import FAILED
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Result


def event_of(header: Header) -> Result | None:
    """The event in a frame; None where it is an answer."""
    event = header.get("event")
    return event if isinstance(event, dict) else None


def result_of(header: Header) -> Result:
    """The result in a frame. Raises Refused where the host refused, and Broken where the frame is no answer."""
    error, result = header.get("error"), header.get("result")
    if isinstance(error, dict):
        details = error.get("details")
        kind = str(error.get("kind") or FAILED)
        raise Refused(str(error.get("message")), kind, details if isinstance(details, dict) else {})
    if not isinstance(result, dict):
        raise Broken(f"no answer of the agent, a frame with {', '.join(sorted(header))[:100] or 'nothing'}")
    return result
