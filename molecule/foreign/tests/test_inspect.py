"""What inspect.yml writes of images of this scenario, on the controller: without a host and an inventory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from contract import run_ansible

APPS = Path(__file__).resolve().parents[1] / "apps"
LINES: dict[str, dict[str, Any]] = {
    "tiles": {"fastapi_app_port": 80, "fastapi_app_health_path": "/healthz"},
    # It listens where its slot is, since UVICORN_UDS counts for more than its command, and misses a key.
    "depot": {"fastapi_app_health_path": "/ready", "fastapi_app_secrets": {"DEPOT_KEY": "{{ vault_depot_key }}"}},
}


@pytest.mark.parametrize("app", LINES)
def test_the_lines_of_an_app(app: str, tmp_path: Path) -> None:
    file, variables = tmp_path / "lines.yml", tmp_path / "variables.yml"
    about = {"slipway_inspect": str(APPS / app), "slipway_inspect_file": str(file)}
    given = {"fastapi_image_build_args": {"PYTHON": "slipway.lab/python:3.13"}}
    variables.write_text(yaml.safe_dump(about | given))
    ran = run_ansible(["ansible-playbook", "slipway.fleet.inspect", "-e", f"@{variables}"])
    assert ran.returncode == 0, ran.stdout
    lines = yaml.safe_load(file.read_text())
    # Of one that started slowly, as all do on a busy machine.
    lines.pop("fastapi_app_gate_deadline", None)
    assert lines == {
        "fastapi_app_name": app,
        "fastapi_app_host_names": [f"{app}.example.org"],
        "fastapi_image_context": str(APPS / app),
        **given,  # or the lines alone would not build it
        **LINES[app],
    }
