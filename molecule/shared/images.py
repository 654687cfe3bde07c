"""Two hosts with Docker, reached over SSH as an operator does, and the role under test on them."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from contract import ROOT, run_ansible
from fleet import on

HOSTS = {"slipway-images-a": "172.29.87.11", "slipway-images-b": "172.29.87.12"}
PLAYBOOK = str(ROOT / "molecule/images/image.yml")
# Small, so that what takes time is the way and not the image. Random data does not compress, as packages hardly do.
DOCKERFILE = """
FROM scratch
COPY packages /packages
COPY app /app
"""
PACKAGES = 40_000_000


@dataclass(frozen=True)
class Outcome:
    """How a run ended, and the role's result for each host that has one."""

    code: int
    output: str = field(repr=False)
    results: dict[str, dict[str, Any]]

    @property
    def changed(self) -> int:
        return sum(int(number) for number in re.findall(r"\bchanged=(\d+)", self.output))

    @property
    def said(self) -> str:
        """All output on one line, as a long message is wrapped."""
        return " ".join(self.output.split())

    def moved(self) -> dict[str, int]:
        return {host: result["bytes_moved"] for host, result in self.results.items()}


@dataclass
class Images:
    """The role on the hosts, with a controller's cache of its own."""

    inventory: str
    scratch: Path

    def put(self, *arguments: str, **variables: Any) -> Outcome:
        """Run the role with variables; every test that does not say otherwise gets one app."""
        extra = self.scratch / "variables.json"
        extra.write_text(json.dumps({"fastapi_app_name": "pictures", "fastapi_image_disk_reserve": 64} | variables))
        result = run_ansible(["ansible-playbook", "-i", self.inventory, PLAYBOOK, "-e", f"@{extra}", *arguments])
        found = re.findall(r"result (\S+) ([A-Za-z0-9+/=]{40,})", result.stdout)
        results = {host: json.loads(base64.b64decode(text)) for host, text in found}
        outcome = Outcome(result.returncode, result.stdout, results)
        print(f"exit code {outcome.code}, changed={outcome.changed}, {results}")
        return outcome

    @property
    def known_hosts(self) -> str:
        """How the inventory tells SSH which keys hosts have, for other words of one's own beside it."""
        return f"-o UserKnownHostsFile={self.scratch}/known_hosts"

    def source(self, name: str, dockerfile: str = DOCKERFILE, code: str = "one") -> str:
        """A directory to build from."""
        directory = self.scratch / name
        (directory / "app").mkdir(parents=True, exist_ok=True)
        (directory / "Dockerfile").write_text(dockerfile)
        if dockerfile == DOCKERFILE and not (directory / "packages").exists():
            (directory / "packages").write_bytes(os.urandom(PACKAGES))
        (directory / "app" / "code").write_text(code)
        return str(directory)

    def built_here(self, name: str, source: str) -> str:
        """An image that the controller's Docker has, to be shipped; returns its name."""
        subprocess.run(["docker", "build", "--quiet", "--tag", name, source], check=True, capture_output=True)
        return name


def docker_here(*arguments: str) -> str:
    result = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def ids(reference: str, hosts: Sequence[str] = tuple(HOSTS)) -> set[str]:
    """The ids under which hosts have an image."""
    return {on(host, f"docker image inspect --format '{{{{.Id}}}}' {reference}").strip() for host in hosts}


def code_of(reference: str, host: str) -> str:
    """What an image of `DOCKERFILE` was given as code, from its files on the host."""
    return on(
        host, f"c=$(docker create {reference} none) && docker cp $c:/app/code - | tar -xO; docker rm $c >/dev/null"
    )


def forget(*references: str) -> None:
    """No host has these any more."""
    for host in HOSTS:
        on(host, f"docker image rm --force {' '.join(references)} >/dev/null 2>&1 || true")
