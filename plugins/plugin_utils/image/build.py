# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""An image that is built once, from a context on the controller: there or on a host."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from ansible_collections.slipway.fleet.plugins.module_utils.image import build as image_build
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import Image, ImageError, find
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.link import Link
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Result
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.cache import once
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.context import BuildContext, ContextError
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.layers import LayerCache, fetch
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import CONTROLLER, FIRST, ImageRequest
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.ship import in_cache
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.shipped import Found, Wanted, union
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.source import ImageIdentity


class FromContext:
    """A build context as the origin of an image; it is read once, however many hosts there are."""

    def __init__(self, request: ImageRequest) -> None:
        self._request = request

    @cached_property
    def _context(self) -> BuildContext:
        if not self._request.context:
            raise ContextError("a build needs `context`, the directory with the Dockerfile")
        return BuildContext(
            self._request.context,
            self._request.dockerfile,
            self._request.build_args,
            self._request.ca_file,
            self._request.target,
        )

    def wanted(self) -> Wanted:
        """The image of the context, by its content."""
        key = self._context.key
        return Wanted(f"{self._request.name}:{key[:12]}", key, key)

    def identify(self) -> ImageIdentity:
        """What the build will make, and what it is made for if it was built before."""
        image = self.wanted()
        saved = LayerCache().saved(image.record)
        return ImageIdentity(image.reference, image.content, (saved.architecture,) if saved else ())

    def found(self, missing: Mapping[str, Result], hosts: Mapping[str, Link]) -> Found:
        """From the cache if it was built before, else from a build where the request says."""
        layer_cache = LayerCache()
        saved = layer_cache.saved(self.wanted().record)
        if saved and set(union(missing, saved.layers)) <= set(layer_cache.layers()):
            return Found(saved)
        if self._request.build_on == CONTROLLER:
            local, built = self._here()
            return in_cache(local, missing, built)
        return self._there(self._build_host(hosts), missing)

    def take_here(self) -> tuple[Image, Wanted]:
        """Have the image in the controller's Docker, built there if need be."""
        return self._here()[0], self.wanted()

    def _build_host(self, hosts: Mapping[str, Link]) -> Link:
        wanted = next(iter(hosts)) if self._request.build_on == FIRST else self._request.build_on
        if wanted not in hosts:
            raise ImageError(
                f"fastapi_image_build_on is {wanted}, which is no host of this run; name one of {', '.join(hosts)}, or "
                f"{FIRST}, or {CONTROLLER}"
            )
        return hosts[wanted]

    def _here(self) -> tuple[Image, bool]:
        """The image in the controller's Docker, and whether it was built now."""
        image = self.wanted()
        with once(f"build-{image.content[:12]}"):
            local = find(image.reference)
            if local and local.content == image.content:
                return local, False
            with self._archive() as archive:
                local = image_build.build(
                    archive, image.reference, image.content, self._context.dockerfile, self._context.arguments,
                    self._request.build_secrets, self._request.ssh, self._request.target,
                )  # fmt: skip
            image_build.prune_tags(image.reference)
        return local, True

    def _there(self, host: Link, missing: Mapping[str, Result]) -> Found:
        image = self.wanted()
        with self._archive() as archive:
            result = host.call_with(
                archive,
                "build",
                name=image.reference,
                content=image.content,
                dockerfile=self._context.dockerfile,
                build_args=self._context.arguments,
                build_target=self._request.target,
                build_secrets=self._request.build_secrets,
                build_ssh=self._request.build_ssh,
                build_ssh_key=self._request.build_ssh_key,
                build_cache_mib=self._request.build_cache_mib,
            )
        built = result["image"]
        others = {name: seen for name, seen in missing.items() if name != host.name}
        saved = fetch(host, image.reference, union(others, built["layers"]))
        return Found(saved, result["changed"], host.name, built["id"])

    @contextmanager
    def _archive(self) -> Iterator[Path]:
        """The context as a file that a build reads."""
        with tempfile.TemporaryDirectory(prefix="slipway-") as directory:
            archive = Path(directory) / "context.tar"
            self._context.write(archive)
            yield archive
