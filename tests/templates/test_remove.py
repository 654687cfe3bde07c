"""What a removal says that it leaves on a host, and what takes that away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

TASKS = Path(__file__).resolve().parents[2] / "playbooks/tasks/name_what_is_left.yml"
KEPT = "slipway_before_20261127t202259z_guestbook"
LOGIN = "guestbook_1a2b3c4d"
ROLES = (
    f"Still there: the roles guestbook, {LOGIN} of the database server, who may log in. When the databases are gone, "
    "on this host:"
)
OLD = "/var/lib/slipway/guestbook/volumes/.slipway-before-2026-11-27T20:22:59Z-uploads"
COMPOSE, NATIVE = "docker exec slipway-postgres-postgres-1 dropdb", "runuser -u postgres -- dropdb"


def left(**given: Any) -> list[str]:
    loader = DataLoader()
    block = loader.load_from_file(str(TASKS), trusted_as_template=True)[0]
    host = {"inventory_hostname": "web1", "groups": {"web": ["web1"], "data": ["web1"]}}
    variables = {**host, **block["vars"], **block["block"][-1]["vars"], **given}
    found: list[str] = Templar(loader=loader, variables=variables).template(variables["left"])
    return found


@pytest.mark.parametrize(("provider", "drop"), [("compose", COMPOSE), ("native", NATIVE)])
def test_what_restores_have_put_aside_is_named_with_the_command_that_deletes_it(provider: str, drop: str) -> None:
    said = left(
        postgres_database="guestbook",
        postgres_provider=provider,
        redis_provider="none",
        fastapi_app_remove_result={"volumes": [], "former": [OLD]},
        left_in_server_result={"stdout_lines": [f"database {KEPT}", "role guestbook", f"role {LOGIN}"]},
    )
    assert said == [
        f"Still there, since restores have put them aside: {OLD}. On this host: rm -r {OLD}",
        f"Still there: the database guestbook with all its data. On this host: {drop} guestbook",
        f"Still there, since restores have put them aside: the databases {KEPT}. On this host: {drop} {KEPT}",
        f"{ROLES} {drop[:-2]}user guestbook; {drop[:-2]}user {LOGIN}",
    ], "and no cache where there is none"


def test_a_host_without_data_says_nothing_of_it() -> None:
    assert left(groups={"web": ["web1"]}, postgres_database="guestbook", left_in_server_result={"skipped": True}) == []


def test_a_cache_and_backups_that_go_on_are_named() -> None:
    timers = ["slipway-backup-drill.timer enabled enabled", "slipway-backup.timer enabled enabled"]
    cache, backups = left(backups_result={"stdout_lines": timers}, postgres_provider="none")
    assert cache.endswith(
        "the cache with all its data. slipway.fleet.remove_cache -e slipway_remove_cache=redis deletes it."
    )
    assert "systemctl disable --now slipway-backup-drill.timer slipway-backup.timer, and take" in backups
