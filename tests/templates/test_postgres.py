from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.module_utils.host import files as tree
from ansible_collections.slipway.fleet.plugins.modules import postgres

from tests.templates.rendering import ROOT, Role

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


def tasks(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load((ROOT / "roles/postgres/tasks" / f"{name}.yml").read_text())
    return found


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


@pytest.mark.parametrize("provider", ["compose", "native"])
def test_the_passwords_are_in_no_file_of_the_host(provider: str) -> None:
    """What a server keeps of them is sent to it, and nothing else has to know them."""
    found = role(postgres_provider=provider, postgres_databases={"geo": {"password": PASSWORD + "-geo"}})
    for template in ("compose.yaml.j2", "postgresql.conf.j2", "createcluster.conf.j2", "adopt.sh.j2"):
        assert PASSWORD not in found.render(template)
    assert PASSWORD not in str(found.value("__postgres_files + __postgres_native_files"))
    assert PASSWORD not in str(found.value("__postgres_app"))
    assert found.value("__postgres_wanted.passwords") == {"links_owner": PASSWORD, "geo": PASSWORD + "-geo"}


@pytest.mark.parametrize(("provider", "secrets"), [("compose", ["/opt/slipway/postgres/secrets"]), ("native", [])])
def test_what_earlier_versions_put_there_goes(provider: str, secrets: list[str]) -> None:
    """But for what a container of theirs has mounted, which goes on running beside a native server."""
    (block,) = [one["block"] for one in tasks(f"provider_{provider}") if "block" in one]
    files = role(postgres_provider=provider).value(block[-1]["slipway.fleet.tree"]["files"].strip("{} "))
    assert {item["state"] for item in files} == {"absent"}
    assert [item["dest"] for item in files] == ["/opt/slipway/postgres/config/ensure.sh", *secrets]


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
    assert service() == service(postgres_databases={"geo": {"password": PASSWORD}}), "no app restarts it for another"
    assert service() == service(postgres_login="links_owner_1a2b3c4d")


def test_the_rules_read_the_variables_as_ansible_renders_them() -> None:
    assert role().value("__postgres_wrong_values") == []
    (said,) = role(postgres_password="{{ 'change' ~ 'me' }}").value("__postgres_wrong_values")
    assert said.startswith("postgres_password is a placeholder")


@pytest.mark.parametrize(
    ("provider", "published", "network"),
    [("compose", "", True), ("native", "", False), ("native", "10.0.0.5:5432", True)],
)
def test_what_the_host_is_told_of_the_app(provider: str, published: str, network: bool) -> None:
    more = {"geo": {"extensions": ["postgis"]}, "links": {"extensions": ["pg_trgm"]}}
    told = role(postgres_provider=provider, postgres_publish=published, postgres_databases=more).value("__postgres_app")
    assert told["databases"] == [
        {"name": "links", "user": "links_owner", "extensions": ["pg_trgm"]},
        {"name": "geo", "user": "geo", "extensions": ["postgis"]},
    ]
    assert (told["app"], told["network"]) == ("links", network)
    assert told["settings"]["postgres_publish"] == published
    assert set(told) < set(postgres.ARGUMENTS)


def test_the_host_is_told_the_login_of_each_role_that_has_one() -> None:
    """And nothing of logins where there are none, as it always was."""
    more = {"geo": {"login": "geo_1a2b3c4d"}, "maps": {"user": "geo"}, "stats": {}, "stock": {"user": "links_owner"}}
    told = role(postgres_login="links_owner_5e6f7a8b", postgres_databases=more).value("__postgres_app.databases")
    assert {one["name"]: one.get("login") for one in told} == {
        "links": "links_owner_5e6f7a8b",
        "geo": "geo_1a2b3c4d",
        "maps": "geo_1a2b3c4d",
        "stats": None,
        "stock": "links_owner_5e6f7a8b",
    }
    assert not any("login" in one for one in role(postgres_login="links_owner").value("__postgres_app.databases"))


def test_the_app_is_that_of_the_inventory_where_it_has_one() -> None:
    assert role(fastapi_app_name="links-web").value("__postgres_app.app") == "links-web"


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
    published = native(postgres_publish="10.0.0.5:5433")
    assert "listen_addresses = '10.0.0.5'\nport = '5433'" in published.render("postgresql.conf.j2")


def test_the_packaged_server_is_tuned_like_the_one_in_a_container() -> None:
    own = ("listen_addresses", "hba_file")
    packaged = dict(line.split(" = ", 1) for line in native().render("postgresql.conf.j2").splitlines()[1:])
    assert {k: v for k, v in packaged.items() if k not in own} == {k: v for k, v in settings().items() if k not in own}


def test_the_packaged_server_reads_the_role_s_settings() -> None:
    files = native().value("__postgres_native_files")
    assert "/etc/postgresql/17/main/conf.d/slipway.conf" in [item["dest"] for item in files]
