# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The probe as a process of its own on the controller: started, found again, stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.probe import client


@dataclass(frozen=True)
class Files:
    """Where the probe of one run writes its samples, and where stands which process it is."""

    samples: Path
    note: Path

    @classmethod
    def of(cls, directory: Path, run: str) -> Files:
        name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in run)
        return cls(directory / f".probe-{name}.jsonl", directory / f".probe-{name}.json")


def start(settings: Mapping[str, Any], files: Files, watch: tuple[int, str]) -> int:
    """Start the probe in a session of its own, so that Ctrl-C does not reach it; returns its process id.

    It ends by itself when the process to `watch` (id, start) has. Raises ValueError and OSError for settings that
    cannot be used.
    """
    known = {**settings, "samples": str(files.samples.absolute()), "watch": [watch]}
    client.Settings(**known).targets()
    files.samples.parent.mkdir(parents=True, exist_ok=True)
    files.samples.unlink(missing_ok=True)
    process = subprocess.Popen(
        [sys.executable, "-I", client.__file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps(known).encode())
    process.stdin.close()
    note = {"pid": process.pid, "since": client.started(process.pid), "timeout": settings["timeout"]}
    files.note.write_text(json.dumps(note) + "\n", encoding="utf-8")
    return process.pid


def running(files: Files) -> bool:
    """Whether the probe of this run was started and has not ended."""
    if not files.note.exists():
        return False
    known = json.loads(files.note.read_text(encoding="utf-8"))
    return client.alive(int(known["pid"]), str(known["since"]))


def stop(files: Files, served: Collection[int] = ()) -> dict[str, Any]:
    """End the probe, once its requests in flight are answered; returns the summary, empty where nothing was asked.

    `served` are the edges that served before, by their places among the URLs.
    """
    if files.note.exists():
        known = json.loads(files.note.read_text(encoding="utf-8"))
        _end(int(known["pid"]), str(known["since"]), float(known["timeout"]) + 2)
        files.note.unlink()
    if not files.samples.exists():
        return {}
    found, ended = client.read_samples(files.samples)
    return {**client.summarize(found, served), "ended": ended}


def _end(pid: int, since: str, patience: float) -> None:
    """One that has ended already is no error."""
    if client.alive(pid, since):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while client.alive(pid, since):
        _reap(pid)
        if time.monotonic() > deadline:
            os.kill(pid, signal.SIGKILL)
            deadline += 2
        time.sleep(0.05)


def _reap(pid: int) -> None:
    """A child of this very process would stay as a zombie."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
