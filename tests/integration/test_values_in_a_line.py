"""Values that cannot be used are said in a line each, whichever playbook meets them: by the guard, or by the role."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
# What a template makes is known when the role looks.
MADE: dict[str, Any] = {"fastapi_app_gate_passes": "{{ 'many' }}", "fastapi_app_on_failure": "{{ 'pan' ~ 'ic' }}"}
PLAIN: dict[str, Any] = {"fastapi_app_gate_passes": "many", "fastapi_app_on_failure": "panic", "slipway_nonsense": 1}


@pytest.mark.parametrize(
    ("playbook", "given", "first"),
    [
        ("status", MADE, ""),
        ("logs", MADE, ""),
        ("history", MADE, ""),
        ("remove", {**MADE, "slipway_remove": "links"}, ""),
        ("lock", PLAIN, "Nothing was done. slipway_nonsense (given with -e) is no variable of Slipway"),
    ],
)
def test_all_of_them_are_said_and_no_specification(
    playbook: str, given: dict[str, Any], first: str, tmp_path: Path
) -> None:
    web = {"web1": {"ansible_host": "127.0.0.1", "ansible_port": 1, "fastapi_app_name": "links"}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"web": {"hosts": web}}))
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(tmp_path / "hosts.yml")]
    ran = subprocess.run(
        [*command, "-e", json.dumps(given), str(ROOT / f"playbooks/{playbook}.yml")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    said = " ".join((ran.stdout + ran.stderr).split())
    assert ran.returncode == 2, said
    assert first in said
    assert "fastapi_app_gate_passes is text and must be a whole number, such as `fastapi_app_gate_passes: 3`" in said
    assert 'fastapi_app_on_failure is "panic"; it can be revert, hold' in said
    assert "argument_spec_data" not in said
    assert "unreachable=1" not in said
