# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Controller part of slipway.fleet.image: each way to have an image is a module of plugin_utils."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import refuse_wrong
from ansible_collections.slipway.fleet.plugins.plugin_utils.image import (
    build as image_build,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.image import (
    bundle as image_bundle,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.image import (
    move as image_move,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.image import (
    pull as image_pull,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.image import (
    sbom as image_sbom,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.image import (
    ship as image_ship,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.context import ContextError
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.host import Host

# What `identify` takes; the rest of a role's variables is checked before they are used.
TYPES: dict[str, Any] = {
    **{name: {"type": "str"} for name in ("name", "registry_user", "dockerfile", "ca_file", "registry_ca_file")},
    "source": {"choices": ["build", "build_on_host", "pull", "ship"]},
    "registry_password": {"type": "str", "no_log": True},
    "registry_resolve": {"choices": ["controller", "host"]},
    "cosign_key": {"type": "str"},
    "cosign_log": {"type": "bool"},
    "context": {"type": "path"},
    "build_args": {"type": "dict"},
}

# MiB
RESERVE = 1024
CACHE = 4096

# Each has `identify(host, options)`, which changes nothing. The ways through the controller's cache of layers have
# `wanted` and `found` for the three steps of `image_move`, the others `put(host, options)`.
WAYS: dict[str, Any] = {"pull": image_pull, "ship": image_ship, "build": image_build}


class ActionModule(ActionBase):  # type: ignore[misc]
    """See the module of the same name for the options."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        options = {"source": "pull", **self._task.args}
        refuse_wrong(options, "fastapi_image", TYPES if options.get("operation") == "identify" else {})
        options.pop("wrong", None)
        way = image_bundle if options.get("bundle") else WAYS.get(options["source"])
        if way is None:
            raise AnsibleActionFail(f"source is {options['source']!r}, but must be one of {', '.join(WAYS)}")
        try:
            return self._run(way, options, task_vars)
        except (ImageError, ContextError) as error:
            said = self._without_secrets(str(error), options)
            if self._task.no_log:  # Ansible will not show it
                Display().error(said)
            raise AnsibleActionFail(said) from error

    def _run(self, way: Any, options: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        operation = options.get("operation")
        host = Host(self, task_vars)
        if operation == "identify":
            return way.identify(host, options)  # type: ignore[no-any-return]
        if not hasattr(way, "wanted"):
            return self._with_sbom(host, options, way.put(host, options))
        wanted = way.wanted(options)
        if operation == "look":
            return image_move.look(host, wanted)
        if operation == "prepare":
            name = options["results"]
            hosts = {one: task_vars["hostvars"][one][name] for one in task_vars["ansible_play_hosts"]}
            return self._prepare(way, host, options, wanted, hosts)
        seen = options.get("seen") or image_move.look(host, wanted)
        prepared = options.get("prepared") or self._prepare(way, host, options, wanted, {host.name: seen})
        return self._with_sbom(host, options, image_move.put(host, wanted, seen, prepared))

    def _with_sbom(self, host: Host, options: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
        """With the path of the image's bill of materials, where one is wanted."""
        if not options.get("sbom"):
            return result
        made = image_sbom.have(host, options, result["id"])
        warnings = [*result.get("warnings", []), *made.get("warnings", [])]
        return result | made | ({"warnings": warnings} if warnings else {})

    def _prepare(
        self, way: Any, host: Host, options: dict[str, Any], wanted: image_move.Wanted, hosts: dict[str, dict[str, Any]]
    ) -> dict[str, Any]:
        return image_move.prepare(
            wanted,
            hosts,
            lambda missing: way.found(host, options, wanted, missing),
            reserve=image_move.megabytes(options, "disk_reserve", RESERVE),
            cache=image_move.megabytes(options, "ship_cache", CACHE),
            check_mode=host.check_mode,
        )

    def _without_secrets(self, text: str, options: dict[str, Any]) -> str:
        for value in (options.get("build_secrets") or {}).values():
            text = text.replace(str(value), "********") if value else text
        return text
