# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What each host is to serve, by its variables and templates alone; no host is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.files import rendered
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.rendering import Renderer
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import of_right_types
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import target

# What the variables of role fastapi_app say of image and package, which the coordinator has later: until then a mark.
UNKNOWN = {
    "fastapi_app_image": target.REFERENCE,
    "fastapi_app_image_content": target.CONTENT,
    "fastapi_app_package_content": target.CONTENT,
    "__fastapi_app_package": target.PACKAGE,
    "__fastapi_app_config_hash": target.CONFIG,
}


# The role whose variables and templates say what is to serve.
ROLE = Path(__file__).resolve().parents[3] / "roles/fastapi_app"
# What many other variables are made of, each after those that it is made of itself: rendered once for a host. Ansible
# renders a variable anew wherever it is used.
OFTEN = (
    "__fastapi_app_kind",
    "__fastapi_app_marks",
    "__fastapi_app_root",
    "__fastapi_app_release_directory",
    "__fastapi_app_sockets",
    "__fastapi_app_slot",
    "__fastapi_app_look",
    "__fastapi_app_looked_at",
    "__fastapi_app_environment",
    "__fastapi_app_launched",
)


@dataclass(frozen=True)
class Asked:
    """Names of the role's variables with the target, and with a sentence for each value that cannot be used."""

    what: str
    wrong: str


NEW = Asked("__fastapi_app_target", "__fastapi_app_wrong_for_a_release")
# Of a release that is on the host already, only how it is looked at and taken to has to be known.
PRESENT = Asked("__fastapi_app_target_present", "__fastapi_app_wrong_values")


class Targets:
    """What hosts are to serve, one after the other, with what does not differ between them made once.

    Args:
        templar: as the action has it
        loader: of files, likewise
        asked: NEW or PRESENT
        contents: for `image` and `package` the names of the variables with the `request` and with what is `wrong`
    """

    def __init__(self, templar: Any, loader: Any, asked: Asked, contents: Mapping[str, Mapping[str, str]]) -> None:
        # Its variables are those of one host after the other; what it made of them was made to the end.
        self._templar = templar.copy_with_new_env()
        self._renderer = Renderer(templar, loader)
        self._asked, self._contents = asked, contents

    def of(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The `target` of a host and its `content`, or what is `wrong` with its variables, as sentences.

        What is returned has the host's secrets.
        """
        search = [str(ROLE), *variables.get("ansible_search_path", [])]
        known = {**variables, "ansible_search_path": list(dict.fromkeys(search))}
        try:
            return self._computed(known)
        except AnsibleError as error:
            return {"wrong": [" ".join(str(error).split())]}

    def _computed(self, known: dict[str, Any]) -> dict[str, Any]:
        self._templar.available_variables = known
        given = of_right_types(self._templar, str(ROLE / "meta/argument_specs.yml"), known)
        content = self._content(given["fastapi_app_runtime"], known)
        names = [self._asked.wrong, *([content.pop("wrong")] if content.get("wrong") else [])]
        if wrong := [str(text) for name in names for text in self._value(name, known)]:
            return {"wrong": wrong}
        return {"target": self._target(given, content, known), "content": content}

    def _target(
        self, inputs: Mapping[str, Any], content: Mapping[str, Any], known: Mapping[str, Any]
    ) -> dict[str, Any]:
        marked = {**known, **(UNKNOWN if content["kind"] != "present" else {}), "__fastapi_app_serving": target.SERVING}
        if not self._value("fastapi_app_release", known):
            marked["__fastapi_app_release"] = target.RELEASE
        self._templar.available_variables = marked
        marked |= self._templar.template({name: marked[name] for name in inputs})
        marked |= {name: meant for name, meant in inputs.items() if isinstance(meant, (int, float))}
        for name in OFTEN:
            marked[name] = self._value(name, marked)
        if self._asked is NEW:
            marked["__fastapi_app_config"] = self._config(marked)
        found: dict[str, Any] = self._value(self._asked.what, marked)
        files, contents = rendered(self._renderer, found.pop("files", []), marked)
        return {**found, "files": files, "contents": contents}

    def _config(self, known: Mapping[str, Any]) -> str:
        """What names the release and is one of its files: by hand, as the variable's lookup begins anew each time."""
        source = self._renderer.found(f"{known['__fastapi_app_kind']['rendered']}.j2", known)
        return str(self._renderer.text(source, known))

    def _content(self, runtime: str, known: Mapping[str, Any]) -> dict[str, Any]:
        """Where image or package come from; with nothing said they are on the host already."""
        kind = {"compose": "image", "systemd": "package"}[runtime]
        if source := self._contents.get(kind):
            return {**source, "kind": kind, "request": self._value(source["request"], known)}
        reference, content = ("fastapi_app_image", "fastapi_app_image_content")
        if kind == "package":
            reference, content = ("__fastapi_app_package", "fastapi_app_package_content")
        given = {"reference": known[reference], "content": known[content]}
        return {"kind": "present", "request": self._templar.template(given)}

    def _value(self, name: str, known: Mapping[str, Any]) -> Any:
        return self._templar.template(known[name])
