# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Looks at an image on the controller; see the module of the same name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError
from ansible_collections.slipway.fleet.plugins.module_utils.release.words import told
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.context import ContextError
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import ImageRequest
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.inspection import (
    app_name,
    given_to_build,
    had,
    refuse_no_directory,
    report,
    search,
    target_in,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.project import lines_of
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.sandbox import (
    Limits,
    Sandbox,
    owner,
    remove_left,
    shipped,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.trial import Trial

OPTIONS: dict[str, Any] = {
    "what": {"type": "str", "required": True},
    "name": {"type": "str", "default": ""},
    "host": {"type": "str", "default": "localhost"},
    "health_path": {"type": "str", "default": ""},
    "deadline": {"type": "float", "default": 60.0},
    "file": {"type": "path"},
    "image_from": {"type": "str", "required": True},
    "environment": {"type": "dict", "required": True},
    "on_socket": {"type": "dict", "required": True},
    "on_port": {"type": "dict", "required": True},
    "given": {"type": "dict", "default": {}},
    "socket": {"type": "path", "required": True},
    "user": {"type": "str", "default": ""},
    "uid": {"type": "int", "required": True},
    "memory_mib": {"type": "int", "required": True},
    "tmp_mib": {"type": "int", "required": True},
    "cpus": {"type": "float", "required": True},
    "pids": {"type": "int", "required": True},
    "open_files": {"type": "int", "required": True},
}

DOCKERFILE = "Dockerfile"
# Parts of a request that say which image it is.
NAMED_BY_HAND = ("name", "context", "bundle")
# What stands in a release's file for what is known when it is started.
MARKS = {"${SLIPWAY_SLOT}": "blue", "${SLIPWAY_RELEASE}": "inspect"}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Everything happens with the Docker of the controller."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        _, options = self.validate_argument_spec(OPTIONS)
        if not options["what"].strip():
            raise AnsibleActionFail(
                "slipway_inspect is empty; name the directory with a Dockerfile, or an image: "
                "-e slipway_inspect=~/projects/shop"
            )
        if self._task.check_mode:
            return {"changed": False, "skipped": True, "msg": "nothing is started in check mode"}
        request = self._request(task_vars[options["image_from"]])
        try:
            lines, problem = self._looked(options, request)
        except (ImageError, ContextError) as error:
            raise AnsibleActionFail(request.without_secrets(str(error))) from None  # Ansible would show that, too
        Display().display(lines)
        if options["file"]:
            Path(options["file"]).write_text(lines, encoding="utf-8")
        result: dict[str, Any] = {"changed": False, "lines": lines, "problem": problem}
        if problem:
            return result | {"failed": True, "msg": f"A release with these lines would not serve: {problem}"}
        return result

    def _request(self, variable: Mapping[str, Any]) -> ImageRequest:
        """How images are built. What is looked at is named by hand, and not by where an inventory has its context."""
        said = self._templar.template({name: value for name, value in variable.items() if name not in NAMED_BY_HAND})
        return ImageRequest.of({"name": "", **{name: value for name, value in said.items() if value != ""}})

    def _looked(self, options: dict[str, Any], request: ImageRequest) -> tuple[str, str]:
        refuse_no_directory(options["what"])
        name = options["name"] or app_name(options["what"])
        directory = Path(options["what"]).expanduser()
        if directory.is_dir() and request.dockerfile == DOCKERFILE and not (directory / DOCKERFILE).exists():
            return lines_of(name, directory.resolve()), ""
        target = target_in(options["what"], request)
        built = given_to_build(options["what"], request)
        built += [("fastapi_image_target", *target)] if target[0] else []
        request = replace(request, target=target[0] or request.target)
        limits = Limits(
            **{name: options[name] for name in ("tmp_mib", "cpus", "pids", "open_files")},
            socket=_marked(options["socket"]),
        )
        common, given = _started(options["environment"]), told(options["given"])
        environment = {way: {**common, **_started(options[f"on_{way}"]), **given} for way in ("socket", "port")}
        remove_left()
        with had(options["what"], request) as (image, origin):
            about = replace(shipped(image), named_path=options["health_path"])
            usual = Trial(owner(image, options["user"], options["uid"]), options["memory_mib"])
            place = Sandbox(image, limits, environment, options["host"])
            trial, seen = search(
                place, about, usual, limits.socket, options["deadline"], lambda text: Display().display(f"  {text}")
            )
        return report(name, origin, about, usual, trial, seen, limits.socket, built)


def _started(variables: dict[str, Any]) -> dict[str, str]:
    """The variables of a release as they are when it is started."""
    return {name: _marked(value) for name, value in told(variables).items()}


def _marked(text: str) -> str:
    for mark, value in MARKS.items():
        text = text.replace(mark, value)
    return text
