"""The example of a sudo rule takes what a run starts and nothing else, matched as sudo does: POSIX is the same here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.ansible import ANY_PYTHON

EXAMPLE = Path(__file__).resolve().parents[3] / "docs/examples/sudoers-deploy"
RULE = re.compile(r"deploy ALL=\(root\) NOPASSWD: (?P<program>/\S+) (?P<arguments>\^.*\$)")
RULES = [RULE.fullmatch(line) for line in EXAMPLE.read_text().splitlines() if not line.startswith("#")]
SUCCESS = "echo BECOME-SUCCESS-flzzwdorixcirbbkvcdujpyqxmisrgno ; "


def allowed(program: str, arguments: str) -> bool:
    return any(rule and rule["program"] == program and re.search(rule["arguments"], arguments) for rule in RULES)


@pytest.mark.parametrize(
    "command",
    [
        f"exec {ANY_PYTHON} -IS -c 'import hashlib\nimport json' 5f3a 9bd1 130000 /var/lib/slipway/agent",
        "exec /usr/bin/python3.11 -IS -c 'import hashlib' 5f3a",
        "/usr/bin/python3",
        "/usr/bin/python3.13",
    ],
)
def test_what_a_run_starts_is_allowed(command: str) -> None:
    assert all(RULES)
    text = command.replace("\n", " ")  # here a dot takes no end of a line, and in sudo it does
    assert allowed("/bin/sh", f"-c {SUCCESS}{text}")


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("/bin/sh", ""),
        ("/bin/sh", "-c id"),
        ("/bin/sh", f"-c {SUCCESS}/usr/bin/python3 /home/deploy/mine.py"),
        ("/bin/sh", f"-c {SUCCESS}bash"),
        ("/bin/sh", f"-c {SUCCESS}exec bash #python3 -IS -c x"),
        ("/bin/sh", f"-c {SUCCESS}exec bash #/usr/bin/python3 -IS -c x"),
        ("/bin/sh", f"-c {SUCCESS}exec /home/deploy/python3 -IS -c x"),
        ("/bin/bash", f"-c {SUCCESS}/usr/bin/python3"),
        ("/usr/bin/cat", "/etc/shadow"),
    ],
)
def test_nothing_else_is(program: str, arguments: str) -> None:
    assert not allowed(program, arguments)
