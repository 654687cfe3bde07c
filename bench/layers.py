"""`python3 -m bench.layers FIRST SECOND` measures what a change of code costs the controller, before anything is sent.

FIRST and SECOND are images of the Docker here; SECOND has one layer that FIRST has not. Measured, in turn and in one
run: taking that layer out of Docker's storage and by `docker save`, and the inventory for the bill of materials layer
by layer and by `docker export`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ansible.plugins.loader import init_plugin_loader

ROOT = Path(__file__).resolve().parents[1]
init_plugin_loader([str(ROOT / ".collections")])

from ansible_collections.slipway.fleet.plugins.module_utils.image import (  # noqa: E402 - the path is set above
    inventory,
    layers,
)
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import (  # noqa: E402 - the path is set above
    Image,
    docker,
    find,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.image import sbom  # noqa: E402 - the path is set above
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.layers import (  # noqa: E402 - the path is set above
    LayerCache,
)


def present(name: str) -> Image:
    image = find(name)
    if image is None:
        raise SystemExit(f"the Docker here has no image {name}")
    return image


def by_docker(image: Image, layer: str, into: Path) -> None:
    archive = into / "image.tar"
    docker("save", "--output", str(archive), image.id, timeout=1800)
    layers.unpack_save(archive, into, [layer])


def by_layers(image: Image, layer: str) -> None:
    sbom.file_of(layer).unlink(missing_ok=True)
    saved = LayerCache().saved(image.id)
    if saved is None or sbom.of_layers(saved, None) is None:
        raise SystemExit(f"a layer of {image.id} is not in the cache")


def measure(first: Image, second: Image, rounds: int) -> dict[str, list[float]]:
    """Seconds of each, in turn."""
    [layer] = layers.lacking(second.layers, layers.chain_ids(first.layers))
    LayerCache().take(first, first.layers)
    LayerCache().take(second, [layer])
    by_layers(second, layer)
    found: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[[Path], object]) -> None:
        with tempfile.TemporaryDirectory(dir=os.environ["XDG_CACHE_HOME"]) as directory:
            begin = time.monotonic()
            work(Path(directory))
            found.setdefault(name, []).append(time.monotonic() - begin)

    for _ in range(rounds):
        timed("the layer by `docker save`", lambda into: by_docker(second, layer, into))
        timed("the layer out of the storage", lambda into: layers.save(second.id, into, [layer]))
        timed("the inventory by `docker export`", lambda _: inventory.take(second.id))
        timed("the inventory by layers", lambda _: by_layers(second, layer))
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python3 -m bench.layers", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("first")
    parser.add_argument("second")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args(arguments)
    directory = tempfile.mkdtemp(prefix="slipway-bench-")
    os.environ["XDG_CACHE_HOME"] = directory
    try:
        found = measure(present(options.first), present(options.second), options.rounds)
    finally:
        shutil.rmtree(directory)
    print("| what | median, ms | least, ms | most, ms |\n| --- | ---: | ---: | ---: |")
    for name, seconds in found.items():
        figures = (1000 * figure for figure in (statistics.median(seconds), min(seconds), max(seconds)))
        print(f"| {name} | {' | '.join(f'{figure:.0f}' for figure in figures)} |")


if __name__ == "__main__":
    main()
