"""What the inventory tells an app reaches its process as it is written, whichever runtime it has.

Beside the app that serves there is another one for the time of the test, of the same image or package and with a
release that the role's own template renders; the runtime's own adapter runs a command in it.
"""

from __future__ import annotations

import base64
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import PurePosixPath
from typing import Any

import pytest
from contract import ROOT, Promise, promise_of, quoted, read_json, variables

from tests.templates.rendering import Role
from tests.values import TEXTS, VALUES

APP, RELEASE, CODE = "told", "0123456789ab", "/run/told-code"
DIGESTS = (
    "import hashlib, json, os, sys;"
    " print(json.dumps({name: hashlib.sha256(os.environb[name.encode()]).hexdigest() for name in sys.argv[1:]}))"
)
PRINT = "import json, os; print(json.dumps(dict(os.environ)))"


@dataclass
class Beside:
    """The app beside, on one host."""

    host: Any
    promise: Promise
    values: dict[str, Any]

    root = PurePosixPath("/opt/slipway", APP)

    def staged(self, **more: Any) -> None:
        """Have its release on the host, rendered with the host's own variables and these."""
        serving = f"{self.promise.root}/releases/{read_json(self.host, f'{self.promise.root}/state.json')['release']}"
        compose = self.promise.runtime == "compose"
        content = (
            "" if compose else self.host.check_output(f"grep -o 'packages/[0-9a-f]*' {serving}/unit.service").split()[0]
        )
        image = self.host.check_output(f"sed -n 's/^ *image: //p' {serving}/compose.yaml").strip('"') if compose else ""
        role = Role(
            "fastapi_app",
            **self.values,
            **{
                "fastapi_app_name": APP,
                "fastapi_app_image": image,
                "fastapi_app_package_content": content.rpartition("/")[2],
                "fastapi_app_secrets": {},
                **more,
            },
        )
        directory = f"{self.root}/releases/{RELEASE}"
        self.host.check_output(f"install -d -m 0700 {directory} {directory}/secrets /run/slipway/{APP}")
        for name, text in (more.get("fastapi_app_secrets") or {}).items():
            self.write(f"{directory}/secrets/{name}", text.encode())
        self.host.check_output(f"chown -R {self.promise.uid}:{self.promise.uid} {directory}/secrets")
        self.host.check_output(f"ln -sfn {self.promise.root}/packages {self.root}/packages")
        name = "compose.yaml" if compose else "unit.service"
        self.write(f"{directory}/{name}", role.render(f"{name}.j2").encode())

    def write(self, path: str, content: bytes) -> None:
        """A file on the host, in pieces that fit a command line."""
        self.host.check_output(f"install -m 0600 /dev/null {path}")
        for begin in range(0, len(content), 50_000):
            piece = base64.b64encode(content[begin : begin + 50_000]).decode()
            script = f"import base64; open({path!r}, 'ab').write(base64.b64decode({piece!r}))"
            self.host.check_output(f"python3 -c {quoted(script)}")

    def run(self, *words: str) -> dict[str, Any]:
        """What the adapter makes of a one-off command: its exit code and its output."""
        script = (
            f"import json, sys; sys.path.insert(0, {CODE!r}); from pathlib import Path;"
            " from module_utils.release.runtimes import Runtimes;"
            f" ran = Runtimes({APP!r}, Path('{self.root}/releases')).run({RELEASE!r}, {list(words)!r}, 60, 'look');"
            " print(json.dumps([ran.returncode, ran.stdout, ran.stderr]))"
        )
        code, stdout, stderr = json.loads(self.host.check_output(f"python3 -c {quoted(script)}"))
        return {"code": code, "stdout": stdout, "stderr": stderr}

    def environment(self) -> dict[str, str]:
        """The variables of a process of it."""
        ran = self.run("python", "-c", PRINT)
        assert ran["code"] == 0, ran
        found: dict[str, str] = json.loads(ran["stdout"])
        return found


@pytest.fixture(scope="module")
def beside(host: Any) -> Iterator[Beside]:
    name = host.check_output("hostname")
    found = Beside(host, promise_of(name), variables(name))
    code = io.BytesIO()
    with tarfile.open(fileobj=code, mode="w:gz") as archive:
        for path in sorted((ROOT / "plugins/module_utils").rglob("*.py")):
            archive.add(path, str(path.relative_to(ROOT / "plugins")))
    host.check_output(f"install -d -m 0700 {CODE}")
    found.write(f"{CODE}.tar.gz", code.getvalue())
    host.check_output(f"tar -xzf {CODE}.tar.gz -C {CODE}")
    yield found
    host.check_output(f"rm -rf {CODE} {CODE}.tar.gz {found.root} /run/slipway/{APP}")


def test_fifty_values_arrive_as_they_are_written(beside: Beside) -> None:
    beside.staged(fastapi_app_environment={name: value for name, (value, _) in VALUES.items()})
    environment = beside.environment()
    assert {name: environment.get(name) for name in VALUES} == {name: text for name, (_, text) in VALUES.items()}


def test_secrets_are_variables_of_the_process_and_nowhere_else(beside: Beside) -> None:
    secrets = {name: text for name, text in TEXTS.items() if text.strip()}
    beside.staged(fastapi_app_secrets=secrets)
    # What a command prints has no secret any more, so it prints what they come to.
    ran = beside.run("python", "-c", DIGESTS, *secrets)
    assert ran["code"] == 0, ran
    digests = {name: sha256(text.rstrip("\n").encode()).hexdigest() for name, text in secrets.items()}
    assert json.loads(ran["stdout"]) == digests
    beside.staged(fastapi_app_secrets=secrets, fastapi_app_secrets_as=["files"])
    assert not set(secrets) & set(beside.environment())


def test_home_can_be_written(beside: Beside) -> None:
    beside.staged(fastapi_app_environment={"HOME_OF_NOBODY": None})
    ran = beside.run(
        "python", "-c", "import pathlib; (pathlib.Path.home() / '.cache').mkdir(); print(pathlib.Path.home())"
    )
    assert (ran["code"], ran["stdout"]) == (0, "/tmp\n"), ran
    assert "HOME_OF_NOBODY" not in beside.environment()


def test_many_files_may_be_open(beside: Beside) -> None:
    """As many as are asked for, or as the host itself may have where it is a container of the lab."""
    most = int(beside.host.check_output("bash -c 'ulimit -Hn'"))
    beside.staged()
    ran = beside.run("python", "-c", "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE))")
    assert ran["stdout"] == f"({min(most, 65536)}, {min(most, 65536)})\n", ran


def test_more_processors_than_the_host_has_are_as_many_as_it_has(beside: Beside) -> None:
    beside.staged(fastapi_app_cpus=512)
    assert beside.environment()["HOME"] == "/tmp"
