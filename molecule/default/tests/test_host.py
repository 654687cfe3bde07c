"""What only this scenario asks of its host."""

from __future__ import annotations

import os

import httpx
from contract import ANSWER


def test_the_published_port_leads_to_the_app() -> None:
    """As a person sees it: from outside the host, through its network address."""
    assert httpx.get(f"{os.environ['SLIPWAY_URL']}/livez", timeout=ANSWER).status_code == 200
