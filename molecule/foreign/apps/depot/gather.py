"""Copies the Python that runs this, with all that it loads, into a directory that becomes the root of an image."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

root = Path(sys.argv[1])
binary = os.path.realpath(sys.executable)
library = sysconfig.get_path("stdlib")


def copy(path: str) -> None:
    target = root / path.lstrip("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy2(path, target)


copy(binary)
shutil.copytree(library, root / library.lstrip("/"), ignore=shutil.ignore_patterns("test"))
for loaded in [binary, *map(str, Path(library).glob("lib-dynload/*.so")), *map(str, Path("/srv").rglob("*.so"))]:
    told = subprocess.run(["ldd", loaded], capture_output=True, text=True, check=False).stdout
    for library_of_it in re.findall(r"(/\S+) \(0x", told):
        copy(library_of_it)
(root / "usr/bin").mkdir(parents=True, exist_ok=True)
if not (root / "usr/bin/python3").exists():
    (root / "usr/bin/python3").symlink_to(binary)
