# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Controller part of slipway.fleet.edge: renders the edge and each app's piece and sends them in one call."""

from __future__ import annotations

import base64
import json
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.files import rendered
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.rendering import Renderer


class ActionModule(ActionBase):  # type: ignore[misc]
    """See the module of the same name for the options."""

    _requires_connection = True
    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        options = dict(self._task.args)
        apps = options.get("apps") or []
        renderer = Renderer(self._templar, self._loader)
        files, contents = rendered(renderer, options.get("files") or [], task_vars)

        def texts(item: dict[str, Any], variables: Any) -> list[str]:
            return list(rendered(renderer, [item], variables)[1].values())

        pieces = {}
        for app in apps:
            (text,) = texts({"src": options["piece"], "dest": app["name"]}, {**task_vars, "app": app})
            pieces[app["name"]] = text
        sent: dict[str, Any] = {"files": contents, "pieces": pieces}
        if options.get("edge"):
            (sent["edge"],) = texts({"src": options["edge"], "dest": "edge.cfg"}, task_vars)
        # Of an app the module needs its piece alone; what it is called with is shown where a run is verbose.
        named = [{"name": app["name"]} for app in apps]
        arguments = {
            **options,
            "apps": named,
            "files": files,
            "contents": base64.b64encode(json.dumps(sent).encode()).decode(),
        }
        result.update(self._execute_module("slipway.fleet.edge", module_args=arguments, task_vars=task_vars))
        return result
