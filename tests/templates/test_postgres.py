from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.module_utils.host import files as tree

from tests.templates.rendering import Role

PASSWORD = "planted-secret-0123456789"


def role(**variables: Any) -> Role:
    return Role(
        "postgres",
        **{
            "postgres_database": "links",
            "postgres_user": "links_owner",
            "postgres_password": PASSWORD,
            "postgres_memory_mib": 1024,
            **variables,
        },
    )


def service(**variables: Any) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(role(**variables).render("compose.yaml.j2"))["services"]["postgres"]
    return found


def settings(**variables: Any) -> dict[str, str]:
    text = role(**variables).render("postgresql.conf.j2")
    return dict(line.split(" = ", 1) for line in text.splitlines() if not line.startswith("#"))


def test_the_container_can_do_as_little_as_possible() -> None:
    found = service()
    assert found["user"] == "999:999"
    assert found["cap_drop"] == ["ALL"]
    assert "cap_add" not in found
    assert found["read_only"] is True
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert found["restart"] == "unless-stopped"
    assert found["mem_limit"] == "1024m"


def test_it_is_published_only_when_that_is_wanted() -> None:
    assert "ports" not in service()
    assert service(postgres_publish="10.0.0.5:5432")["ports"] == ["10.0.0.5:5432:5432"]


@pytest.mark.parametrize(
    "template", ["compose.yaml.j2", "postgresql.conf.j2", "pg_hba.conf.j2", "ensure.sh.j2", "retire.sh.j2"]
)
def test_the_password_is_in_no_file_that_others_can_read(template: str) -> None:
    assert PASSWORD not in role().render(template)


def test_the_password_is_one_file_of_the_container_s_user() -> None:
    holding = [item for item in role().value("__postgres_files") if PASSWORD in str(item.get("content"))]
    assert [item["dest"] for item in holding] == ["/opt/slipway/postgres/secrets/POSTGRES_PASSWORD"]
    assert holding[0]["mode"] == "0400"
    assert holding[0]["owner"] == "999"
    assert holding[0]["secret"] is True


@pytest.mark.parametrize(
    ("memory", "connections", "shared_buffers", "work_mem"),
    [
        (128, 100, "32MB", "4MB"),
        (1024, 100, "256MB", "4MB"),
        (16384, 100, "4096MB", "40MB"),
        (16384, 400, "4096MB", "10MB"),
    ],
)
def test_settings_follow_the_memory(memory: int, connections: int, shared_buffers: str, work_mem: str) -> None:
    found = settings(postgres_memory_mib=memory, postgres_max_connections=connections)
    assert found["shared_buffers"] == f"'{shared_buffers}'"
    assert found["work_mem"] == f"'{work_mem}'"
    assert found["max_connections"] == f"'{connections}'"


def test_memory_is_two_fifths_of_the_host_s() -> None:
    assert int(Role("postgres", ansible_facts={"memtotal_mb": 4096}).value("postgres_memory_mib")) == 1638
    assert int(Role("postgres", ansible_facts={}).value("postgres_memory_mib")) == 409


def test_the_limits_in_seconds_are_the_user_s() -> None:
    check = service(postgres_start_deadline=900, postgres_check_timeout=40)["healthcheck"]
    assert (check["start_period"], check["timeout"]) == ("900s", "40s")


def test_own_settings_come_last() -> None:
    found = settings(postgres_settings={"work_mem": "64MB", "jit": False, "timezone": None, "application_name": "it's"})
    assert found["work_mem"] == "'64MB'"
    assert found["jit"] == "'off'"
    assert found["application_name"] == "'it''s'"
    assert "timezone" not in found


def test_new_settings_are_a_new_container_and_a_new_password_is_not() -> None:
    assert service()["labels"] != service(postgres_settings={"jit": False})["labels"]
    assert service() == service(postgres_password="another-secret-0123456789")


def test_only_the_app_comes_over_the_network() -> None:
    lines = [line for line in role().render("pg_hba.conf.j2").splitlines() if not line.startswith("#")]
    assert lines == [
        "local all postgres peer",
        "host links links_owner all scram-sha-256",
        "host links +links_owner all scram-sha-256",
    ]


def test_a_server_that_runs_is_not_replaced_for_another_login() -> None:
    """Nor for the line by which members are let in, which servers of earlier versions do not have."""
    assert service() == service(postgres_login="links_owner_1a2b3c4d")
    known = role().value("lookup('ansible.builtin.template', 'postgresql.conf.j2')") + "".join(
        line for line in role().render("pg_hba.conf.j2").splitlines(keepends=True) if " +" not in line
    )
    assert service()["labels"]["slipway.config"] == hashlib.sha256(known.encode()).hexdigest()


def test_the_script_that_runs_in_the_container_is_plain_shell() -> None:
    subprocess.run(["sh", "-n"], input=role().render("ensure.sh.j2"), text=True, check=True)


def test_the_rules_read_the_variables_as_ansible_renders_them() -> None:
    assert role().value("__postgres_wrong_values") == []
    (said,) = role(postgres_password="{{ 'change' ~ 'me' }}").value("__postgres_wrong_values")
    assert said.startswith("postgres_password is a placeholder")


def served(found: Role, directory: Path) -> list[tree.Change]:
    """What putting the file that says whom the server lets in would change."""
    item = {**found.value("__postgres_served_file"), "dest": str(directory / "pg_hba.conf")}
    return tree.plan(tree.parse([item], {"0": found.render("pg_hba.conf.j2")}), check=True)


@pytest.mark.parametrize("provider", ["compose", "native"])
def test_a_server_of_another_app_is_refused_by_its_database(provider: str, tmp_path: Path) -> None:
    (tmp_path / "pg_hba.conf").write_text(role(postgres_provider=provider).render("pg_hba.conf.j2"))
    with pytest.raises(tree.TreeError) as refused:
        served(role(postgres_database="shop", postgres_user="shop"), tmp_path)
    assert "serves another app, by database and user: links links_owner." in str(refused.value)
    assert "in favour of shop shop" in str(refused.value)
    other = {"compose": "native", "native": "compose"}[provider]
    served(role(postgres_provider=other), tmp_path)
    served(role(postgres_publish="10.0.0.5:5432"), tmp_path)


@pytest.mark.parametrize(
    ("image", "refused"),
    [
        ("postgres:18", True),
        ("registry.example:5000/postgres:18.1-alpine", True),
        ("postgres@sha256:17aa", True),
        ("postgres:17.9", False),
        ("registry.example:5000/db/postgres:17@sha256:18aa", False),
    ],
)
def test_a_server_of_another_major_version_is_refused(image: str, refused: bool, tmp_path: Path) -> None:
    found = role(postgres_image=image)
    file = tmp_path / "compose.yaml"
    file.write_text(role(postgres_image="registry.example:5000/postgres:17.2").render("compose.yaml.j2"))
    item = {**found.value("__postgres_compose_file"), "dest": str(file), "owner": None, "group": None}
    items = tree.parse([item], {"0": found.render("compose.yaml.j2")})
    if refused:
        with pytest.raises(tree.TreeError, match=f"is of PostgreSQL 17, which {re.escape(image)} would not read"):
            tree.plan(items, check=True)
    else:
        tree.plan(items, check=True)


def native(**variables: Any) -> Role:
    return role(postgres_provider="native", **variables)


def test_the_packaged_server_listens_on_its_socket_alone() -> None:
    text = native().render("postgresql.conf.j2")
    assert "listen_addresses = ''" in text
    assert "hba_file = '/opt/slipway/postgres/config/pg_hba.conf'" in text
    access = native().render("pg_hba.conf.j2")
    assert "local links links_owner scram-sha-256" in access
    assert "\nhost " not in access
    published = native(postgres_publish="10.0.0.5:5433")
    assert "listen_addresses = '10.0.0.5'\nport = '5433'" in published.render("postgresql.conf.j2")
    assert "host links links_owner all scram-sha-256" in published.render("pg_hba.conf.j2")


def test_the_packaged_server_is_tuned_like_the_one_in_a_container() -> None:
    own = ("listen_addresses", "hba_file")
    packaged = dict(line.split(" = ", 1) for line in native().render("postgresql.conf.j2").splitlines()[1:])
    assert {k: v for k, v in packaged.items() if k not in own} == {k: v for k, v in settings().items() if k not in own}


def test_the_packaged_server_has_its_password_in_one_file() -> None:
    for template in ("postgresql.conf.j2", "pg_hba.conf.j2", "ensure.sh.j2", "createcluster.conf.j2"):
        assert PASSWORD not in native().render(template)
    assert "/opt/slipway/postgres/secrets/POSTGRES_PASSWORD" in native().render("ensure.sh.j2")
    files = native().value("__postgres_native_files")
    secret = next(item for item in files if item["dest"].endswith("POSTGRES_PASSWORD"))
    assert (secret["owner"], secret["mode"]) == ("postgres", "0400")
    assert "/etc/postgresql/17/main/conf.d/slipway.conf" in [item["dest"] for item in files]
