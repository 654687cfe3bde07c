# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What is asked of a package: checked once, where it comes in, and typed from there on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import PackageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.options import OptionError, typed
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.source import PackageSource


@dataclass(frozen=True)
class PackageRequest:
    """The package of one app. The names are those of the role's variables without its prefix.

    This is where defaults stand; argument specification and documentation are held to it by a test.
    """

    app: str
    root: Path  # of the app, on hosts
    source: Path
    files: tuple[str, ...] = ()  # found by name
    lock: str = ""  # found
    project: str = "found"  # whether it is installed itself
    extras: tuple[str, ...] = ()
    python: str = "/usr/bin/python3"
    wheels: Path | None = None
    ca_file: Path | None = None
    bundle: Path | None = None  # then no index is asked
    sbom: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> PackageRequest:
        """From a task's options. Raises PackageError that names the role's variable."""
        try:
            return typed(cls, options, "fastapi_package")
        except OptionError as error:
            raise PackageError(str(error)) from error

    def content(self) -> PackageSource:
        """What it is made from. Raises PackageError that names what is not there."""
        return PackageSource(self.source, self.files, self.lock, self.project, self.extras)

    @property
    def place(self) -> dict[str, str]:
        """The options with which a host is asked."""
        return {"root": str(self.root), "python": self.python}
