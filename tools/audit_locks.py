"""Known vulnerabilities of the locked Python distributions, by pip-audit: `python3 -m tools.audit_locks`.

Exit code 1 where a version that is locked has one that a newer version mends; `make lock UPGRADE=--upgrade` takes it.
Where the data cannot be reached that is said, and is no failure: a check must not depend on somebody else's server. A
pip-audit that is not there, or that does not take its arguments, is one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

LOCKS = sorted(Path(__file__).resolve().parents[1].glob("requirements/*.lock"))
LIMIT = 120  # seconds
USAGE = 2  # argparse's exit code for arguments that it does not know
# Vulnerabilities that do not reach what is here, by their ids, each with the reason.
ACCEPTED: dict[str, str] = {}


def judged(text: str) -> tuple[list[str], list[str]]:
    """From pip-audit's JSON: a line for each vulnerability that can be mended, and the distributions it did not check.

    Raises ValueError, KeyError and TypeError where it is none.
    """
    wrong, unchecked = [], []
    for item in json.loads(text)["dependencies"]:
        if "skip_reason" in item:
            unchecked.append(str(item["name"]))
            continue
        for one in item["vulns"]:
            if one["fix_versions"] and not {one["id"], *one.get("aliases", ())} & ACCEPTED.keys():
                fixed = ", ".join(one["fix_versions"])
                wrong.append(f"{item['name']} {item['version']} has {one['id']}, mended in {fixed}")
    return wrong, unchecked


def main(locks: Sequence[Path] = tuple(LOCKS), command: Sequence[str] = (sys.executable, "-m", "pip_audit")) -> int:
    """Look at every lock; returns the exit code."""
    failed = False
    for lock in locks:
        said = ""
        words = [*command, "--requirement", str(lock), "--no-deps", "--disable-pip", "--format", "json"]
        try:
            ran = subprocess.run(
                [*words, "--progress-spinner", "off", "--desc", "off"],
                capture_output=True, text=True, timeout=LIMIT, check=False,
            )  # fmt: skip
            said = (ran.stderr.strip().splitlines() or [""])[-1]
            if ran.returncode == USAGE or "No module named" in said:
                print(f"{lock.name}: not checked, pip-audit does not run: {said}; run: make setup")
                return 1
            wrong, unchecked = judged(ran.stdout)
        except (OSError, ValueError, KeyError, TypeError, subprocess.TimeoutExpired) as error:
            print(f"{lock.name}: not checked, the data cannot be reached ({said or type(error).__name__})")
            continue
        if unchecked:
            print(
                f"{lock.name}: not checked, no data: {', '.join(unchecked[:5])}{' and more' if unchecked[5:] else ''}"
            )
        for line in wrong:
            print(f"{lock.name}: {line}; run: make lock UPGRADE=--upgrade")
        failed = failed or bool(wrong)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
