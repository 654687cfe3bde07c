# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What plugins are made of. Imported first, it has Python keep the compiled code of all that is imported after it.

Ansible's own loader of collections compiles every module anew in every run of ansible-playbook, and a deploy imports
some eighty: 0.2 s of the processor, a sixth of what it costs beside an empty play. Python's loader keeps the code in
`__pycache__` beside the source, where it may write there and nobody has set PYTHONDONTWRITEBYTECODE, and compiles as
Ansible does elsewhere.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path

_OURS = __name__.rpartition(".")[0] + "."


class KeptCode:
    """Finds the modules of this collection's plugins, which are files; packages and all others are found as before."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        if path and name.startswith(_OURS):
            for directory in path:
                file = Path(directory, f"{name.rpartition('.')[2]}.py")
                if file.is_file():
                    return spec_from_file_location(name, file)
        return None


sys.meta_path.insert(0, KeptCode)
