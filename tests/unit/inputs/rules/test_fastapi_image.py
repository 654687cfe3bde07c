"""Which images cannot be had."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.inputs.saying import says

RIGHT: dict[str, Any] = {
    "fastapi_image_source": "pull",
    "fastapi_image_registry_resolve": "controller",
    "fastapi_image_context": "/srv/app",
    "__fastapi_image_wanted": "",
    "__fastapi_image_name": "r.invalid/app:1",
    "fastapi_image_registry_user": "",
    "fastapi_image_registry_password": "",
    "fastapi_image_cosign_key": "key.pub",
    "fastapi_image_build_on": "builder",
    "fastapi_image_build_ssh_key": "",
    "fastapi_image_target": "",
    "groups": {"all": ["builder", "web-a"]},
}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({}, []),
        ({"fastapi_image_build_on": "first"}, []),
        ({"fastapi_image_build_ssh_key": "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n"}, []),
        ({"fastapi_image_build_ssh_key": "-----BEGIN PRIVATE KEY-----\nAAAA"}, []),
        ({"fastapi_image_build_ssh_key": "ssh-ed25519 AAAA"}, ["is no private key, which begins with -----BEGIN"]),
        (
            {"fastapi_image_build_ssh_key": "-----BEGIN PUBLIC KEY-----"},
            ["put the whole text of its file into the vault"],
        ),
        ({"fastapi_image_build_on": "web-z"}, ["fastapi_image_build_on is web-z"]),
        ({"__fastapi_image_name": ""}, ["fastapi_image_name must name the image"]),
        ({"fastapi_image_registry_user": "ann"}, ["only one is set"]),
        ({"fastapi_image_registry_resolve": "host"}, ["nobody looks for a signature"]),
        ({"fastapi_image_source": "build"}, ["nobody looks for a signature"]),
        ({"fastapi_image_source": "build", "fastapi_image_cosign_key": ""}, []),
        (
            {
                "fastapi_image_source": "build",
                "fastapi_image_cosign_key": "",
                "__fastapi_image_wanted": "r.invalid/app:1",
            },
            ["name is r.invalid/app:1, but a build takes none: its image is made of fastapi_image_context (/srv/app)"],
        ),
        ({"fastapi_image_target": "production"}, ["is production, which a build alone makes use of"]),
        *(
            ({"fastapi_image_source": "build", "fastapi_image_cosign_key": "", "fastapi_image_target": name}, said)
            for name, said in (("production", []), ("1", []), ("--rm", ["use the name of a stage"]))
        ),
        ({"fastapi_image_source": "scp", "fastapi_image_cosign_key": ""}, ["must be one of build, pull, ship"]),
        (
            {"fastapi_image_source": "build_on_host", "fastapi_image_cosign_key": ""},
            ["build_on_host, which is gone"],
        ),
    ],
)
def test_images_that_cannot_be_had(changed: dict[str, Any], said: list[str]) -> None:
    says("fastapi_image", RIGHT | changed, *said)
