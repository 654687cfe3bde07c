"""One tree for everything that goes wrong on a host and has a sentence for people.

    SlipwayError                  kind
      TransactionError            release   the new release was refused
      Held                        held      somebody else has the lease, or the app is frozen
      Fenced                      fenced    this run lost the lease, or another release serves than was expected
      Busy                        busy      another transaction of this app is under way
      EdgeError                   failed    HAProxy did not do what it was told
      RuntimeFailed               failed    Docker or systemd did not
      Damaged                     failed    a record cannot be read
      Lost                        failed    a detached process ended without an answer
      BackupError, TreeError, PackagesError, PackageError, ImageError, RegistryError, CommandError, OrderFailed,
      UnderWay; on the controller BundleError, SignatureError, SbomError

The kinds are those of `Refused` in plugins/plugin_utils/fleet/parts.py: an error crosses the channel as its kind, its
text and its details.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

FAILED, HELD, FENCED, BUSY, RELEASE = "failed", "held", "fenced", "busy", "release"


class SlipwayError(Exception):
    """A host did not do what it was asked; the text says what is wrong, where, and what to do next.

    `details` is what the host tells besides, as JSON has it: cause, evidence, phases, problems, seconds.
    """

    kind = FAILED

    def __init__(self, message: str, details: Optional[Mapping[str, Any]] = None, kind: Optional[str] = None) -> None:
        super().__init__(message)
        self.details = dict(details or {})
        if kind is not None:
            self.kind = kind


class Fenced(SlipwayError):
    """This run may not change the app any more: it lost its lease, or something else serves than it was told."""

    kind = FENCED


class Damaged(SlipwayError, ValueError):
    """A record of the host cannot be read; the text names the file."""
