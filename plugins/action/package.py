# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Controller part of slipway.fleet.package: fetches wheels once for all hosts and sends what a host lacks."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import PackageError, Packages, Target
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle.archive import BundleError, wheels_of
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import refuse_wrong, sent
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.source import PackageSource, Wheel, cached_wheels
from ansible_collections.slipway.fleet.plugins.plugin_utils.sbom import document as sbom

# What `identify` takes; the rest of a role's variables is checked before they are used.
TYPES: dict[str, Any] = {
    **{name: {"type": "str"} for name in ("lock", "wheels", "ca_file")},
    "source": {"type": "path"},
    "files": {"type": "list", "elements": "str"},
}


class ActionModule(ActionBase):  # type: ignore[misc]
    """See the module of the same name for the options."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        self._task_vars = task_vars
        self.validate_argument_spec(
            {name: {"required": True} for name in ("app", "root")}
            | {
                name: {}
                for name in ("operation", "source", "files", "lock", "python", "wheels", "ca_file", "bundle", "sbom")
            }
        )
        options = dict(self._task.args)
        try:
            if options.get("operation") == "inspect":
                return self._on_host(**options)
            source = PackageSource(Path(options["source"]), list(options["files"]), options["lock"])
            if options.get("operation") == "identify":
                refuse_wrong(options, "fastapi_package", TYPES)
                source.check(*self._named_paths(options))
                return {"changed": False, **self._named(options, source.key())}
            return self._put(options, source)
        except PackageError as error:
            raise AnsibleActionFail(str(error)) from error

    def _named(self, options: dict[str, Any], key: str) -> dict[str, Any]:
        return {"reference": str(Packages(Path(options["root"])).path(key)), "content": key}

    def _put(self, options: dict[str, Any], source: PackageSource) -> dict[str, Any]:
        place = {name: options[name] for name in ("app", "root", "python") if options.get(name)}
        place["content"] = key = source.key()
        found = self._on_host(operation="find", **place)
        sent = 0
        if not found["present"] and not self._task.check_mode:
            target = Target(**found["target"])
            requirements = source.requirements(target)
            wheels = self._wheels(requirements, target, options)
            sent = self._send(source, requirements, wheels, set(found["wheels"]), place)
        return {
            **self._sbom(options, source, key, found["target"]),
            "changed": not found["present"],
            **self._named(options, key),
            "python": found["target"]["version"],
            "sent": sent,
        }

    def _wheels(self, requirements: str, target: Target, options: dict[str, Any]) -> list[Wheel]:
        own, ca_file = self._named_paths(options)
        if not options.get("bundle"):
            return cached_wheels(requirements, target, own, ca_file)
        try:
            return cached_wheels(requirements, target, wheels_of(Path(options["bundle"])), None, offline=True)
        except BundleError as error:
            raise PackageError(str(error)) from error

    def _sbom(self, options: dict[str, Any], source: PackageSource, key: str, target: dict[str, Any]) -> dict[str, Any]:
        """The bill of materials, made once for each content and Python; a deploy does not fail for it."""
        if not options.get("sbom") or self._task.check_mode:
            return {}
        content = f"{key}-{Target(**target).short}"
        path = sbom.cached(content)
        if not path.exists():
            try:
                wheels = self._wheels(source.requirements(Target(**target)), Target(**target), options)
                path = sbom.keep(
                    content, sbom.of_wheels(options["app"], key, [(item.path, item.sha256) for item in wheels])
                )
            except (PackageError, sbom.SbomError) as error:
                return {"warnings": [f"the release has no bill of materials (SBOM): {error}"]}
        return {"sbom": str(path)}

    def _named_paths(self, options: dict[str, Any]) -> tuple[Path | None, Path | None]:
        own, ca_file = (Path(options[name]) if options.get(name) else None for name in ("wheels", "ca_file"))
        return own, ca_file

    def _send(
        self, source: PackageSource, requirements: str, wheels: list[Wheel], present: set[str], place: dict[str, Any]
    ) -> int:
        with tempfile.TemporaryDirectory(prefix="slipway-") as directory:
            archive = Path(directory) / "package.tar"
            source.write(archive, requirements, wheels, present)
            with sent(self, archive) as remote:
                self._on_host(operation="install", archive=remote, **place)
            return archive.stat().st_size

    def _on_host(self, **arguments: Any) -> dict[str, Any]:
        result: dict[str, Any] = self._execute_module("slipway.fleet.package", arguments, task_vars=self._task_vars)
        if result.get("failed"):
            raise PackageError(str(result.get("msg", result)))
        return result
