"""Deploys in a test as an operator does, with a load on the edge meanwhile."""

from __future__ import annotations

import json
import re
import shutil
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from contract import ANSWER, PATIENCE, ROOT, SHARED, run_ansible, until

# Not part of a build, and large or private.
NOT_COPIED = shutil.ignore_patterns(
    ".*cache*", ".git", ".venv", ".lab", ".collections", "__pycache__", "reports", "molecule"
)

# Edges are asked by HTTP. To read the authorities of the machine for each question took most of the time of asking.
NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def failure_in(output: str) -> str:
    """A playbook's output from its first error on, on one line; all of it where there is none."""
    _, _, rest = output.partition("[ERROR]")
    return " ".join((rest or output).split())


@dataclass(frozen=True)
class Outcome:
    """How a playbook ended."""

    code: int
    output: str = field(repr=False)
    seconds: float

    @property
    def changed(self) -> int:
        """Changed tasks over all hosts, as the recap tells."""
        return sum(int(number) for number in re.findall(r"\bchanged=(\d+)", self.output))

    def failure(self) -> str:
        """The message of the failed task, on one line."""
        return failure_in(self.output)


@dataclass
class Deployment:
    """The playbooks against one host of an inventory, and its edge; without a URL that is where the inventory says."""

    inventory: str
    url: str
    scratch: Path
    limit: str = "all"
    usual: dict[str, Any] = field(default_factory=dict)

    def play(self, playbook: str, *arguments: str, **variables: Any) -> Outcome:
        """Run a playbook of the collection with extra variables, over the usual ones."""
        command = ["ansible-playbook", f"slipway.fleet.{playbook}", "--limit", f"localhost,{self.limit}", *arguments]
        return self._run(playbook, command, variables)

    def part(self, role: str, tasks: str, **variables: Any) -> Outcome:
        """Run one entry point of a role alone, as a playbook does that provisions."""
        words = f"name=slipway.fleet.{role} tasks_from={tasks}"
        command = ["ansible", self.limit, "--become", "-m", "ansible.builtin.include_role", "-a", words]
        return self._run(f"{role}: {tasks}", command, variables)

    def _run(self, what: str, command: list[str], variables: dict[str, Any]) -> Outcome:
        extra = self.scratch / "variables.json"
        where = {"slipway_url": self.url} if self.url else {}
        extra.write_text(json.dumps(where | self.usual | variables), encoding="utf-8")
        extra.chmod(0o600)
        began = time.monotonic()
        result = run_ansible([*command, "-i", self.inventory, "-e", f"@{extra}"])
        outcome = Outcome(result.returncode, result.stdout, time.monotonic() - began)
        print(f"{what}: exit code {outcome.code}, changed={outcome.changed}, {outcome.seconds:.0f} s")
        return outcome

    def deploy(self, *arguments: str, **variables: Any) -> Outcome:
        return self.play("deploy", *arguments, **variables)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body, from outside the host; 0 where nobody answers."""
        try:
            answer = httpx.get(self.url + path, timeout=ANSWER, verify=NOBODY)
        except httpx.HTTPError as error:
            return 0, str(error)
        return answer.status_code, answer.text

    def version(self) -> dict[str, Any]:
        status, body = self.get("/version")
        assert status == 200, body
        version: dict[str, Any] = json.loads(body)
        return version

    def wait_until_serving(self, seconds: float = PATIENCE) -> float:
        """Wait until the app is ready behind the edge; returns how long it took."""
        return until(lambda: self.get("/readyz")[0] == 200, f"{self.url} is ready", seconds)

    def source(self, name: str, changes: dict[str, str] | None = None) -> str:
        """A copy of the app's source to build from, with text added at the end of some files."""
        directory = self.scratch / name
        shutil.copytree(ROOT, directory, ignore=NOT_COPIED)
        for path, text in (changes or {}).items():
            with (directory / path).open("a", encoding="utf-8") as stream:
                stream.write(text)
        return str(directory)

    @staticmethod
    def made_from(source: str) -> dict[str, str]:
        """The variables that name the source of a release, be it made as an image or as a package."""
        return {"fastapi_image_context": source, "fastapi_package_source": source}

    @contextmanager
    def load(self, name: str, *arguments: str) -> Iterator[dict[str, Any]]:
        """Send load while the block runs; the report is in the dictionary afterwards."""
        report: dict[str, Any] = {}
        path = self.scratch / f"load-{name}.json"
        seen = self.scratch / f"load-{name}.seen"
        seen.unlink(missing_ok=True)
        command = [sys.executable, str(SHARED / "load.py"), "--url", self.url, "--report", str(path)]
        # It ends with the block, however long that takes on a busy machine.
        command += ["--seen", str(seen), "--seconds", str(6 * 3600), *arguments]

        def has_seen(release: str) -> bool:
            assert process.poll() is None, f"the load ended by itself with {process.returncode}"
            return seen.exists() and release in seen.read_text(encoding="utf-8").split()

        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                # The load before a deploy is part of the measurement, and so is the one after it.
                serving = self.version()["release"]
                until(lambda: has_seen(serving), f"the load sees release {serving} before it is replaced")
                time.sleep(2)
                yield report
                serving = self.version()["release"]
                until(lambda: has_seen(serving), f"the load sees release {serving} in the end")
                time.sleep(2)
                process.send_signal(signal.SIGTERM)
                output, _ = process.communicate(timeout=3600)  # it has limits of its own
            finally:
                process.kill()
        print(output)
        report.update(json.loads(path.read_text(encoding="utf-8")))


def assert_nothing_lost(report: dict[str, Any]) -> None:
    """No request failed, and every acknowledged POST is there exactly once."""
    assert report["failed"] == 0, report["failures"]
    ledger = report["ledger"]
    assert ledger["acknowledged"] > 0
    wrong = {key: value for key, value in ledger.items() if key != "acknowledged" and value}
    assert not wrong, wrong
