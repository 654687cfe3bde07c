"""With `pip install ansible-core` alone every plugin can be loaded; what a build needs is asked for there."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.repo.core_alone import ROOT, Others, required


def test_every_plugin_is_loaded_with_ansible_core_alone() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "tests.repo.core_alone"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    "name", ["docker.utils.build", "cyclonedx.model.bom", "ansible_collections.community.docker", "pytest"]
)
def test_what_is_not_of_ansible_core_is_refused(name: str) -> None:
    with pytest.raises(ModuleNotFoundError, match="where ansible-core is alone"):
        Others(required("ansible-core")).find_spec(name)


@pytest.mark.parametrize("name", ["json", "yaml", "jinja2", "packaging", "ansible_collections.slipway.fleet"])
def test_what_is_there_is_found_by_others(name: str) -> None:
    assert Others(required("ansible-core")).find_spec(name) is None
