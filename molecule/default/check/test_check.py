"""On a fresh host the dry run succeeds, tells what it would do, and changes nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from contract import inventory_file, run_ansible

CONVERGE = Path(__file__).resolve().parents[1] / "converge.yml"
# Name, kind, owner, mode, size and time of every file. What a running system writes by itself is left out, and so is
# where Ansible puts its modules.
FINGERPRINT = (
    "find / -ignore_readdir_race -xdev -not ( "
    "( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /var/tmp -o -path /var/log"
    " -o -path /root/.ansible -o -path /var/lib/systemd -o -path /var/lib/dbus ) -prune )"
    " -not -path /root -printf '%p %y %U:%G %m %s %T@\\n'"
)
ROUND = FINGERPRINT.replace("(", "\\(").replace(")", "\\)")


def fingerprint(host: Any) -> set[str]:
    units = host.check_output("systemctl list-unit-files --no-legend --plain")
    return {*host.check_output(ROUND).splitlines(), *(f"unit {line}" for line in units.splitlines())}


def test_the_dry_run_changes_nothing(host: Any) -> None:
    before = fingerprint(host)
    result = run_ansible(["ansible-playbook", "-i", inventory_file(), str(CONVERGE), "--check", "--diff"])
    assert result.returncode == 0, result.stdout
    changes = fingerprint(host) ^ before
    assert not changes, sorted(changes)
    told = sum(int(number) for number in re.findall(r"\bchanged=(\d+)", result.stdout))
    assert told > 5, f"it would install everything, and says so:\n{result.stdout}"
