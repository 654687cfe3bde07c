"""With which variables no certificate can be ordered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.wrong import wrong_values

from tests.unit.inputs.rules.test_haproxy import CERTIFICATE, KEY, RIGHT, slots
from tests.unit.inputs.saying import says

HMAC = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
STARS = [slots("links", host_names=["a.example", "*.b.example"])]
ACME: dict[str, Any] = {
    "haproxy_apps": [slots("links", host_names=["a.example"])],
    "haproxy_acme_email": "ops@example.org",
    "haproxy_acme_directory": "production",
    "haproxy_acme_fallback_directory": "",
    "haproxy_acme_staging_directory": "",
    "haproxy_acme_ca_file": "",
    "haproxy_acme_addresses": ["203.0.113.10", "2001:db8::1"],
    "haproxy_acme_peers": ["10.0.0.2", "lb2.example.org:8080", "[2001:db8::2]:80"],
    "haproxy_acme_wait": "600",
    "haproxy_acme_eab": {},
    "haproxy_acme_fallback_eab": {},
    "haproxy_acme_dns_hook": "",
    "haproxy_acme_dns_provider": "",
    "haproxy_acme_dns_environment": {},
    "haproxy_acme_dns_resolvers": [],
}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"haproxy_acme_directory": "staging"}, []),
        ({"haproxy_acme_staging_directory": "staging"}, []),
        ({"haproxy_acme_staging_directory": "https://ca.internal/try"}, []),
        ({"haproxy_acme_staging_directory": "try"}, ["haproxy_acme_staging_directory is"]),
        ({"haproxy_acme_staging_directory": "production"}, ["is production, as the authority itself; use another one"]),
        (
            {"haproxy_acme_staging_directory": "staging", "haproxy_acme_directory": "self-signed"},
            ["haproxy_acme_staging_directory is for an authority"],
        ),
        ({"haproxy_acme_directory": "self-signed"}, []),
        ({"haproxy_acme_fallback_directory": "self-signed"}, ["haproxy_acme_fallback_directory is"]),
        ({"haproxy_acme_directory": "https://ca.internal:9000/acme/acme/directory"}, []),
        ({"haproxy_acme_fallback_directory": "https://other.example/directory"}, []),
        ({"haproxy_acme_ca_file": pytest.__file__}, ["is no file of this machine with a certificate"]),
        ({"haproxy_acme_ca_file": "/nowhere.pem"}, ["haproxy_acme_ca_file: /nowhere.pem is no file of this machine"]),
        ({"haproxy_acme_email": "ops"}, ['haproxy_acme_email is "ops"; use an address that is read']),
        (
            {"haproxy_acme_directory": "http://ca.example/d"},
            ["use production or staging, or the address of a directory"],
        ),
        ({"haproxy_acme_directory": ""}, ["haproxy_acme_directory is"]),
        ({"haproxy_acme_fallback_directory": "letsencrypt"}, ["haproxy_acme_fallback_directory is"]),
        ({"haproxy_acme_addresses": ["lb.example.org"]}, ["haproxy_acme_addresses takes IP addresses"]),
        ({"haproxy_acme_peers": ["http://lb2"]}, ["haproxy_acme_peers takes the addresses of other balancers"]),
        ({"haproxy_acme_wait": 5}, ["haproxy_acme_wait is 5; use at least 10"]),
        ({"haproxy_acme_wait": 180}, []),
        (
            {"haproxy_acme_wait": 180, "haproxy_acme_dns_provider": "hetzner"},
            ["haproxy_acme_wait is 180; use at least 330"],
        ),
        ({"haproxy_tls_certificate": CERTIFICATE + KEY}, ["exclude each other; take away haproxy_tls_certificate"]),
        ({"haproxy_apps": [slots("links")]}, ["links has no host names, and a certificate is for names"]),
        (
            {"haproxy_apps": [slots("links", host_names=["a.example", "203.0.113.10"])]},
            ["203.0.113.10 of links is an address, and the client that Debian has orders certificates for names"],
        ),
        ({"haproxy_apps": [slots("links", host_names=["1.example"], redirect_names=["192.0.2.1"])]}, ["is an address"]),
        ({"haproxy_apps": [slots("links", host_names=["203.0.113.10"])], "haproxy_acme_directory": "self-signed"}, []),
        (
            {"haproxy_apps": STARS},
            ["links stands for many names, for which no order is possible by HTTP; set haproxy_acme_dns_hook or"],
        ),
        ({"haproxy_apps": STARS, "haproxy_acme_dns_provider": "hetzner"}, []),
        ({"haproxy_apps": STARS, "haproxy_acme_directory": "self-signed"}, []),
        ({"haproxy_acme_eab": {"kid": "k-1", "hmac": HMAC}}, []),
        ({"haproxy_acme_eab": {"kid": "k-1", "hmac": f"{HMAC}=="}}, []),
        ({"haproxy_acme_eab": {"kid": "k-1"}}, ["haproxy_acme_eab has kid; it takes two texts, kid and hmac"]),
        ({"haproxy_acme_eab": {"kid": 7, "hmac": HMAC}}, ["it takes two texts"]),
        ({"haproxy_acme_eab": {"kid": "k-1", "hmac": "a" * 17}}, ["hmac is no key as authorities give it"]),
        ({"haproxy_acme_eab": {"kid": "k-1", "hmac": "a b+/"}}, ["hmac is no key as authorities give it"]),
        (
            {"haproxy_acme_fallback_eab": {"kid": "k-1", "hmac": HMAC}},
            ["haproxy_acme_fallback_eab is for the authority of haproxy_acme_fallback_directory, which is not set"],
        ),
        (
            {"haproxy_acme_dns_hook": "hook", "haproxy_acme_dns_provider": "hetzner"},
            ["exclude each other", "no script"],
        ),
        ({"haproxy_acme_dns_hook": __file__}, [f"haproxy_acme_dns_hook: {__file__} is no script of this machine that"]),
        ({"haproxy_acme_dns_provider": "exec"}, ["use a name that `lego dnshelp` lists"]),
        ({"haproxy_acme_dns_provider": "Hetzner DNS"}, ['haproxy_acme_dns_provider is "Hetzner DNS"; use a name']),
        ({"haproxy_acme_dns_environment": {"A_KEY": "x"}}, ["is for a hook or a provider, and there is none; set"]),
        (
            {"haproxy_acme_dns_provider": "hetzner", "haproxy_acme_dns_environment": {"key": "x", "A": 7, "B": "x\ny"}},
            ["key is no name of a variable", "A, B must be text of one line"],
        ),
        (
            {"haproxy_acme_dns_resolvers": ["9.9.9.9", "[::1]:53", "ns.example.org:53"]},
            ["takes name servers such as 9.9.9.9:53, not 9.9.9.9."],
        ),
    ],
)
def test_certificates_that_cannot_be_ordered(changed: dict[str, Any], said: list[str]) -> None:
    says("haproxy", RIGHT | ACME | changed, *said)


def test_a_hook_is_a_script(tmp_path: Path) -> None:
    (tmp_path / "hook").write_text("#!/bin/sh\nexit 0\n")
    says("haproxy", RIGHT | ACME | {"haproxy_acme_dns_hook": str(tmp_path / "hook")})


def test_no_key_is_shown() -> None:
    wrong = {
        "haproxy_acme_eab": {"kid": "k-1", "hmac": "secret and wrong"},
        "haproxy_acme_dns_environment": {"A_KEY": "secret\nof two lines"},
    }
    found = wrong_values("haproxy", (RIGHT | ACME | wrong).__getitem__)
    assert len(found) == 3
    assert "secret" not in " ".join(found)
