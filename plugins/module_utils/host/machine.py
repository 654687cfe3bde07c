"""Which machine a host is, whatever names it has in an inventory."""

from __future__ import annotations

import os
from pathlib import Path

BOOT, ROOT = Path("/proc/sys/kernel/random/boot_id"), Path("/")


def machine(boot: Path = BOOT, root: Path = ROOT) -> str:
    """The same for two names of one host, another one for each host; empty where the host does not say.

    A boot's id tells kernels apart, those of cloned machines as well, whose /etc/machine-id may be the same; under one
    kernel containers have roots of their own. Copies of a running machine have both in common, and names of their own.
    """
    try:
        booted, found = boot.read_text(encoding="ascii").strip(), root.stat()
    except (OSError, UnicodeDecodeError):
        return ""
    return f"{booted} {found.st_dev}:{found.st_ino} {os.uname().nodename}" if booted else ""
