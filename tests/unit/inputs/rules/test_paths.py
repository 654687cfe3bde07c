"""Which part of a name an app cannot have."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.rules.paths import paths

STRIPPED = {"strip_path": True}
SERVERS = {"servers": {"web1": "10.0.0.11:80"}}


@pytest.mark.parametrize(
    ("app", "said"),
    [
        ({}, []),
        ({"paths": [], "strip_path": "false", "version_path": "/version"}, []),
        ({"paths": ["/api"], "health_path": "/api/readyz", "version_path": "/api/version?full=1"}, []),
        ({"paths": ["/api", "/readyz"]}, []),
        ({"paths": ["/api", "/apix", "/api.v1/~a_b-c/...", "/API"], **STRIPPED}, []),
        (
            {"paths": ["/api"]},
            ["fastapi_app_health_path of links is /readyz, which is at none of its paths (/api): as"],
        ),
        (
            {"paths": ["/api"]},
            ["Set it to a path below, such as /api/readyz, or add /readyz to fastapi_app_paths where"],
        ),
        (
            {"paths": ["/api"], "health_path": "/apix?a=/api"},
            ["health_path of links is /apix?a=/api, which is at none"],
        ),
        (
            {"paths": ["/api"], "health_path": "/api", "version_path": "/version"},
            ["fastapi_app_version_path of links is /version, which is at none of its paths (/api)"],
        ),
        ({"paths": ["/api"], **SERVERS}, ["health_path of links is /readyz, which is at none of its paths (/api)"]),
        (
            {"paths": ["api"]},
            ['fastapi_app_paths of links (paths in haproxy_apps): "api" cannot be a path; begin with'],
        ),
        ({"paths": ["/"]}, ["For everything under its names leave it empty."]),
        ({"paths": ["/api/"]}, ['"/api/" cannot be']),
        ({"paths": ["//api"]}, ['"//api" cannot be']),
        ({"paths": ["/api\n"]}, ['"/api\\n" cannot be']),
        ({"paths": ["/%61pi", "/a b", "/a*"]}, ['"/%61pi", "/a b", "/a*" cannot be']),
        ({"paths": ["/a/../b", "/./a", "/a/.", ""]}, ['"/a/../b", "/./a", "/a/.", "" cannot be']),
        ({"paths": ["/a", "/a"], **STRIPPED}, ["/a stands there more than once; leave one"]),
        ({"paths": ["/a/b", "/a"], **STRIPPED}, ["/a/b is below /a, which has it already; take /a/b out"]),
        (STRIPPED, ["fastapi_app_strip_path of links (strip_path in haproxy_apps) is true, and it has no path"]),
        ({"paths": ["/api"], **STRIPPED, **SERVERS}, ["take it away on the load balancer"]),
    ],
)
def test_paths(app: dict[str, Any], said: list[str]) -> None:
    found = list(paths({"name": "links", **app}))
    assert len(found) == len(said), found
    assert all(part in sentence for sentence, part in zip(found, said, strict=True)), found
