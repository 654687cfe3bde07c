"""A deploy from a bundle: refused when it is damaged, complete without any network, and nothing to do a second time."""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle.archive import Bundle
from deployment import Deployment
from fleet import on

HOST = "slipway-closed"
HOME = "/opt/slipway/shortlinks"
OWN_SOURCES = "find /etc/apt /var/lib/apt/lists -type f -printf '%p %s %T@\\n' | sort"


@pytest.fixture(scope="module")
def sources_before(bundle: Path) -> str:
    return on(HOST, OWN_SOURCES)


def test_the_host_reaches_nothing(sources_before: str) -> None:
    said = on(HOST, "apt-get update -o Acquire::Retries=0 -o Acquire::http::Timeout=2 2>&1 | tail -1")
    assert "Some index files failed to download" in said


@pytest.mark.parametrize("part", ["haproxy_", "layers/", "manifest.json"])
def test_a_damaged_bundle_is_refused_before_any_change(
    closed_side: Deployment, bundle: Path, scratch: Path, part: str
) -> None:
    damaged = scratch / "damaged.tar"
    shutil.copy(bundle, damaged)
    with tarfile.open(damaged) as tar:
        item = next(item for item in tar if part in item.name)
    with damaged.open("r+b") as stream:
        stream.seek(item.offset_data + item.size // 2)
        byte = stream.read(1)
        stream.seek(item.offset_data + item.size // 2)
        stream.write(bytes([byte[0] ^ 1]))
    outcome = closed_side.play("site", slipway_bundle=str(damaged))
    assert outcome.code == 2, outcome.output
    assert outcome.changed == 0, outcome.output
    assert item.name in "".join(outcome.output.split())
    assert on(HOST, "ls /var/lib/slipway /opt/slipway 2>&1 | grep -c 'No such file'").strip() == "2"


def test_from_nothing_to_serving(closed_side: Deployment, bundle: Path) -> None:
    outcome = closed_side.play("site")
    assert outcome.code == 0, outcome.output
    assert closed_side.version()["app"] == "shortlinks"
    image = Bundle(bundle).image("slipway/shortlinks")
    assert image["id"] in on(HOST, "docker image ls --no-trunc --quiet")


def test_a_second_run_changes_nothing(closed_side: Deployment) -> None:
    outcome = closed_side.play("site")
    assert outcome.code == 0, outcome.output
    assert outcome.changed == 0, outcome.output


def test_sources_and_lists_of_the_host_are_as_they_were(closed_side: Deployment, sources_before: str) -> None:
    def of_packages(text: str) -> set[str]:
        return {line for line in text.splitlines() if "/sources.list" in line or "_dists_" in line}

    assert of_packages(on(HOST, OWN_SOURCES)) == of_packages(sources_before)
    assert "/sources.list" in sources_before
    assert on(HOST, "find /var/lib/slipway/packages -name '*.deb'") == ""
    assert "slipway" not in on(HOST, "apt-cache policy haproxy")


def test_the_bill_of_materials_came_along(closed_side: Deployment, bundle: Path) -> None:
    state: dict[str, Any] = json.loads(on(HOST, f"cat {HOME}/state.json"))
    there = on(HOST, f"cat {HOME}/releases/{state['release']}/sbom.cdx.json")
    opened = Bundle(bundle)
    assert there.encode() == opened.read(opened.image("slipway/shortlinks")["sbom"])


def test_a_build_of_the_same_code_is_the_same_release(open_side: Deployment) -> None:
    outcome = open_side.deploy(slipway_bundle="")
    assert outcome.code == 0, outcome.output
    assert outcome.changed == 0, outcome.output
