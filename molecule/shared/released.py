"""Loaded by PYTEST_PLUGINS where hosts were only provisioned: a release serves before the first test of a module."""

from __future__ import annotations

import pytest
from deployment import Deployment


@pytest.fixture(scope="module", autouse=True)
def released(deployment: Deployment) -> Deployment:
    return deployment
