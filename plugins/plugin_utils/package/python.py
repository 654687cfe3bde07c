# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""A Python that uv has, for hosts whose own does not suit: fetched once on the controller, and sent to each host."""

from __future__ import annotations

import fcntl
import os
import re
import tarfile
import tempfile
from pathlib import Path

from ansible_collections.slipway.fleet.plugins.module_utils.host import command
from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import PackageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.link import Link
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.lock import program_named

# Seconds for a download of some 30 MB.
LIMIT = 900
_VERSION = re.compile(r"3\.\d+(\.\d+)?")


def bring(host: Link, version: str, bundled: bool, check_mode: bool) -> bool:
    """Have a Python on a host; returns whether it was brought. Raises PackageError, and what the link raises.

    Args:
        host: where to
        version: such as 3.13, or exactly 3.13.1; a path is one that the host has, and nothing is done
        bundled: whether the run takes everything from a bundle, in which there is none
        check_mode: nothing is fetched and sent
    """
    if "/" in version:
        return False
    if not _VERSION.fullmatch(version):
        raise PackageError(f"fastapi_package_python is {version!r}; write a path on the hosts, or a version like 3.13")
    seen = host.call("machine", python=version)
    if seen["there"]:
        return False
    if bundled:
        raise PackageError(
            f"the hosts have no Python {version} of uv's, and a bundle has none; name a path in "
            "fastapi_package_python, or provision once without the bundle"
        )
    if check_mode:
        return True
    found = fetched(version, str(seen["machine"]))
    with tempfile.TemporaryDirectory(prefix="slipway-") as directory:
        archive = Path(directory) / "python.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(found, arcname=".", filter=_of_root)
        host.call_with(archive, "python", python=version)
    return True


def fetched(version: str, machine: str) -> Path:
    """The directory of a Python in the controller's cache, for Linux with glibc. Raises PackageError."""
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    cache = Path(home) / "slipway" / "pythons"
    cache.mkdir(parents=True, exist_ok=True, mode=0o700)
    wanted = f"cpython-{version}-linux-{machine}-gnu"
    with open(cache / "lock", "w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        if not (there := _in(cache, version, machine)):
            _install(cache, wanted)
            there = _in(cache, version, machine)
    if not there:
        raise PackageError(f"uv installed {wanted}, and it is not in {cache}; remove that directory and try again")
    return there


def _in(cache: Path, version: str, machine: str) -> Path | None:
    """The newest Python of a version; uv has a link beside the directory of each."""
    exact = re.compile(rf"cpython-{re.escape(version)}(\.\d+)*-linux-{re.escape(machine)}-gnu")
    found = [path for path in cache.iterdir() if exact.fullmatch(path.name) and path.is_dir() and not path.is_symlink()]
    return max(found, key=lambda path: [int(part) for part in re.findall(r"\d+", path.name)], default=None)


def _install(cache: Path, wanted: str) -> None:
    uv = program_named("uv")
    if not uv:
        raise PackageError(
            f"{wanted} is fetched by uv, which the controller has not; install it there (`pip install uv`)"
        )
    words = [uv, "python", "install", "--no-bin", "--install-dir", str(cache), wanted]
    try:
        ran = command.run(words, LIMIT)
    except command.CommandError as error:
        raise PackageError(f"{uv} of the controller does not start, so {wanted} is not fetched") from error
    if ran.returncode:
        raise PackageError(
            f"uv could not fetch {wanted}: {' '.join(ran.said.split())[-800:]}; let the controller reach where uv "
            "takes it from, name a mirror (UV_PYTHON_INSTALL_MIRROR), or name a Python that the hosts have by its path"
        )


def _of_root(item: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """As it lies on a host: of root, without bytecode, which a release's virtual environment does without."""
    if item.name.endswith(".pyc"):
        return None
    item.uid = item.gid = 0
    item.uname = item.gname = "root"
    return item
