"""`python3 -m bench.image` compares this repository's image with the one of the usual tutorial, in one run.

The tutorial's image has two stages and `pip install --user`, and starts 2n + 1 workers with Gunicorn's defaults. Both
are built from the same base and the same application, with the builder that `docker build` has. Needs Docker; prints
the table that is in docs/image.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.docker import ROOT, build, docker, environment, first_answer, layers, size

PORT = 18999
LOCK = "requirements/app.lock"
TUTORIAL = """
ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS build
WORKDIR /app
COPY requirements/app.lock .
RUN pip install --user --no-cache-dir --break-system-packages -r app.lock
FROM ${BASE_IMAGE}
WORKDIR /app
COPY --from=build /root/.local /root/.local
COPY app ./app
ENV PATH=/root/.local/bin:$PATH
CMD ["gunicorn", "-k", "uvicorn_worker.UvicornWorker", "-w", "WORKERS", "-b", "0.0.0.0:8000", \\
     "--access-logfile", "-", "app.main:app"]
"""
ENVIRONMENT = {
    "DATABASE_URL": "postgresql+asyncpg://shortlinks@127.0.0.1:1/shortlinks",
    "DATABASE_PASSWORD": "not-needed-for-livez",
    "SECRET_KEY": "not-needed-for-livez",
}


@dataclass
class Figures:
    """What is known of one image: bytes, and seconds."""

    total: int
    added: int
    cold: float
    after_dependency: float = 0
    after_code: float = 0
    moved: list[int] = field(default_factory=list)
    """Sizes of the layers that a change of code replaces."""
    starts: list[float] = field(default_factory=list)

    @property
    def start(self) -> float:
        return statistics.median(self.starts)


def start_to_answer(tag: str) -> float:
    """Seconds from `docker run` to the first 200 of /livez."""
    begin = time.monotonic()
    published = ["--publish", f"127.0.0.1:{PORT}:8000"]
    container = docker("run", "--detach", "--rm", *published, *environment(ENVIRONMENT), tag)
    try:
        return first_answer(f"http://127.0.0.1:{PORT}/livez", container, begin)
    finally:
        docker("rm", "--force", container)


def prepare(context: Path, dockerfile: str | None) -> None:
    """Copy what an image is built from; without `dockerfile` this repository's own is taken."""
    shutil.copytree(ROOT / "app", context / "app", ignore=shutil.ignore_patterns("__pycache__"))
    for path in ("alembic.ini", "gunicorn_conf.py", ".dockerignore", "Dockerfile", LOCK):
        (context / path).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / path, context / path)
    if dockerfile:
        (context / "Dockerfile").write_text(dockerfile)


def append(path: Path) -> None:
    with path.open("a") as file:
        file.write("\n# changed\n")


def measure(context: Path, base: str, tag: str) -> Figures:
    """Build three times: with nothing cached, with a changed list of packages, with changed code."""
    cold = build(context, base, tag, "--no-cache")
    found = Figures(total=size(tag), added=size(tag) - size(base), cold=cold)
    append(context / LOCK)
    found.after_dependency = build(context, base, tag)
    before = layers(tag)
    append(context / "app" / "__init__.py")
    found.after_code = build(context, base, tag)
    found.moved = [length for digest, length in layers(tag).items() if digest not in before]
    return found


def table(ours: Figures, theirs: Figures) -> str:
    """The table, in Markdown."""

    def row(title: str, our: float, their: float, digits: int) -> str:
        return f"| {title} | {our:.{digits}f} | {their:.{digits}f} | {our / their:.2f} |"

    return "\n".join(
        [
            "| figure | this image | tutorial's image | ratio |",
            "| --- | --- | --- | --- |",
            row("size, MB", ours.total / 1e6, theirs.total / 1e6, 0),
            row("added to the base image, MB", ours.added / 1e6, theirs.added / 1e6, 0),
            row("start to first 200, s", ours.start, theirs.start, 2),
            row("layers that a change of code moves", len(ours.moved), len(theirs.moved), 0),
            row("moved by a change of code, MB", sum(ours.moved) / 1e6, sum(theirs.moved) / 1e6, 2),
            row("build with nothing cached, s", ours.cold, theirs.cold, 0),
            row("rebuild after a change of packages, s", ours.after_dependency, theirs.after_dependency, 0),
            row("rebuild after a change of code, s", ours.after_code, theirs.after_code, 1),
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python3 -m bench.image", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("base_image", nargs="?", default="slipway.lab/python:3.13")
    parser.add_argument("--cpus", type=int, default=os.cpu_count() or 1, help="n of the tutorial's 2n + 1 workers")
    parser.add_argument("--runs", type=int, default=7, help="starts of each image; the median counts")
    options = parser.parse_args(arguments)
    tutorial = TUTORIAL.replace("WORKERS", str(2 * options.cpus + 1))
    figures = {}
    with tempfile.TemporaryDirectory() as directory:
        for name, dockerfile in (("slipway", None), ("tutorial", tutorial)):
            context = Path(directory, name)
            prepare(context, dockerfile)
            figures[name] = measure(context, options.base_image, f"bench/{name}")
    for _ in range(options.runs):
        for name, found in figures.items():
            found.starts.append(start_to_answer(f"bench/{name}"))
    print(table(figures["slipway"], figures["tutorial"]))


if __name__ == "__main__":
    main()
