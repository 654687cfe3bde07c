"""`python3 -m bench.image BASE_IMAGE` compares this repository's image with the one of the usual tutorial, in one run.

The tutorial's image has two stages and `pip install --user`, and starts 2n + 1 workers with Gunicorn's defaults. Both
are built from the same base and the same application. Needs Docker; prints the table that is in docs/image.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PORT = 18999
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


def docker(*arguments: str) -> str:
    result = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"docker {arguments[0]} failed:\n{result.stderr[-2000:]}")
    return result.stdout.strip()


def build(context: Path, base: str, tag: str) -> float:
    """Seconds of a build."""
    begin = time.monotonic()
    docker("build", "--quiet", "--tag", tag, "--build-arg", f"BASE_IMAGE={base}", str(context))
    return time.monotonic() - begin


def layers(tag: str) -> list[str]:
    return list(json.loads(docker("image", "inspect", tag))[0]["RootFS"]["Layers"])


def size(tag: str) -> int:
    return int(json.loads(docker("image", "inspect", tag))[0]["Size"])


def start_to_answer(tag: str) -> float:
    """Seconds from `docker run` to the first 200 of /livez."""
    environment = [part for name, value in ENVIRONMENT.items() for part in ("--env", f"{name}={value}")]
    begin = time.monotonic()
    container = docker("run", "--detach", "--rm", "--publish", f"127.0.0.1:{PORT}:8000", *environment, tag)
    try:
        while time.monotonic() - begin < 60:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/livez", timeout=2):
                    return time.monotonic() - begin
            except OSError:
                time.sleep(0.02)
        raise SystemExit(f"{tag} did not answer within 60 s:\n{docker('logs', container)[-2000:]}")
    finally:
        docker("rm", "--force", container)


def measure(base: str, workers: int, runs: int) -> str:
    """The table, in Markdown."""
    rows = {}
    with tempfile.TemporaryDirectory() as directory:
        for name in ("slipway", "tutorial"):
            context = Path(directory) / name
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / "app", context / "app", ignore=ignored)
            for path in ("gunicorn_conf.py", ".dockerignore", "Dockerfile", "requirements/app.lock"):
                (context / path).parent.mkdir(exist_ok=True)
                shutil.copy(ROOT / path, context / path)
            if name == "tutorial":
                (context / "Dockerfile").write_text(TUTORIAL.replace("WORKERS", str(2 * workers + 1)))
            tag = f"bench/{name}"
            build(context, base, tag)
            before, added = layers(tag), size(tag) - size(base)
            (context / "app" / "__init__.py").open("a").write("\n# changed\n")
            rebuild = build(context, base, tag)
            moved = len([layer for layer in layers(tag) if layer not in before])
            rows[name] = [added, rebuild, moved]
        starts: dict[str, list[float]] = {name: [] for name in rows}
        for _ in range(runs):
            for name, found in starts.items():
                found.append(start_to_answer(f"bench/{name}"))
    (ours, our_rebuild, our_moved), (theirs, their_rebuild, their_moved) = rows["slipway"], rows["tutorial"]
    our_start, their_start = (statistics.median(starts[name]) for name in ("slipway", "tutorial"))
    return f"""\
| figure | this image | tutorial's image | ratio |
| --- | --- | --- | --- |
| added to the base image, MB | {ours / 1e6:.0f} | {theirs / 1e6:.0f} | {ours / theirs:.2f} |
| layers that a change of code moves | {our_moved} | {their_moved} | |
| rebuild after a change of code, s | {our_rebuild:.1f} | {their_rebuild:.1f} | {our_rebuild / their_rebuild:.2f} |
| start to first 200, s, median of {runs} | {our_start:.2f} | {their_start:.2f} | {our_start / their_start:.2f} |"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python3 -m bench.image", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("base_image")
    parser.add_argument("--cpus", type=int, default=2, help="n of the tutorial's 2n + 1 workers")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args(arguments)
    print(measure(options.base_image, options.cpus, options.runs))


if __name__ == "__main__":
    main()
