# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Controller part of slipway.fleet.image: each way to have an image is a module of plugin_utils."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.slipway.fleet.plugins.module_utils.build_context import ContextError
from ansible_collections.slipway.fleet.plugins.module_utils.image import ImageError
from ansible_collections.slipway.fleet.plugins.plugin_utils import image_build, image_bundle, image_pull, image_ship
from ansible_collections.slipway.fleet.plugins.plugin_utils.image_host import Host

# Each has `identify(host, options)`, which changes nothing, and `put(host, options)`.
WAYS: dict[str, Any] = {
    "pull": image_pull,
    "ship": image_ship,
    "build": image_build,
    "build_on_host": image_build,
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """See the module of the same name for the options."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        options = {"source": "pull", **self._task.args}
        way = image_bundle if options.get("bundle") else WAYS.get(options["source"])
        if way is None:
            raise AnsibleActionFail(f"source is {options['source']!r}, but must be one of {', '.join(WAYS)}")
        try:
            if options.get("operation") == "identify":
                result: dict[str, Any] = way.identify(Host(self, task_vars), options)
            else:
                result = way.put(Host(self, task_vars), options)
        except (ImageError, ContextError) as error:
            raise AnsibleActionFail(str(error)) from error
        return result
