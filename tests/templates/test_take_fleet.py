"""Which hosts make a set before migrations, and when the database is said to be elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar

TASKS = Path(__file__).resolve().parents[2] / "playbooks/tasks/take_fleet.yml"
DUMPED = {"backup_database_elsewhere": {"host": "db.example.com"}}
KEPT, ELSEWHERE = {"backup_repository": "/mnt/backup"}, {"postgres_provider": "none"}


@pytest.mark.parametrize(
    ("data", "web", "savers", "unsaved"),
    [
        ({}, {}, [], []),
        ({}, {"web1": KEPT}, ["web1"], []),
        ({"db1": KEPT}, {"web1": KEPT}, ["db1"], []),
        ({"db1": KEPT, "redis1": KEPT | ELSEWHERE}, {}, ["db1"], []),
        ({"db1": {"postgres_provider": "compose"}, "redis1": KEPT | ELSEWHERE}, {"web1": KEPT}, [], []),
        ({"redis1": KEPT | ELSEWHERE}, {"web1": KEPT, "web2": {}}, ["redis1", "web1"], ["redis1"]),
        ({"redis1": KEPT | ELSEWHERE, "redis2": ELSEWHERE}, {}, ["redis1"], ["redis1", "redis2"]),
        ({"redis1": KEPT | ELSEWHERE | DUMPED}, {"web1": KEPT}, ["redis1"], []),
        ({"redis1": ELSEWHERE}, {"web1": KEPT | DUMPED}, ["web1"], []),
        ({"redis1": ELSEWHERE}, {}, [], []),
    ],
)
def test_who_makes_sets(data: dict[str, Any], web: dict[str, Any], savers: list[str], unsaved: list[str]) -> None:
    loader = DataLoader()
    task = loader.load_from_file(str(TASKS), trusted_as_template=True)[0]
    hosts = {name: {"inventory_hostname": name, **own} for name, own in (data | web).items()}
    groups = {"web": list(web)} | ({"data": list(data)} if data else {})
    variables = {"groups": groups, "hostvars": hosts, **task["vars"]}
    given = {name: task["slipway.fleet.rollout"][name] for name in ("savers", "unsaved")}
    assert Templar(loader=loader, variables=variables).template(given) == {"savers": savers, "unsaved": unsaved}


def test_who_rehearses_for_a_host_of_the_database() -> None:
    loader = DataLoader()
    task = loader.load_from_file(str(TASKS), trusted_as_template=True)[0]
    drills = KEPT | {"backup_drill_of": "db1"}
    own = {"db1": KEPT, "web1": KEPT | {"backup_drill_of": ""}, "web2": drills, "web3": drills, "web4": {}}
    hosts = {name: {"inventory_hostname": name, **more} for name, more in own.items()}
    groups = {"web": ["web1", "web2", "web3", "web4"], "data": ["db1"]}
    variables = {"groups": groups, "hostvars": hosts, **task["vars"]}
    given = task["slipway.fleet.rollout"]["rehearsers"]
    assert Templar(loader=loader, variables=variables).template(given) == {"db1": "web2"}
