# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Modules that are packed once for many runs of ansible-playbook.

For each module Ansible reads all that it imports and makes an archive of it, which costs a fifth of a second of the
controller's processor: with twenty modules, half of what the tasks of a provisioning take there. It keeps the archives
in a directory of the run (ansible.executor.module_common). Here that directory is one of many runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import ansible
from ansible import constants
from ansible.utils.collection_loader._collection_finder import _get_collection_path
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.compiling import is_our_own

COLLECTION = Path(__file__).resolve().parents[3]
OURS = "slipway.fleet"
# From where else modules come that our playbooks use.
OTHERS = ("community.docker",)
# As Ansible calls it, in the directory that it makes for a run.
ARCHIVES = "ansiballz_cache"
# Seconds after which archives of other versions go; longer than any run takes.
KEPT = 3 * 24 * 3600
# Its locks there, and what another run writes just now and then renames.
UNFINISHED = (".lock", "-part")
# With which each archive ends that was written whole (pickle's STOP).
END = b"."


def keep_packed(playbooks: Sequence[str]) -> None:
    """Have Ansible find the archives of runs before this one, and leave those that it makes for the next.

    Only where all that runs are playbooks of this collection: the roles of others may have modules with Ansible's own
    names, which Ansible keeps under these names, too. Where it cannot be done, modules are packed as ever.

    Args:
        playbooks: as they were given to ansible-playbook
    """
    archives = Path(constants.DEFAULT_LOCAL_TMP, ARCHIVES)
    if not playbooks or not all(map(is_ours, playbooks)) or archives.exists():
        return
    with contextlib.suppress(OSError, ValueError):
        kept = Path(constants.ANSIBLE_HOME, "slipway", f"modules-{signature()}")
        kept.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not all(is_our_own(path) for path in (kept.parent, kept)):
            return
        os.utime(kept)
        for earlier in kept.parent.glob("modules-*"):
            if time.time() - earlier.stat().st_mtime > KEPT:
                discard(earlier)
        for archive in kept.iterdir():
            if not archive.name.endswith(UNFINISHED) and not is_whole(archive):
                archive.unlink()
        archives.symlink_to(kept)


def is_ours(playbook: str) -> bool:
    """Whether a playbook, by its path or its name, is one of this collection's."""
    path = Path(playbook).resolve()
    return playbook.startswith(f"{OURS}.") or (path.is_file() and path.is_relative_to(COLLECTION))


def is_whole(archive: Path) -> bool:
    """Whether all of it was written; after a loss of power it may not be."""
    with archive.open("rb") as stream:
        if not stream.seek(0, os.SEEK_END):
            return False
        stream.seek(-len(END), os.SEEK_END)
        return stream.read() == END


def discard(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()
    directory.rmdir()


def signature() -> str:
    """Another one whenever an archive could become another one: by versions, and size and time of all files."""
    others = [Path(_get_collection_path(name), "plugins") for name in OTHERS]
    plugins = [COLLECTION / "plugins", *others]
    places = [
        *(place / kind for place in plugins for kind in ("modules", "module_utils")),
        *map(Path, [*constants.DEFAULT_MODULE_PATH, *constants.DEFAULT_MODULE_UTILS_PATH]),
    ]
    made_of = [sys.version, ansible.__version__, *looks([Path(ansible.__file__)]), *looks(files(places))]
    return hashlib.sha256("\0".join(made_of).encode()).hexdigest()[:16]


def files(places: Iterable[Path]) -> Iterator[Path]:
    for place in places:
        yield from sorted(place.rglob("*.py"))


def looks(paths: Iterable[Path]) -> Iterator[str]:
    for path in paths:
        found = path.stat()
        yield f"{path} {found.st_size} {found.st_mtime_ns}"
