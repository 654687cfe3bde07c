"""The program that stays on hosts has every part that it needs, and runs there without this collection."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.program import files, parts


def test_a_program_comes_with_what_it_imports() -> None:
    found = parts("edge/acme.py")
    assert {"edge/acme.py", "edge/lego.py", "edge/pieces.py", "host/durable.py", "host/errors.py"} <= set(found)
    assert not [name for name in found if not name.startswith(("edge/", "host/"))]


def test_it_runs_from_its_files_alone(tmp_path: Path) -> None:
    for item in files("edge/acme.py", str(tmp_path / "slipway_edge")):
        path = Path(item["dest"])
        if item.get("state") == "directory":
            path.mkdir(exist_ok=True)
        else:
            path.write_text(item["content"])
    ran = subprocess.run(
        [sys.executable, "-S", "-m", "slipway_edge.edge.acme", "--settings", str(tmp_path / "none.json")],
        cwd="/",
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "this edge orders no certificates\n"), ran.stderr
