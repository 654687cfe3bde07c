"""What is wrong with a host name is said of the name itself."""

from __future__ import annotations

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.rules.names import fault


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("www.example.org", ""),
        ("WWW.example.org", ""),
        ("*.example.org", ""),
        ("192.0.2.1", ""),
        ("", "is empty"),
        ("notes example", "has a space or a newline in it"),
        ("notes.example\n", "has a space or a newline in it"),
        ("https://notes.example:8443", "begins with a scheme"),
        ("notes.example:8443", "ends with a port"),
        ("notes.example/app", "has a path"),
        ("a.*.example.org", "has a star elsewhere than in *. at its beginning"),
        ("*", "has a star elsewhere than in *. at its beginning"),
        ("my_notes.example", 'has "_", and a host name has ASCII letters, digits, dots and dashes alone'),
        ("b\u00fccher.example", 'has "\u00fc", and is xn--bcher-kva.example in ASCII, as browsers ask for it'),
        ("\u00fc..example", 'has "\u00fc", and a host name has ASCII letters, digits, dots and dashes alone'),
    ],
)
def test_fault(name: str, found: str) -> None:
    assert fault(name) == found
