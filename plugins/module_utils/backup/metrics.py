"""What monitoring reads of a host's backups: a file for the textfile collector of a node exporter, where there is one.

Its format: prometheus.io/docs/instrumenting/exposition_formats. Times are seconds since 1970, 0 for what was never.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from ..host.durable import read_json, write_durably
from ..host.errors import Damaged
from .model import CONFIG

# Debian's package prometheus-node-exporter reads what is here.
FILE = Path("/var/lib/prometheus/node-exporter/slipway_backup.prom")


def tell(place: Path, file: Path = FILE, config: Path = CONFIG, ended: bool = False) -> None:
    """Write what the records in a host's directory of backups say now, where somebody reads it. Raises nothing.

    Nothing of a log that is not kept any more, though its records stay: `ended` where the configuration is about to be.
    """
    if file.parent.is_dir():
        log = _read(place / "wal.json") if _read(config).get("wal") and not ended else {}
        with suppress(OSError):
            write_durably(file, metrics(_read(place / "state.json"), log), mode=0o644)


def metrics(sets: Mapping[str, Any], log: Mapping[str, Any]) -> str:
    """The text, of what is known of sets and of the write-ahead log; without any, no line of that."""
    newest, proven, error = (sets.get(name) or {} for name in ("newest", "proven", "error"))
    lines = [
        *_gauge("newest_seconds", "When the newest set was made.", _seconds(newest.get("time"))),
        *_gauge("newest_bytes", "What it has, as it is restored.", newest.get("bytes") or 0),
        *_gauge("added_bytes", "What it added to the repository.", newest.get("added") or 0),
        *_gauge("proven_seconds", "When the newest proven set was made.", _seconds(proven.get("time"))),
        *_gauge("restore_seconds", "How long the drill of that took.", proven.get("seconds") or 0),
        *_gauge("release_proven", "Whether a release passed its gate on that set.", int(_released(proven))),
        *_gauge("failed", "Whether the last backup, drill or restore failed.", int(bool(error)), _labels(error)),
    ]
    if log:
        reached = log["reach"][-1][1] if log.get("based") and log.get("reach") else None
        lines += _gauge("point_seconds", "The newest point in time that can be reached.", _seconds(reached))
        lines += _gauge("base_failed", "Whether the last base could not be made.", int(bool(log.get("base_error"))))
    return "\n".join([*lines, ""])


def _gauge(name: str, about: str, value: float, labels: str = "") -> Iterator[str]:
    yield f"# HELP slipway_backup_{name} {about}"
    yield f"# TYPE slipway_backup_{name} gauge"
    yield f"slipway_backup_{name}{labels} {value}"


def _released(proven: Mapping[str, Any]) -> bool:
    """Whether there are releases that were started against a proven set, and none that could not be."""
    releases = proven.get("releases") or ()
    return bool(releases) and not any(one.get("unproven") for one in releases)


def _labels(error: Mapping[str, Any]) -> str:
    """What failed, and by which fault; their words are this program's own."""
    return "{" + ",".join(f"{name}={json.dumps(str(error[name]))}" for name in ("what", "fault")) + "}" if error else ""


def _seconds(moment: Any) -> int:
    try:
        return int(datetime.fromisoformat(str(moment).replace("Z", "+00:00")).timestamp())
    except ValueError:
        return 0


def _read(file: Path) -> Mapping[str, Any]:
    try:
        return read_json(file) or {}
    except (Damaged, OSError):
        return {}
