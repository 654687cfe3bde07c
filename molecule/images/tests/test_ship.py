"""Images of the controller's Docker: only what a host lacks travels, a cut transfer goes on, and all is verified."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from contract import PATIENCE
from fleet import on
from images import HOSTS, PACKAGES, Images, code_of, docker_here, forget, ids

NAME = "pictures/app"
CHUNK = 8 << 20
A, B = HOSTS
INCOMING = "/var/lib/slipway/incoming"
# Takes the host off the net as soon as some pieces are there: a single cut is mended by Ansible itself.
CUT = f"""
import pathlib, subprocess, time
end = time.monotonic() + 600
while time.monotonic() < end:
    if len(list(pathlib.Path("{INCOMING}").glob("*/*"))) >= 3:
        subprocess.run(["systemctl", "stop", "ssh"])
        subprocess.run(["pkill", "-KILL", "-u", "deploy"])
        break
    time.sleep(0.002)
"""


def ship(tag: str) -> dict[str, str]:
    return {"fastapi_image_source": "ship", "fastapi_image_name": f"{NAME}:{tag}"}


@pytest.fixture(scope="module", autouse=True)
def first(images: Images) -> Iterator[str]:
    yield images.built_here(f"{NAME}:first", images.source("ship"))
    forget(f"{NAME}:first", f"{NAME}:code")


def test_the_image_is_on_every_host_compressed(images: Images) -> None:
    outcome = images.put(**ship("first"))
    assert outcome.code == 0, outcome.output
    local = json.loads(docker_here("image", "inspect", f"{NAME}:first"))[0]
    assert ids(f"{NAME}:first") == {local["Id"]}
    for result in outcome.results.values():
        assert result["id"] == local["Id"]
        assert (result["size"], result["architectures"]) == (local["Size"], [local["Architecture"]])
        assert PACKAGES < result["bytes_moved"] < 1.01 * local["Size"]
    for host in HOSTS:
        assert code_of(f"{NAME}:first", host) == "one"
        assert on(host, f"find {INCOMING} -type f") == ""


def test_again_changes_and_moves_nothing(images: Images) -> None:
    outcome = images.put(**ship("first"))
    assert (outcome.code, outcome.changed) == (0, 0), outcome.output
    assert outcome.moved() == dict.fromkeys(HOSTS, 0)


def test_a_change_of_code_moves_code(images: Images) -> None:
    images.built_here(f"{NAME}:code", images.source("ship", code="two"))
    outcome = images.put(**ship("code"))
    assert outcome.code == 0, outcome.output
    for host, result in outcome.results.items():
        assert 0 < result["bytes_moved"] < 0.05 * result["size"]
        assert result["bytes_moved"] < 20_000
        assert code_of(f"{NAME}:code", host) == "two"


def test_a_dry_run_tells_and_moves_nothing(images: Images) -> None:
    forget(f"{NAME}:code")
    outcome = images.put("--check", **ship("code"))
    assert outcome.code == 0, outcome.output
    assert [result["changed"] for result in outcome.results.values()] == [True, True]
    for host in HOSTS:
        assert on(host, f"docker image ls --quiet {NAME}:code") == ""


def test_a_cut_transfer_goes_on_and_a_damaged_piece_is_sent_again(images: Images) -> None:
    forget(f"{NAME}:first", f"{NAME}:code")
    with subprocess.Popen(["docker", "exec", A, "python3", "-c", CUT]) as cutter:
        outcome = images.put("--limit", A, **ship("first"))
        cutter.wait(timeout=PATIENCE)
    on(A, "systemctl start ssh")
    assert outcome.code != 0, outcome.output
    assert "what has arrived is not sent again" in outcome.said
    there = on(A, f"find {INCOMING} -type f -size {CHUNK}c").split()
    assert len(there) >= 2, there
    on(A, f"dd if=/dev/zero of={there[0]} bs=1 count=1 seek=4096 conv=notrunc status=none")
    whole = len(there) - 1
    assert on(A, f"docker image ls --quiet {NAME}") == ""

    again = images.put("--limit", A, **ship("first"))
    assert again.code == 0, again.output
    forget(f"{NAME}:first")
    everything = images.put("--limit", A, **ship("first")).moved()[A]
    assert again.moved()[A] == everything - whole * CHUNK
    assert code_of(f"{NAME}:first", A) == "one"


def test_a_host_without_room_stops_the_run_before_anything_moves(images: Images) -> None:
    forget(f"{NAME}:first")
    on(B, f"mkdir -p {INCOMING} && mount -t tmpfs -o size=20m none {INCOMING}")
    try:
        outcome = images.put(**ship("first"))
    finally:
        on(B, f"umount {INCOMING}")
    assert outcome.code != 0
    assert f"{B} has 20 MiB free in {INCOMING}" in outcome.said
    assert "nothing was sent to any host" in outcome.said
    assert "fastapi_image_disk_reserve" in outcome.said
    assert A not in outcome.said.partition("nothing was sent")[2].partition("Free some")[0]
    for host in HOSTS:
        assert on(host, f"find {INCOMING} -type f") == ""
        assert on(host, f"docker image ls --quiet {NAME}:first") == ""


def test_a_damaged_cache_of_the_controller_is_found_and_heals(images: Images) -> None:
    layers = images.scratch / "cache/slipway/images/layers"
    for path in layers.glob("*.gz"):  # those of other tests' images
        path.unlink()
    forget(f"{NAME}:first")
    assert images.put("--limit", A, **ship("first")).code == 0
    forget(f"{NAME}:first")
    largest = max(layers.glob("*.gz"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    outcome = images.put("--limit", A, **ship("first"))
    assert outcome.code != 0
    assert "was damaged and is removed; run it again" in outcome.said
    assert on(A, f"docker image ls --quiet {NAME}:first") == ""
    assert images.put("--limit", A, **ship("first")).code == 0


def test_over_the_connection_of_docker(images: Images) -> None:
    """Where no SSH is, as in tests of roles; the files arrive as another user than root."""
    forget(f"{NAME}:first")
    inventory = images.scratch / "docker.yml"
    host = {"ansible_connection": "community.docker.docker", "ansible_user": "deploy"}
    inventory.write_text(yaml.safe_dump({"web": {"hosts": {B: host}}}))
    outcome = Images(str(inventory), images.scratch).put(**ship("first"))
    assert outcome.code == 0, outcome.output
    assert outcome.moved()[B] > PACKAGES


def test_a_host_with_the_containerd_store_gets_everything(images: Images) -> None:
    """That store does not take a layer for granted because another image has it, and has ids of its own."""
    daemon = Path("/etc/docker/daemon.json")
    before = on(B, f"cat {daemon}")
    changed = json.loads(before) | {"features": {"containerd-snapshotter": True}}
    write = f"cat > {daemon} <<'EOF'\n{{}}\nEOF\nsystemctl reset-failed docker; systemctl restart docker"
    on(B, write.format(json.dumps(changed)))
    try:
        forget(f"{NAME}:first", f"{NAME}:code")
        images.put("--limit", B, **ship("first"))
        outcome = images.put("--limit", B, **ship("code"))
        assert outcome.code == 0, outcome.output
        assert outcome.moved()[B] > PACKAGES
        # Whether it runs cannot be seen here: that store mounts one overlay on another, which the lab's kernel refuses.
        there = json.loads(on(B, f"docker image inspect {NAME}:code"))[0]
        local = json.loads(docker_here("image", "inspect", f"{NAME}:code"))[0]
        assert there["RootFS"] == local["RootFS"]
        assert there["Id"] != local["Id"]
        again = images.put("--limit", B, **ship("code"))
        assert (again.code, again.changed, again.moved()[B]) == (0, 0, 0), again.output
    finally:
        on(B, write.format(before))


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        (ship("nothing"), f"the controller's Docker has no image {NAME}:nothing, as fastapi_image_name says"),
        ({**ship("first"), "fastapi_image_name": f"{NAME}@sha256:{'0' * 64}"}, "cannot be shipped under a digest"),
        ({**ship("first"), "fastapi_image_name": ""}, "fastapi_image_name must name the image"),
    ],
    ids=["missing", "digest", "no name"],
)
def test_refused(images: Images, variables: dict[str, str], words: str) -> None:
    outcome = images.put(**variables)
    assert (outcome.code != 0, outcome.changed) == (True, 0)
    assert words in outcome.said
