"""The few things that the measurements ask of Docker."""

from __future__ import annotations

import json
import subprocess
import tarfile
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def docker(*arguments: str) -> str:
    """Standard output of the client. Raises SystemExit with the end of what it says when it fails."""
    result = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"docker {arguments[0]} failed:\n{result.stderr[-2000:] or result.stdout[-2000:]}")
    return result.stdout.strip()


def build(context: Path, base: str, tag: str, *options: str) -> float:
    """Seconds of a build."""
    begin = time.monotonic()
    docker("build", "--quiet", "--tag", tag, "--build-arg", f"BASE_IMAGE={base}", *options, str(context))
    return time.monotonic() - begin


def layers(tag: str) -> dict[str, int]:
    """Digests of the layers of an image, from the base up, with the bytes that each has on its way to a host."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "image.tar")
        docker("save", "--output", str(path), tag)
        with tarfile.open(path) as archive:
            manifest = _read(archive, "manifest.json")[0]
            digests = _read(archive, manifest["Config"])["rootfs"]["diff_ids"]
            return dict(zip(digests, (archive.getmember(name).size for name in manifest["Layers"]), strict=True))


def _read(archive: tarfile.TarFile, name: str) -> Any:
    file = archive.extractfile(name)
    if file is None:
        raise SystemExit(f"{name} of a saved image is not a file")
    return json.load(file)


def size(tag: str) -> int:
    """Bytes of an image, unpacked."""
    return int(json.loads(docker("image", "inspect", tag))[0]["Size"])


def environment(values: dict[str, str]) -> list[str]:
    """Arguments of `docker run` that set variables."""
    return [part for name, value in values.items() for part in ("--env", f"{name}={value}")]


def first_answer(url: str, container: str, begin: float, limit: float = 60) -> float:
    """Seconds from `begin`, a time of the monotonic clock, to the first 200.

    Raises SystemExit with the end of the container's log after `limit` seconds.
    """
    while time.monotonic() - begin < limit:
        try:
            with urllib.request.urlopen(url, timeout=2):  # noqa: S310 - http, on this machine
                return time.monotonic() - begin
        except OSError:
            time.sleep(0.02)
    logs = subprocess.run(["docker", "logs", "--tail", "20", container], capture_output=True, text=True, check=False)
    raise SystemExit(f"{url} did not answer within {limit:.0f} s:\n{logs.stdout}{logs.stderr}")
