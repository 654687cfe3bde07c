"""With which variables no address can float between balancers."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.inputs.rules.test_haproxy import RIGHT
from tests.unit.inputs.saying import says

ANY, ANY_6 = "0.0.0.0", "[::]"  # noqa: S104 - what the variable has, nothing listens here
FLOATING: dict[str, Any] = {
    **RIGHT,
    "haproxy_floating_addresses": ["203.0.113.10/24", "2001:db8::10/64"],
    "haproxy_floating_balancers": ["203.0.113.11", "203.0.113.12"],
    "haproxy_floating_router_id": "0",
    "haproxy_addresses": [ANY, ANY_6],
}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"haproxy_floating_router_id": 255}, []),
        ({"haproxy_floating_router_id": "256"}, ["haproxy_floating_router_id is 256; use 1 to 255"]),
        ({"haproxy_floating_balancers": ["2001:db8::11", "2001:db8::12"]}, []),
        ({"haproxy_floating_addresses": ["203.0.113.10"]}, ["with the prefix of their network"]),
        ({"haproxy_floating_addresses": ["203.0.113.0/24"]}, ["not 203.0.113.0/24"]),
        ({"haproxy_floating_addresses": ["203.0.113.255/24"]}, ["not 203.0.113.255/24"]),
        ({"haproxy_floating_addresses": ["203.0.113.10/32"]}, ["not 203.0.113.10/32"]),
        ({"haproxy_floating_addresses": ["127.0.0.2/8"]}, ["not 127.0.0.2/8"]),
        ({"haproxy_floating_addresses": ["shop.example.org"]}, ["not shop.example.org"]),
        ({"haproxy_floating_balancers": ["lb1.example.org", "203.0.113.12"]}, ["not lb1.example.org"]),
        ({"haproxy_floating_balancers": []}, ["haproxy_floating_balancers has nothing; an address floats between two"]),
        ({"haproxy_floating_balancers": ["203.0.113.11"]}, ["has 203.0.113.11; an address floats between two"]),
        (
            {"haproxy_floating_balancers": ["203.0.113.11", "203.0.113.12", "203.0.113.11"]},
            ["each address must be there once"],
        ),
        ({"haproxy_floating_balancers": ["203.0.113.10", "203.0.113.12"]}, ["203.0.113.10 stands in"]),
        ({"haproxy_floating_balancers": ["203.0.113.11", "2001:db8::12"]}, ["has addresses of IPv4 and IPv6"]),
        (
            {"haproxy_floating_addresses": ["2001:db8::10/64"]},
            ["has none of IPv4, of which those in haproxy_floating_balancers are"],
        ),
        ({"haproxy_addresses": ["203.0.113.10"]}, ["(203.0.113.10) lacks 0.0.0.0, [::]; an edge that may have"]),
        ({"haproxy_addresses": [ANY], "haproxy_floating_addresses": ["203.0.113.10/24"]}, []),
        ({"haproxy_proxy_protocol": ["203.0.113.64/26", "2001:db8::/32"]}, []),
        (
            {"haproxy_proxy_protocol": ["203.0.113.0/24", "10.0.0.1"]},
            ["haproxy_proxy_protocol: 203.0.113.0/24 has 203.0.113.11, 203.0.113.12 in it"],
        ),
        ({"haproxy_proxy_protocol": ["127.0.0.0/8"]}, ["haproxy_proxy_protocol: 127.0.0.0/8 has 127.0.0.1 in it"]),
    ],
)
def test_floating_addresses(changed: dict[str, Any], said: list[str]) -> None:
    says("haproxy", {**FLOATING, **changed}, *said)
