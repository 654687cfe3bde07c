# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Controller part of slipway.fleet.package: one request, and the way that it goes."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import PackageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.module_link import ModuleLink
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.put import PackageWay, result_of
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.python import bring
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.request import PackageRequest
from ansible_collections.slipway.fleet.plugins.plugin_utils.sbom.document import SbomError

OPERATIONS = ("put", "identify", "inspect", "python")


class ActionModule(ActionBase):  # type: ignore[misc]
    """See the module of the same name for the options."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        options = dict(self._task.args)
        operation = options.pop("operation", "put")
        if operation not in OPERATIONS:
            raise AnsibleActionFail(f"operation is {operation!r}, but must be one of {', '.join(OPERATIONS)}")
        host = ModuleLink(self, "slipway.fleet.package_host", task_vars)
        try:
            if operation == "inspect":
                return host.call("inspect", **{name: options[name] for name in ("python",) if options.get(name)})
            if operation == "python":
                wanted = bring(host, str(options["python"]), bool(options.get("bundle")), self._task.check_mode)
                return {"changed": wanted}
            way = PackageWay(PackageRequest.of(options), self._task.check_mode)
            if operation == "identify":
                way.identify()
                return result_of(way)
            return self._put(way, host)
        except (PackageError, Refused) as error:
            raise AnsibleActionFail(str(error)) from error

    def _put(self, way: PackageWay, host: ModuleLink) -> dict[str, Any]:
        seen = way.look(host)
        result = result_of(way, way.put(host, seen))
        if not way.request.sbom or self._task.check_mode:
            return result
        try:
            return result | {"sbom": str(way.bill(seen))}
        except (PackageError, SbomError) as error:  # a deploy does not fail for it
            return result | {"warnings": [f"the release has no bill of materials (SBOM): {error}"]}
