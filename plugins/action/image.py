# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Controller part of slipway.fleet.image: one request, and the way that it goes."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError, ImageRefused
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.module_link import ModuleLink
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import refuse_wrong, run_id
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Unreachable
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.preflight import UNCHANGED
from ansible_collections.slipway.fleet.plugins.plugin_utils.image import sbom
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.context import ContextError
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.pull import Pulled
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import ImageRequest
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.shipped import Prepared, Shipped
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.source import Had, ImageSource, look, result_of
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.sources import source_of

# What is said about the task and not about the image.
ABOUT_THE_TASK = ("operation", "wrong", "results", "seen", "prepared")
OPERATIONS = ("put", "identify", "look", "prepare")


class ActionModule(ActionBase):  # type: ignore[misc]
    """See the module of the same name for the options."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        options = dict(self._task.args)
        about = {name: options.pop(name) for name in ABOUT_THE_TASK if name in options}
        operation = about.get("operation", "put")
        if operation not in OPERATIONS:
            raise AnsibleActionFail(f"operation is {operation!r}, but must be one of {', '.join(OPERATIONS)}")
        refuse_wrong(about)
        try:
            request = ImageRequest.of(options)
        except ImageError as error:
            raise AnsibleActionFail(str(error)) from error
        try:
            return self._run(operation, request, about, task_vars)
        except (ImageError, ContextError, Refused, Unreachable) as error:
            said = request.without_secrets(f"{UNCHANGED if isinstance(error, ImageRefused) else ''}{error}")
            if self._task.no_log:  # Ansible will not show it
                Display().error(said)
            raise AnsibleActionFail(said) from None  # Ansible would show that, too

    def _run(
        self, operation: str, request: ImageRequest, about: dict[str, Any], task_vars: dict[str, Any]
    ) -> dict[str, Any]:
        source = source_of(request, run_id(), self._task.check_mode)
        host = ModuleLink(self, "slipway.fleet.image_host", task_vars)
        if operation == "identify":
            if isinstance(source, Pulled) and request.registry_resolve == "host":
                return result_of(source.identity_on(look(source, host)))
            return result_of(source.identify())
        if operation == "put":
            if isinstance(source, Shipped) and about.get("prepared"):
                source.prepared = _prepared(about["prepared"])
            had = source.put(host, about.get("seen") or {})
            return _with_sbom(source, had, host, result_of(had.identity, had))
        if not isinstance(source, Shipped):
            raise AnsibleActionFail(f"{operation} is for images that come through the controller")
        if operation == "look":
            return look(source, host)
        hosts = {one: task_vars["hostvars"][one][about["results"]] for one in task_vars["ansible_play_hosts"]}
        changed = source.prepare(hosts, {host.name: host})
        return {"changed": changed, "prepared": asdict(source.prepared or Prepared())}


def _prepared(registered: dict[str, Any]) -> Prepared:
    """From the result of the task that prepared."""
    told = registered["prepared"]
    given = {field.name: told[field.name] for field in fields(Prepared)}
    return Prepared(**{**given, "architectures": tuple(given["architectures"])})


def _with_sbom(source: ImageSource, had: Had, host: ModuleLink, result: dict[str, Any]) -> dict[str, Any]:
    """With the path of the image's bill of materials, where one is wanted; a deploy does not fail for it."""
    if not source.request.sbom or had.id is None:
        return result
    try:
        return result | {"sbom": str(sbom.of(source, had.id, host))}
    except sbom.ERRORS as error:
        said = f"the release has no bill of materials (SBOM): {error}"
        return result | {"warnings": [*result.get("warnings", []), said]}
