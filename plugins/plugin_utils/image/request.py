# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What is asked of an image: checked once, where it comes in, and typed from there on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.host.shown import Screen
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError
from ansible_collections.slipway.fleet.plugins.module_utils.image.ssh import Ssh
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.options import OptionError, typed

SOURCES = ("build", "pull", "ship")
RESOLVERS = ("controller", "host", "nobody")
CONTROLLER, FIRST = "controller", "first"


@dataclass(frozen=True)
class ImageRequest:
    """The image of one app, and how the hosts get it. The names are those of the role's variables without its prefix.

    This is where defaults stand; argument specification and documentation are held to it by a test.
    """

    name: str  # for build the repository to tag in, else the image to take
    source: str = "pull"
    context: Path | None = None
    dockerfile: str = "Dockerfile"
    build_args: dict[str, str] = field(default_factory=dict)
    target: str = ""
    build_on: str = CONTROLLER  # or first, or a host
    build_secrets: dict[str, str] = field(default_factory=dict, repr=False)
    build_ssh: bool = False
    build_ssh_key: str = field(default="", repr=False)
    build_cache_mib: int | None = None
    ca_file: Path | None = None
    registry_user: str = ""
    registry_password: str = field(default="", repr=False)
    registry_ca_file: str = ""
    registry_resolve: str = CONTROLLER
    cosign_key: str = ""
    cosign_log: bool = False
    disk_reserve: int = 1024  # MiB
    ship_cache: int = 4096  # MiB
    bundle: Path | None = None  # then source is not asked
    sbom: bool = False

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> ImageRequest:
        """From a task's options. Raises ImageError that names the role's variable."""
        try:
            request = typed(cls, options, "fastapi_image")
        except OptionError as error:
            raise ImageError(str(error)) from error
        for name, value, choices in (
            ("source", request.source, SOURCES),
            ("registry_resolve", request.registry_resolve, RESOLVERS),
        ):
            if value not in choices:
                raise ImageError(f"fastapi_image_{name} is {value!r}, but must be one of {', '.join(choices)}")
        return request

    @property
    def ssh(self) -> Ssh:
        """What a build on the controller logs in by elsewhere."""
        return Ssh(self.build_ssh, self.build_ssh_key)

    def without_secrets(self, text: str) -> str:
        """What a build or a registry said, without the secrets that it was given and what a terminal obeys."""
        return Screen([*self.build_secrets.values(), self.build_ssh_key, self.registry_password]).text(text)
