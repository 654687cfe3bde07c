"""An app beside the one that serves, for the time of a test, of the same image or package.

The role's own template renders its release, and the runtime's own adapter runs a command in it.
"""

from __future__ import annotations

import base64
import io
import json
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pytest
from ansible.plugins.loader import init_plugin_loader
from contract import ROOT, Promise, promise_of, quoted, read_json

from tests.templates.rendering import Role

init_plugin_loader([str(ROOT / ".collections")])  # for the filters in the role's templates

APP, RELEASE, CODE = "told", "0123456789ab", "/run/told-code"
# A process that tells what it has. What a command prints is shown without secrets, passwords, and most of a long line.
LOOK = """
import hashlib, json, os, pathlib, resource
(pathlib.Path.home() / ".cache").mkdir()
print(json.dumps({
    "variables": {os.fsdecode(name): value.hex() for name, value in os.environb.items()},
    "digests": {os.fsdecode(name): hashlib.sha256(value).hexdigest() for name, value in os.environb.items()},
    "home": str(pathlib.Path.home()),
    "files": resource.getrlimit(resource.RLIMIT_NOFILE),
}, indent=0))
"""


def archived(files: dict[str, str]) -> bytes:
    """An archive of texts that their user alone can read."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as stream:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(text.encode()), 0o400
            stream.addfile(entry, io.BytesIO(text.encode()))
    return archive.getvalue()


@dataclass
class Beside:
    """The app beside, on one host."""

    host: Any
    promise: Promise

    root = PurePosixPath("/opt/slipway", APP)

    def staged(self, **more: Any) -> None:
        """Have its release on the host, rendered with the host's own variables and these."""
        compose = self.promise.runtime == "compose"
        role = Role(
            "fastapi_app",
            **{
                "fastapi_app_name": APP,
                "fastapi_app_runtime": self.promise.runtime,
                "fastapi_app_uid": self.promise.uid,
                "fastapi_app_image": self.image() if compose else "",
                "fastapi_app_package_content": "" if compose else self.package(),
                "fastapi_app_command": ["python", "-m", "http.server"],
                **more,
            },
        )
        directory = f"{self.root}/releases/{RELEASE}"
        name = "compose.yaml" if compose else "unit.service"
        files = {f"secrets/{name}": text for name, text in (more.get("fastapi_app_secrets") or {}).items()}
        archive = archived({name: role.render(f"{name}.j2"), **files})
        self.host.check_output(
            f"rm -rf {self.root}; install -d -m 0700 {directory}; ln -s {self.promise.root}/packages {self.root};"
            f" install -d -m 0500 -o {self.promise.uid} {directory}/secrets; install -d /run/slipway/{APP}"
        )
        self.unpack(archive, directory)
        self.host.check_output(f"chown -R {self.promise.uid} {directory}/secrets")

    def serving(self, name: str) -> str:
        """A file of the release that serves."""
        release = read_json(self.host, f"{self.promise.root}/state.json")["release"]
        text: str = self.host.file(f"{self.promise.root}/releases/{release}/{name}").content_string
        return text

    def image(self) -> str:
        return re.search(r'image: "(.+)"', self.serving("compose.yaml"))[1]  # type: ignore[index]

    def package(self) -> str:
        return re.search(r"packages/([0-9a-f]+)", self.serving("unit.service"))[1]  # type: ignore[index]

    def unpack(self, archive: bytes, directory: str) -> None:
        """Files on the host, in pieces that fit a command line."""
        for begin in range(0, len(archive), 50_000):
            piece = base64.b64encode(archive[begin : begin + 50_000]).decode()
            script = f"import base64; open('/run/told.tar.gz', 'ab').write(base64.b64decode({piece!r}))"
            self.host.check_output(f"python3 -c {quoted(script)}")
        self.host.check_output(f"tar -xzf /run/told.tar.gz -C {directory}; rm /run/told.tar.gz")

    def look(self) -> dict[str, Any]:
        """What a process of it has."""
        return self.says(LOOK)

    def says(self, inside: str) -> dict[str, Any]:
        """What a Python script prints as JSON that the adapter runs in it, as the app's user and with its limits."""
        script = (
            f"import json, sys; sys.path.insert(0, {CODE!r}); from pathlib import Path;"
            f" words = ['python', '-c', {inside!r}];"
            " from module_utils.release.runtimes import Runtimes;"
            f" ran = Runtimes({APP!r}, Path('{self.root}/releases')).run({RELEASE!r}, words, 600, 'look');"
            " print(json.dumps([ran.returncode, ran.stdout, ran.stderr]))"
        )
        code, stdout, stderr = json.loads(self.host.check_output(f"python3 -c {quoted(script)}"))
        assert code == 0, stderr
        found: dict[str, Any] = json.loads(stdout)
        return found


@pytest.fixture(scope="module")
def beside(host: Any) -> Iterator[Beside]:
    found = Beside(host, promise_of(host.check_output("hostname")))
    plugins = ROOT / "plugins"
    code = {str(path.relative_to(plugins)): path.read_text() for path in (plugins / "module_utils").rglob("*.py")}
    host.check_output(f"install -d -m 0700 {CODE}")
    found.unpack(archived(code), CODE)
    yield found
    host.check_output(f"rm -rf {CODE} {found.root} /run/slipway/{APP}")
