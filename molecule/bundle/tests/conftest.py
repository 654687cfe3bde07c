"""A host that reaches nothing, and a bundle for it."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from contract import ROOT
from deployment import Deployment, Outcome
from fleet import on

HOST, ADDRESS = "slipway-closed", "172.29.90.11"
# The downloads that the lab's hosts come with would hide what a bundle lacks. Connections that the host or a container
# on it begins get no further than the host; answers to the controller pass.
CLOSE = """
rm -rf /var/cache/apt/archives/*.deb /var/lib/apt/lists/*
iptables -t mangle -A POSTROUTING -o eth0 -m conntrack --ctstate NEW -j DROP
"""
# As hardening guides have it: what anybody makes is closed to everybody else, what root makes by sudo as well.
HARDEN = """
sed -i 's/pam_umask.so$/pam_umask.so nousergroups umask=027/' /etc/pam.d/common-session*
echo 'Defaults umask=0027, umask_override' >/etc/sudoers.d/umask
chmod 0440 /etc/sudoers.d/umask
"""


@dataclass
class ClosedSide(Deployment):
    """A deployment from a controller with everything on PATH but Docker, and with a cache of its own."""

    programs: Path = Path()
    cache: Path = Path()

    def play(self, playbook: str, *arguments: str, **variables: Any) -> Outcome:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PATH", str(self.programs))
            patch.setenv("XDG_CACHE_HOME", str(self.cache))
            assert shutil.which("docker") is None
            return super().play(playbook, *arguments, **variables)


@pytest.fixture(scope="session")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bundle")


@pytest.fixture(scope="session")
def inventory(scratch: Path) -> str:
    """The closed host over SSH, with the variables of the lab."""
    key, known = scratch / "id_ed25519", scratch / "known_hosts"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    public = key.with_suffix(".pub").read_text().strip()
    on(
        HOST,
        "cd /home/deploy && install -d -m 0700 -o deploy -g deploy .ssh"
        f" && echo '{public}' >.ssh/authorized_keys && chmod 0600 .ssh/authorized_keys"
        " && chown deploy: .ssh/authorized_keys",
    )
    host_key = " ".join(on(HOST, "cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2])
    known.write_text(f"{ADDRESS} {host_key}\n")
    (scratch / "group_vars").symlink_to(ROOT / "inventories/lab/group_vars")
    variables = {
        "ansible_host": ADDRESS,
        "ansible_user": "deploy",
        "ansible_ssh_private_key_file": str(key),
        "ansible_ssh_common_args": f"-o UserKnownHostsFile={known}",
    }
    groups = {"web": {"hosts": {HOST: variables}}, "data": {"hosts": {HOST: None}}}
    (scratch / "hosts.yml").write_text(yaml.safe_dump(groups))
    on(HOST, CLOSE + HARDEN)
    return str(scratch / "hosts.yml")


@pytest.fixture(scope="session")
def open_side(inventory: str, scratch: Path) -> Deployment:
    """The machine that makes the bundle: it has Docker and the internet, and asks no host."""
    deployment = Deployment(inventory, f"http://{ADDRESS}", scratch)
    deployment.usual = {
        "fastapi_image_context": deployment.source("source"),
        "slipway_bundle": str(scratch / "bundle.tar"),
        "fastapi_app_soak": 0,
    }
    return deployment


@pytest.fixture(scope="session")
def bundle(open_side: Deployment, scratch: Path) -> Path:
    outcome = open_side.play("bundle")
    assert outcome.code == 0, outcome.output
    return scratch / "bundle.tar"


@pytest.fixture(scope="session")
def closed_side(bundle: Path, open_side: Deployment, scratch: Path) -> ClosedSide:
    """The controller of the closed network."""
    programs = scratch / "programs"
    programs.mkdir()
    for directory in reversed(os.environ["PATH"].split(os.pathsep)):
        for path in Path(directory).glob("*"):
            link = programs / path.name
            link.unlink(missing_ok=True)
            link.symlink_to(path)
    (programs / "docker").unlink()
    return ClosedSide(
        open_side.inventory, open_side.url, scratch, usual=open_side.usual, programs=programs, cache=scratch / "cache"
    )
