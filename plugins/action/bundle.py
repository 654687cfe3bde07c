# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Controller part of slipway.fleet.bundle."""

from __future__ import annotations

import os
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError
from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import PackageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle.archive import (
    Bundle,
    BundleError,
    is_checked,
    note_checked,
    opened,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle.signature import SignatureError
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle.trust import note_used, signed, trusted
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import run_id, sent
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.context import ContextError
from ansible_collections.slipway.fleet.plugins.plugin_utils.sbom.document import SbomError

MODULE = "slipway.fleet.bundle"
# What the roles register from V(need).
NEEDS = "_bundle_result"


class ActionModule(ActionBase):  # type: ignore[misc]
    """See the module of the same name for the options."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        self._task_vars = task_vars
        options = dict(self._task.args)
        operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "need": self._need,
            "make": self._make,
            "check": self._check,
            "packages": self._packages,
            "discard": lambda options: self._on_host(operation="discard"),
        }
        operation = str(options.get("operation"))
        if operation not in operations:
            raise AnsibleActionFail(f"operation is {operation!r}, but must be one of {', '.join(operations)}")
        if operation in ("make", "check", "packages") and not options.get("bundle"):
            raise AnsibleActionFail(f"{operation} needs `bundle`, the path of the file")
        try:
            return operations[operation](options)
        except (BundleError, ContextError, ImageError, PackageError, SbomError, SignatureError) as error:
            raise AnsibleActionFail(str(error)) from error

    def _need(self, options: dict[str, Any]) -> dict[str, Any]:
        return {
            "changed": False,
            "need": {
                name: options.get(name) or empty for name, empty in (("images", []), ("needed", {}), ("package", {}))
            },
        }

    def _make(self, options: dict[str, Any]) -> dict[str, Any]:
        # Every deploy has a task of this plugin, and nearly none makes a bundle: what that takes is loaded here.
        from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle_builder import (  # noqa: PLC0415 - only here
            make as bundle_make,
        )

        file, key, fleet = Path(options["bundle"]), options.get("signing_key"), self._fleet()
        if self._task.check_mode:
            return {"changed": True, "file": str(file)}
        hostvars = self._task_vars["hostvars"]
        needs = [need for host in self._task_vars["ansible_play_hosts_all"] for need in needs_of(hostvars[host])]
        made = bundle_make.make(
            file,
            needs,
            releases=options.get("releases") or {},
            collections=options.get("collections") or [],
            told=lambda words: Display().display(f"  {words}"),
            sign=(lambda sums: signed(sums, fleet, Path(key).expanduser())) if key else None,
        )
        return {"changed": True, **made}

    def _check(self, options: dict[str, Any]) -> dict[str, Any]:
        """Read all of it, once a run: what is used later is checked again when it is taken out."""
        bundle = Bundle(Path(options["bundle"]))
        if not is_checked(bundle, run_id()):
            fleet, oldest = self._fleet(), str(options.get("oldest") or "")
            made = trusted(bundle, os.path.expanduser(options.get("signers") or ""), fleet, oldest)
            bundle.check()
            if not self._task.check_mode:
                note_used(fleet, made, oldest)
            note_checked(bundle, run_id())
        return {"changed": False, "file": str(bundle.path), "parts": len(bundle.sums)}

    def _fleet(self) -> str:
        """The name of the inventory; a host that is in none of its files has none of its directories."""
        places = (variables.get("inventory_dir") for variables in self._task_vars["hostvars"].values())
        return next((Path(place).name for place in places if place), "")

    def _packages(self, options: dict[str, Any]) -> dict[str, Any]:
        bundle = opened(Path(options["bundle"]))
        wanted = sorted(
            {package for need in needs_of(self._task_vars) for names in need["needed"].values() for package in names}
        )
        repositories = bundle.manifest["debian"]
        indexes = {Path(item["directory"]).name: bundle.sums[f"{item['directory']}/Packages"] for item in repositories}
        found = self._on_host(operation="look", indexes=indexes, packages=wanted)
        directory = bundle.repository(*found["repository"].rsplit("-", 1))["directory"]
        if self._task.check_mode:
            return {"changed": not found["known"] or bool(found["missing"]), "sent": found["missing"]}
        changed = not found["known"]
        if changed:
            found |= self._send(bundle, [f"{directory}/Packages"], operation="index", packages=wanted)
        if missing := list(found["missing"]):
            self._send(bundle, [f"debian/{name}" for name in missing], operation="packages", packages=wanted)
        return {"changed": changed or bool(missing), "sent": [Path(name).name for name in missing]}

    def _send(self, bundle: Bundle, parts: Iterable[str], **arguments: Any) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(prefix="slipway-") as directory:
            archive = Path(directory) / "packages.tar"
            with tarfile.open(archive, "w") as tar:
                for part in parts:
                    item = tarfile.TarInfo(part.partition("/")[2])
                    item.size = bundle.size(part)
                    tar.addfile(item, BytesIO(bundle.read(part)))
            with sent(self, archive) as remote:
                return self._on_host(archive=remote, **arguments)

    def _on_host(self, **arguments: Any) -> dict[str, Any]:
        result: dict[str, Any] = self._execute_module(MODULE, arguments, task_vars=self._task_vars)
        if result.get("failed"):
            raise BundleError(str(result.get("msg", result)))
        return result


def needs_of(variables: Any) -> list[dict[str, Any]]:
    """What the roles of a host told with V(need); a role that was not asked told nothing."""
    told = [variables[name] for name in sorted(variables) if name.endswith(NEEDS)]
    return [result["need"] for result in told if isinstance(result, dict) and "need" in result]
