"""Keeps what Python compiles of archives that it imports from; `compiled_once.pth` loads it with the host's Python.

Ansible sends each module as such an archive, with some sixty files of its own that are the same for all, and Python
compiles them for each task anew: half the processor time of a task on a host. Hosts of the lab share the processors
of one machine and run thousands of tasks. Nothing else is different: what is run is compiled of the same source.

It is imported at every start of Python, so it takes from `os` what pathlib has, too.
"""

from __future__ import annotations

import marshal
import os
import sys
import zipimport
from _blake2 import blake2b
from types import CodeType

# In memory, so that a host's disk has nothing that the host of a user would not have.
KEPT = f"/run/slipway-lab/{sys.implementation.cache_tag}"
compile_source = zipimport._compile_source  # type: ignore[attr-defined]  # noqa: SLF001 - has no public hook


def compile_once(path: str, source: bytes, *more: object) -> CodeType:
    """Return the code of a source as zipimport does, with the path of whoever was first in its messages."""
    code: CodeType
    name = f"{KEPT}/{blake2b(source, digest_size=20).hexdigest()}"
    try:
        with open(name, "rb") as file:
            code = marshal.loads(file.read())  # noqa: S302 - root alone writes there
    except (OSError, EOFError, ValueError):
        code = compile_source(path, source, *more)
    else:
        return code
    # Only root keeps something, since everybody runs it.
    if os.geteuid() == 0:
        try:
            os.makedirs(KEPT, mode=0o755, exist_ok=True)  # noqa: PTH103 - see above
            written = f"{name}.{os.getpid()}"
            with open(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "wb") as file:
                file.write(marshal.dumps(code))
            os.rename(written, name)  # noqa: PTH104 - see above
        except OSError:
            pass
    return code


zipimport._compile_source = compile_once  # type: ignore[attr-defined]  # noqa: SLF001 - see above
