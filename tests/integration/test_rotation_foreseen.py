"""A rotation says all that stands against it at once, before anything is changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.filter.fleet import foreseen

from tests.unit.fleet.memory import fleet

ROOT = Path(__file__).resolve().parents[2]
LOCAL = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": sys.executable}
SHARED = {
    "fastapi_app_name": "links",
    "fastapi_app_secrets": {"SECRET_KEY": "for-tests-only-and-long-enough"},
    "fastapi_image_source": "pull",
    "fastapi_image_name": "127.0.0.1:1/links:1",
    "postgres_provider": "none",
    "redis_password": "b" * 24,
    "redis_instance": "nowhere",
}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "nothing was changed; the controller cannot reach the registry 127.0.0.1:1"),
        ({"fastapi_app_workers": 0}, "fastapi_app_workers is 0; use at least 1"),
    ],
    ids=["no image", "a wrong value"],
)
def test_all_of_it_is_in_one_message(more: dict[str, Any], said: str, tmp_path: Path) -> None:
    web = {"web1": {"ansible_host": "127.0.0.1", "ansible_port": 1}}
    hosts = {"web": {"hosts": web}, "data": {"hosts": {"db1": LOCAL, "db2": LOCAL | {"redis_provider": "none"}}}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": hosts, "vars": SHARED | more}}))
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(tmp_path / "hosts.yml")]
    ran = subprocess.run(
        [*command, str(ROOT / "playbooks/rotate.yml")], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 2, ran.stdout + ran.stderr
    (told,) = ran.stdout.split("fatal: [web1]")[1:]
    assert said in told
    assert "web1: no value of fastapi_app_secrets or fastapi_app_environment has what redis_password is" in told
    assert "db1: The cache was not changed. db1 has none of Slipway's yet" in told
    assert "db2: " not in told
    assert "Hold the fleet" not in ran.stdout


def test_what_hosts_lack_is_told_with_the_code_that_would_come_along() -> None:
    there = fleet(2)
    there.usual["activate"] = {"about": {"image": "app:new"}}
    there.hosts[1].problems = ["disk: /opt/slipway/links has 12 MiB free"]
    report = there.run(same_content=True, besides=["db1: has no cache"])
    assert report.word == "refused"
    first, second, third = report.message.split("\n")
    assert first == "nothing was changed; web2 cannot take a release: disk: /opt/slipway/links has 12 MiB free"
    assert second.startswith("web1 serves app:old, and this checkout and inventory make app:new; web2 serves app:old")
    assert third == "db1: has no cache"
    assert not any(host.asked("hold") for host in there.hosts)


def test_what_stands_against_it_elsewhere_refuses_hosts_that_could_take_it() -> None:
    there = fleet(2)
    report = there.run(besides=["db1: has no cache"])
    assert (report.word, report.message) == ("refused", "nothing was changed; db1: has no cache")
    assert not any(host.asked("hold") for host in there.hosts)


def test_what_an_app_is_not_told_is_said_once_and_by_its_own_host() -> None:
    told = {"slipway_told_result": {"msg": " web1: no value has what redis_password is."}}
    cache = {"slipway_cache_result": {"msg": "none here"}}
    hosts: dict[str, dict[str, Any]] = {"db1": told | cache, "db2": told, "db3": {}}
    assert foreseen(list(hosts), hosts) == ["web1: no value has what redis_password is.", "db1: none here"]
