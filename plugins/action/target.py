# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Computes what a host is to serve, from its variables and templates alone; see the module of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.files import rendered
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import refuse_wrong_types
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import target

# What the variables of role fastapi_app say of image and package, which the coordinator has later: until then a mark.
UNKNOWN = {
    "fastapi_app_image": target.REFERENCE,
    "fastapi_app_image_content": target.CONTENT,
    "fastapi_app_package_content": target.CONTENT,
    "__fastapi_app_package": target.PACKAGE,
    "__fastapi_app_config_hash": target.CONFIG,
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """What cannot be used is told in the result, as `wrong`: it has secrets, so Ansible would show no failure."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        options, variables = self._task.args, dict(task_vars)
        try:
            refuse_wrong_types(self, options["specification"], variables)
            content = self._content(options, variables)
            names = [options["wrong"], *([content.pop("wrong")] if content.get("wrong") else [])]
            wrong = [str(text) for name in names for text in self._templar.template(variables[name])]
            return {"changed": False, "wrong": wrong} if wrong else self._computed(options["what"], content, variables)
        except AnsibleError as error:
            return {"changed": False, "wrong": [" ".join(str(error).split())]}

    def _computed(self, what: str, content: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        if content["kind"] != "present":
            variables |= UNKNOWN
        if not self._templar.template(variables["fastapi_app_release"]):
            variables["__fastapi_app_release"] = target.RELEASE
        variables["__fastapi_app_serving"] = target.SERVING
        templar = self._templar.copy_with_new_env(available_variables=variables)
        known: dict[str, Any] = templar.template(variables[what])
        files, contents = rendered(self, templar, known.pop("files", []), variables)
        found = {**known, "files": files, "contents": contents}
        return {"changed": False, "wrong": [], "target": found, "content": content}

    def _content(self, options: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        """Where image or package come from; with nothing said they are on the host already."""
        runtime = self._templar.template(variables["fastapi_app_runtime"])
        kind = {"compose": "image", "systemd": "package"}[runtime]
        if source := (options.get("contents") or {}).get(kind):
            return {**source, "kind": kind, "request": self._templar.template(variables[source["request"]])}
        reference, content = ("fastapi_app_image", "fastapi_app_image_content")
        if kind == "package":
            reference, content = ("__fastapi_app_package", "fastapi_app_package_content")
        given = {"reference": variables[reference], "content": variables[content]}
        return {"kind": "present", "request": self._templar.template(given)}
