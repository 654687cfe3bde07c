"""Pins the images that this repository builds on to what their tags stand for now: `python3 -m tools.base_images`.

Each `name:tag` in the files below becomes `name:tag@sha256:...`, with the digest that its registry tells; run again, it
follows the tag to its next digest. Without a digest a rebuild may silently get another base. Other files are named as
arguments: `python3 -m tools.base_images ../my-app/Dockerfile`.

With --check nothing is written, and the exit code is 1 where a tag has moved on. A registry with a login takes it from
REGISTRY_USER and REGISTRY_PASSWORD in the environment, and --ca-file names authorities to trust besides the system's.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
# The committed link through which this checkout is the collection.
sys.path.append(str(ROOT / ".collections"))

from ansible_collections.slipway.fleet.plugins.module_utils.image import registry  # noqa: E402 - the path is set above

if TYPE_CHECKING:
    from ansible_collections.slipway.fleet.plugins.module_utils.image.registry import Login

FILES = (
    "Dockerfile",
    "compose.yaml",
    "roles/*/defaults/main.yml",
    "roles/*/meta/argument_specs.yml",
    "roles/*/README.md",
    "inventories/*/group_vars/data/*.yml",
)
# Where a file names an image that something is built on or started from.
_NAMED = re.compile(
    r"""
    ^ARG\ +\w*IMAGE=(?P<argument>[^\s$]+)
    | ^FROM\ +(?:--platform=\S+\ +)?(?P<base>[^\s$]+)
    | \$\{\w*IMAGE:-(?P<default>[^}\s$]+)\}
    | ^\s*(?:\w+_)?image:\ +["']?(?P<key>[^\s$"'{]+)
    """,
    re.MULTILINE | re.VERBOSE,
)
# Made on the user's own machine, so in no registry.
_LOCAL = ("slipway.lab/", "slipway/")

Resolve = Callable[[str], str]


def named(text: str) -> set[str]:
    """Images with a tag that a file is built on: `name:tag`, without the digest that may follow."""
    found = set()
    for match in _NAMED.finditer(text):
        name = next(value for value in match.groups() if value)
        tagged = name.partition("@")[0]
        if ":" in tagged.rpartition("/")[2] and not tagged.startswith(_LOCAL):
            found.add(tagged)
    return found


def digests(text: str, image: str) -> set[str]:
    """What an image is pinned to in a file; an empty text for a place where it is not."""
    return {match["digest"] or "" for match in _places(image).finditer(text)}


def pinned(text: str, wanted: Mapping[str, str]) -> str:
    """The file with each of these images at its digest, wherever the file names it."""
    for image, digest in wanted.items():
        text = _places(image).sub(f"{image}@{digest}", text)
    return text


def _places(image: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w./])(?<!\w-){re.escape(image)}(?:@(?P<digest>sha256:[0-9a-f]{{64}}))?(?![\w.@-])")


def update(paths: Iterable[Path], resolve: Resolve, *, check: bool = False) -> bool:
    """Pin all images of these files, tell about each, and return whether one had moved on.

    Args:
        paths: the files
        resolve: gives the digest of `name:tag`
        check: write nothing
    """
    texts = {path: path.read_text(encoding="utf-8") for path in paths}
    images = sorted({image for text in texts.values() for image in named(text)})
    wanted = {image: resolve(image) for image in images}
    moved = False
    for image, digest in wanted.items():
        before = {old for text in texts.values() for old in digests(text, image)}
        if before == {digest}:
            print(f"{image}  {digest}  unchanged")
            continue
        moved = True
        for old in sorted(before - {digest}):
            print(f"{image}  {old or 'no digest'} -> {digest}")
    for path, text in texts.items():
        if not check and (new := pinned(text, wanted)) != text:
            path.write_text(new, encoding="utf-8")
            print(f"written: {path}")
    return moved


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python3 -m tools.base_images", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("files", nargs="*", type=Path, help="instead of this repository's own")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where a tag has moved on")
    parser.add_argument("--ca-file", default="", help="authorities of the registry, PEM")
    options = parser.parse_args(arguments)
    paths = options.files or [path for pattern in FILES for path in sorted(ROOT.glob(pattern))]
    try:
        login = registry.Login(
            os.environ.get("REGISTRY_USER", ""),
            os.environ.get("REGISTRY_PASSWORD", ""),
            registry.authorities(options.ca_file),
        )
        moved = update(paths, lambda image: _digest(image, login), check=options.check)
    except (registry.RegistryError, OSError) as error:
        print(f"nothing was written; {error}", file=sys.stderr)
        return 2
    return int(moved and options.check)


def _digest(image: str, login: Login) -> str:
    return registry.Registry(registry.parse(image), login, "this machine").resolve().digest


if __name__ == "__main__":
    sys.exit(main())
