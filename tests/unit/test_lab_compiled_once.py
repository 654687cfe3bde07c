"""A host of the lab compiles each file of Ansible's archives once, and runs what they contain."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from lab.recipes import CONTEXTS

# Compiling counts: each line is a file that zipimport itself compiled.
RUN = """
import os, sys, zipimport
plain = zipimport._compile_source
def told(path, *more):
    print("compiled", os.path.basename(path))
    return plain(path, *more)
zipimport._compile_source = told
os.geteuid = lambda: {user}
sys.path.insert(0, {where!r})
import compiled_once
compiled_once.KEPT = {kept!r}
sys.path.insert(0, {archive!r})
import one
print(one.VALUE)
"""


def archive(path: Path, source: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("one.py", source)
    return path


def run(archive: Path, kept: Path, user: int = 0) -> list[str]:
    program = RUN.format(user=user, where=str(CONTEXTS / "host"), kept=str(kept), archive=str(archive))
    return subprocess.check_output([sys.executable, "-B", "-c", program], text=True).splitlines()


def test_a_source_is_compiled_once_whatever_archive_it_comes_in(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    assert run(archive(tmp_path / "a.zip", "VALUE = 1\n"), kept) == ["compiled one.py", "1"]
    assert run(archive(tmp_path / "b.zip", "VALUE = 1\n"), kept) == ["1"]
    assert [path.name.count(".") for path in kept.iterdir()] == [0]


def test_another_source_of_the_same_name_is_another(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    run(archive(tmp_path / "a.zip", "VALUE = 1\n"), kept)
    assert run(archive(tmp_path / "a.zip", "VALUE = 2\n"), kept) == ["compiled one.py", "2"]


def test_what_is_kept_comes_from_root_and_a_damaged_file_is_made_again(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    source = archive(tmp_path / "a.zip", "VALUE = 1\n")
    run(source, kept, user=1000)
    assert not kept.exists()
    run(source, kept)
    for path in kept.iterdir():
        path.write_bytes(path.read_bytes()[:9])
    assert run(source, kept) == ["compiled one.py", "1"]
    assert run(source, kept, user=1000) == ["1"]
