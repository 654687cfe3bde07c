"""The disk of a repository is full in the middle of a backup: a real one, of a few MB, and a real restic."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
# A mount of its own that nobody else sees, and that goes with the process.
APART = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
TOLD = """
import json, os, subprocess, sys
from pathlib import Path
from ansible_collections.slipway.fleet.plugins.module_utils.backup import files, restic
from ansible_collections.slipway.fleet.plugins.module_utils.backup.drill import drill
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import BackupError
from ansible_collections.slipway.fleet.plugins.module_utils.backup.saving import MIGRATION, save
from tests.integration.backup.quick_key import make_quick
from tests.integration.backup.test_places import PASSWORD, host_of

here = Path(sys.argv[1])
known = restic.environment
restic.environment = lambda settings: {**known(settings), "RESTIC_CACHE_DIR": f"{here}/cache", "HOME": str(here)}
restic.STUCK = 30  # now and then it waits for itself when its disk is full
files.RESERVE = 0  # what is kept free on a real disk is more than all of this one
disk = here / "disk"
disk.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "none", str(disk)], check=True)
host = host_of(here, str(disk / "sets"))
first = save(host, MIGRATION)["set"]
make_quick(disk / "sets", PASSWORD)
(here / "uploads/large").write_bytes(os.urandom(40 << 20))
told = {"first": first, "refused": []}
for _ in range(2):
    try:
        save(host, "asked")
    except BackupError as error:
        told["refused"].append([error.fault, str(error)])
told["newest"] = host.records.read()["newest"]["set"]
subprocess.run(["mount", "-o", "remount,size=96m", str(disk)], check=True)
told["sets"] = [one.short for one in host.restic.sets()]
told["proven"] = drill(host, first)["set"]
second = save(host, MIGRATION)["set"]
told["whole"] = drill(host)["set"] == second
print(json.dumps(told))
"""


def test_a_full_repository_loses_no_set_and_takes_the_next_one_when_it_has_room(tmp_path: Path) -> None:
    searched = os.pathsep.join([str(ROOT), str(ROOT / ".collections")])
    words = [*APART, sys.executable, "-c", TOLD, str(tmp_path)]
    ran = subprocess.run(
        words, capture_output=True, text=True, timeout=300, check=False, env=os.environ | {"PYTHONPATH": searched}
    )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert [fault for fault, _ in told["refused"]] == ["disk full"] * 2
    assert "the disk of the repository" in told["refused"][0][1]
    assert told["sets"] == [told["newest"]] == [told["first"]], "what was cut is no set, and the good one is there"
    assert told["proven"] == told["first"]
    assert told["whole"]
