# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What a lock takes from a Git repository, a private one by the controller's SSH agent: a wheel that is built here.

The whole name of a commit is a hash of what is in it, so it stands for the hash that every other line has. Hosts get
the wheel as any other one, and know no repository.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from ansible_collections.slipway.fleet.plugins.module_utils.host import command
from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import PackageError
from packaging.utils import canonicalize_name, parse_wheel_filename

# Seconds for a clone and a build.
LIMIT = 900
_COMMIT = re.compile(r"git\+(?:ssh|https|file)://[^\s@]*(?:@[^\s@]+)*@[0-9a-f]{40}(?:#\S*)?")
# A line of requirements that names one, as PackageSource.requirements writes it.
_LINE = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])? @ (\S+)$")
# Without a terminal nobody answers, so git and ssh are to fail instead of asking.
_UNASKED = {"GIT_TERMINAL_PROMPT": "0", "SOURCE_DATE_EPOCH": "315532800"}
_BATCH = "ssh -o BatchMode=yes"


def names_commit(url: str) -> bool:
    """Whether it is a Git repository at a commit, by its whole name: 40 hexadecimal digits."""
    return bool(_COMMIT.fullmatch(url))


def split(requirements: str) -> tuple[str, list[tuple[str, str]]]:
    """The lines with hashes, and name and address of those that come from repositories."""
    lines = requirements.splitlines(keepends=True)
    taken = [(match[1], match[2]) for line in lines if (match := _LINE.match(line.strip()))]
    return "".join(line for line in lines if not _LINE.match(line.strip())), taken


def build(pip: Sequence[str], name: str, url: str, into: Path, own: Path | None, ca_file: Path | None) -> None:
    """Write the wheel of a repository into a directory. Raises PackageError.

    Args:
        pip: the words that start pip
        name: of the package
        url: as the lock has it
        into: the directory
        own: directory with wheels of one's own, that of a build backend among them
        ca_file: CA bundle for the index that pip is configured for
    """
    words = [*pip, "wheel", "--quiet", "--disable-pip-version-check", "--no-deps", "--no-cache-dir"]
    words += ["--ignore-requires-python", "--find-links", str(own)] if own else ["--ignore-requires-python"]
    words += ["--cert", str(ca_file)] if ca_file else []
    told = {"GIT_SSH_COMMAND": _BATCH} | os.environ | _UNASKED
    ran = command.run([*words, "--wheel-dir", str(into), f"{name} @ {url}"], LIMIT, told)
    if ran.returncode:
        raise PackageError(_without_users(f"{name} of the lock could not be built from {url}: {_why(ran.said)}"))
    wheel = wheel_of(name, into)
    if not wheel.name.endswith("-none-any.whl"):
        raise PackageError(
            f"{name} of the lock is built to {wheel.name}, which fits the controller and perhaps no host; build the "
            "wheel for the hosts, lock its version and hash, and name its directory with fastapi_package_wheels"
        )


def take(name: str, bundle: Path, into: Path) -> None:
    """Take the wheel from a bundle. Raises PackageError where it has not the one."""
    shutil.copy2(wheel_of(name, bundle), into)


def wheel_of(name: str, directory: Path) -> Path:
    """The one wheel of a package in a directory. Raises PackageError."""
    found = [path for path in sorted(directory.glob("*.whl")) if _is_of(name, path)]
    if len(found) != 1:
        raise PackageError(f"{directory} has {len(found) or 'no'} wheels of {name}, and must have one; make it again")
    return found[0]


def for_hosts(requirements: str, wheels: Sequence[tuple[Path, str]]) -> str:
    """The lines as a host installs them: each repository as the version and the hash of its wheel.

    Args:
        requirements: as PackageSource.requirements gives them
        wheels: each with its SHA-256
    """
    lines, taken = split(requirements)
    for name, _ in taken:
        path, digest = next((path, digest) for path, digest in wheels if _is_of(name, path))
        lines += f"{name}=={parse_wheel_filename(path.name)[1]} --hash=sha256:{digest}\n"
    return lines


def _is_of(name: str, path: Path) -> bool:
    return parse_wheel_filename(path.name)[0] == canonicalize_name(name)


def _without_users(said: str) -> str:
    """The same without whom its addresses name before their host: that may be a token."""
    return re.sub(r"://[^/@\s]+@", "://", said)


def _why(said: str) -> str:
    """What git, ssh or the build said, and what to do about it."""
    if "Permission denied (publickey" in said:
        agent = os.environ.get("SSH_AUTH_SOCK")
        has = "the controller's SSH agent has no key for it" if agent else "no SSH agent runs on the controller"
        return f"{has}; add one (`ssh-add`, after `eval $(ssh-agent)` where none runs) and run this again"
    if "Host key verification failed" in said:
        return "the controller does not know the host's key; put it into ~/.ssh/known_hosts (`ssh-keyscan`, compared)"
    return said[-2000:]
