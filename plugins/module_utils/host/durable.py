"""Files that a crash leaves whole: the old content or the new one. Every write is fsync + rename."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Optional, Union

from .errors import Damaged
from .reading import object_of


def older(paths: Iterable[Path], kept: int) -> list[Path]:
    """All but the `kept` ones that were changed last; what another process removes meanwhile is not among them."""
    ages = []
    for path in paths:
        with suppress(FileNotFoundError):
            ages.append((path.stat().st_mtime, path))
    return [path for _, path in sorted(ages)[: max(len(ages) - kept, 0)]]


def write_durably(path: Path, text: Union[str, bytes], mode: int = 0o644) -> None:
    """Put `text` under `path` so that a crash leaves the old file or the new one, never a part."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        kind, encoding = ("wb", None) if isinstance(text, bytes) else ("w", "utf-8")
        with os.fdopen(descriptor, kind, encoding=encoding) as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_directory(path.parent)


def make_public(directory: Path) -> None:
    """Have a directory, and its parents, that every user of the host can go through, whatever umask there is."""
    for path in reversed([path for path in (directory, *directory.parents) if not path.exists()]):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path) -> Optional[dict[str, Any]]:
    """The object in `path`, None where there is no such file. Raises Damaged that names the file."""
    try:
        return object_of(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise Damaged(f"{path} is damaged ({error}); move it away and deploy again") from error
