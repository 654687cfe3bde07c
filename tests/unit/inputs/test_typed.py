"""Types of the variables of all hosts, before one of them is asked."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.spelling import inputs_of_roles
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.typed import wrong_types


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"postgres_databases": ["links"]}, "postgres_databases is a list and must be a mapping, such as"),
        ({"postgres_databases": {"links": {"user": ["a"]}}}, ""),  # what is in a mapping is the role's to judge
        ({"docker_engine_networks": {"a": 1}}, "docker_engine_networks is a mapping and must be a list, such as"),
        ({"fastapi_app_host_names": "a.example"}, "fastapi_app_host_names is text and must be a list, such as"),
        ({"fastapi_app_host_names": "{{ names }}"}, ""),
        ({"haproxy_apps": [{"name": "a", "paths": "/a"}]}, "paths in haproxy_apps is text and must be a list, such as"),
        ({"redis_memory_mib": "many"}, "redis_memory_mib is text and must be a whole number, such as `redis_m"),
        ({"redis_memory_mib": "{{ 2 * 48 }}"}, ""),
        ({"redis_memory_mib": "96"}, ""),
        ({"haproxy_apps": [{"name": "a", "slots": "{{ slots }}"}]}, ""),
        ({"haproxy_apps": {"name": "{{ app }}"}}, "haproxy_apps is a mapping and must be a list"),
        ({"backup_keep": [7]}, "backup_keep is a list and must be a mapping"),
        ({"fastapi_app_environment": ["A=1"]}, "fastapi_app_environment is a list and must be a mapping"),
        ({"fastapi_app_secrets": "hunter2"}, "fastapi_app_secrets is text and must be a mapping"),
        ({"fastapi_app_runtime": "podman"}, 'fastapi_app_runtime is "podman"; it can be compose, systemd (of'),
        ({"fastapi_app_runtime": "{{ runtime }}"}, ""),
        ({"postgres_provider": "none", "redis_provider": "none"}, ""),  # playbooks know it, and ask no role then
        ({"redis_provider": "valkey"}, 'redis_provider is "valkey"; it can be compose, native (of'),
        ({"haproxy_server_state": "down"}, ""),  # the playbook says what each of them does
        ({"of_mine": ["anything"]}, ""),
    ],
)  # fmt: skip
def test_a_type_is_told_with_its_host(variables: dict[str, Any], said: str) -> None:
    found = wrong_types({"web1": {}, "web2": variables}, inputs_of_roles())
    assert bool(found) == bool(said)
    assert all(one.startswith(said) and one.endswith("(of web2).") for one in found), found
    assert "hunter2" not in str(found)


def test_what_many_hosts_have_is_told_once() -> None:
    hosts = {f"web{number}": {"redis_memory_mib": "many"} for number in range(30)}
    (said,) = wrong_types(hosts, inputs_of_roles())
    assert said.endswith("(of web0 and others).")
