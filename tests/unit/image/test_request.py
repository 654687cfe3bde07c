"""Requests of images: one place for defaults, and nothing that cannot be."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.module_utils.image import operations as image_operations
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError
from ansible_collections.slipway.fleet.plugins.module_utils.package import operations as package_operations
from ansible_collections.slipway.fleet.plugins.modules import image as image_module
from ansible_collections.slipway.fleet.plugins.modules import image_host, package_host
from ansible_collections.slipway.fleet.plugins.modules import package as package_module
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import ImageRequest
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.request import PackageRequest

ROOT = Path(__file__).resolve().parents[3]
# What the role decides otherwise than a bare module would, and why.
OF_THE_ROLE = {
    "source": "an app is built unless somebody says otherwise",
    "context": "where the playbooks lie",
    "build_cache_mib": "a build host serves, too",
    "disk_reserve": "that of the app",
    "sbom": "a release has one",
}


def defaults_of(kind: type) -> dict[str, Any]:
    found = {}
    for one in fields(kind):
        value = one.default_factory() if one.default_factory is not MISSING else one.default
        if value is not MISSING:
            found[one.name] = value
    return found


@pytest.mark.parametrize(
    ("kind", "module", "of_the_task"),
    [
        (ImageRequest, image_module, {"operation", "wrong", "results", "seen", "prepared"}),
        (PackageRequest, package_module, {"operation"}),
    ],
)
def test_documentation_has_the_options_and_defaults_of_the_request(
    kind: type, module: Any, of_the_task: set[str]
) -> None:
    options = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert options.keys() - of_the_task == {one.name for one in fields(kind)}
    for name, default in defaults_of(kind).items():
        stated = options[name].get("default")
        # An empty list is an empty tuple there.
        assert stated == default or (not default and not stated), name


def test_the_role_has_the_defaults_of_the_request() -> None:
    stated = yaml.safe_load((ROOT / "roles/fastapi_image/defaults/main.yml").read_text())
    renamed = {"ship_cache": "ship_cache_mib"}
    for name, default in defaults_of(ImageRequest).items():
        variable = f"fastapi_image_{renamed.get(name, name)}"
        if name not in OF_THE_ROLE and name != "bundle":
            assert (stated[variable] or None) == (default or None), variable


@pytest.mark.parametrize(("module", "operations"), [(image_host, image_operations), (package_host, package_operations)])
def test_documentation_of_the_host_modules_has_what_hosts_take(module: Any, operations: Any) -> None:
    stated = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert stated.pop("operation")["choices"] == list(operations.OPERATIONS)
    assert {name: one.get("default") for name, one in stated.items()} == {
        name: one.get("default") for name, one in operations.OPTIONS.items()
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"source": "scp"}, "fastapi_image_source is 'scp', but must be one of build, pull, ship"),
        ({"registry_resolve": "dns"}, "fastapi_image_registry_resolve is 'dns'"),
        ({"build_args": "A=1"}, "fastapi_image_build_args is of type str"),
        ({"disk_reserve": "much"}, "fastapi_image_disk_reserve is 'much'"),
    ],
)
def test_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ImageError, match=said):
        ImageRequest.of({"name": "app", **options})


def test_secrets_are_in_no_repr_and_no_message() -> None:
    request = ImageRequest.of(
        {"name": "app", "build_secrets": {"A": "s3cret", "B": ""}, "registry_password": "passw0rd"}
    )
    assert "s3cret" not in repr(request)
    assert "passw0rd" not in repr(request)
    assert request.without_secrets("it said s3cret twice: s3cret") == "it said ******** twice: ********"
