"""cosign for tests: the one on PATH, else Debian's package, fetched from this machine's mirror and unpacked."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from lab import sources
from lab.shell import LabError, run

# The first Debian that has it. It needs nothing but a C library, so it runs on the Debian before as well.
_SUITE = "trixie"


def ensure(directory: Path) -> Path:
    """Return the program.

    Args:
        directory: where it is unpacked; what is there already is taken as it is

    Raises:
        LabError: this machine has none and is no Debian
    """
    if installed := shutil.which("cosign"):
        return Path(installed)
    program = directory / "usr/bin/cosign"
    if not program.exists():
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            raise LabError("There is no cosign here, and no apt to fetch it with; install it, it is a single program.")
        directory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=directory.parent, prefix="cosign-") as scratch:
            _unpack(Path(scratch))
            shutil.rmtree(directory, ignore_errors=True)
            (Path(scratch) / "root").rename(directory)
    return program


def _unpack(scratch: Path) -> None:
    """Fetch the package into a directory, past apt's own state, and unpack it into `root` there."""
    mirror = sources.of_this_machine().main
    (scratch / "lists/partial").mkdir(parents=True)
    (scratch / "sources.list").write_text(f"deb [signed-by={sources.KEYRING}] {mirror} {_SUITE} main\n")
    options = [
        part
        for name, value in {
            "Dir::Etc::SourceList": scratch / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": scratch / "lists",
            "Dir::State::Status": "/dev/null",
            "Dir::Cache": scratch / "cache",
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
        }.items()
        for part in ("-o", f"{name}={value}")
    ]
    run("apt-get", *options, "-qq", "update", timeout=300)
    # apt-get puts what it downloads where it is called from.
    run(
        "sh",
        "-euc",
        'cd "$1"; shift; exec "$@"',
        "fetch",
        str(scratch),
        "apt-get",
        *options,
        "-qq",
        "download",
        "cosign",
    )
    package = next(scratch.glob("cosign_*.deb"))
    run("dpkg-deb", "--extract", str(package), str(scratch / "root"))
