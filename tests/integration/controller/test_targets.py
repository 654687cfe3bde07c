"""What hosts are to serve: the same, byte for byte, as when each variable is rendered by itself, for each host anew."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecret
from ansible.template import Templar
from ansible.template import trust_as_template as trusted
from ansible.vars.manager import VariableManager
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller import targets
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.compiling import compiled_once
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.files import rendered
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.rendering import Renderer
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.roles import RoleVariables
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import target

ROOT = Path(__file__).resolve().parents[3]
CONTENTS = {
    "image": {"request": "__fastapi_image_request", "wrong": "__fastapi_image_wrong_values"},
    "package": {"request": "__fastapi_package_request"},
}
PASSWORDS = dict.fromkeys(("vault_postgres_password", "vault_redis_password", "vault_secret_key"), "a" * 24)
SYSTEMD = {"fastapi_app_runtime": "systemd", "fastapi_app_command": ["gunicorn", "app.main:app"]}
# What differs between hosts of one fleet, so that nothing of one is found in another.
OWN: tuple[dict[str, Any], ...] = (
    {},
    {"fastapi_app_workers": 7, "fastapi_app_secrets": {"SECRET_KEY": "b" * 24}},
    {
        **SYSTEMD,
        "fastapi_app_environment": {
            "WHERE": trusted("{{ inventory_hostname }}"),
            "MADE_OF": trusted("{{ fastapi_app_image }}"),
        },
    },
    {
        "fastapi_app_name": "other",
        "fastapi_app_port": 8000,
        "fastapi_app_host_names": [trusted("{{ fastapi_app_name }}.example")],
    },
    {**SYSTEMD, "fastapi_app_hardening": {"MemoryDenyWriteExecute": False}, "fastapi_app_addresses": ["192.0.2.7"]},
    {},
)


class Inventory:
    """An inventory of this repository as a play reads it that loaded the roles."""

    def __init__(self, name: str) -> None:
        self.loader = DataLoader()
        self.loader.set_basedir(str(ROOT / "playbooks"))
        password = ROOT / "inventories/lab/.vault_password"
        self.loader.set_vault_secrets([("default", VaultSecret(password.read_bytes().strip()))])
        inventory = InventoryManager(loader=self.loader, sources=[str(ROOT / "inventories" / name)])
        self._manager = VariableManager(loader=self.loader, inventory=inventory)
        self.hosts = {host.name: host for host in inventory.get_hosts("web")}
        self._roles = RoleVariables(self.loader, ("fastapi_image", "fastapi_package", "fastapi_app"))

    def variables(self, host: str, **given: Any) -> dict[str, Any]:
        found = self._roles.beside(self._manager.get_vars(host=self.hosts[host], include_hostvars=False))
        own = {"inventory_hostname": host, "playbook_dir": str(ROOT / "playbooks"), "ansible_search_path": []}
        return {**found, **PASSWORDS, **own, "ansible_play_hosts_all": list(self.hosts), **given}


def by_itself(loader: DataLoader, asked: targets.Asked, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The target of a host without anything that is made once."""
    known = {**variables, "ansible_search_path": [str(targets.ROLE)]}
    templar = Templar(loader=loader, variables=known)
    kind = {"compose": "image", "systemd": "package"}[templar.template(known["fastapi_app_runtime"])]
    source = CONTENTS[kind]
    content = {"kind": kind, "request": templar.template(known[source["request"]])}
    marked = {**known, **targets.UNKNOWN, "__fastapi_app_release": target.RELEASE}
    marked["__fastapi_app_serving"] = target.SERVING
    templar = Templar(loader=loader, variables=marked)
    found = templar.template(marked[asked.what])
    files, contents = rendered(Renderer(templar, loader), found.pop("files", []), marked)
    return {"target": {**found, "files": files, "contents": contents}, "content": {**source, **content}}


def text(found: Mapping[str, Any]) -> str:
    content = {name: value for name, value in found["content"].items() if name != "wrong"}
    return json.dumps([found["target"], content], sort_keys=True, indent=1)


@pytest.mark.parametrize("asked", [targets.NEW, targets.PRESENT], ids=["new", "present"])
@pytest.mark.parametrize("inventory", ["lab", "fleet", "single"])
def test_what_is_made_once_changes_nothing(inventory: str, asked: targets.Asked) -> None:
    read = Inventory(inventory)
    fleet = [read.variables(host, **own) for host in read.hosts for own in OWN]
    expected = [text(by_itself(read.loader, asked, variables)) for variables in fleet]
    made = targets.Targets(Templar(loader=read.loader), read.loader, asked, CONTENTS)
    with compiled_once():
        found = [made.of(variables) for variables in fleet]
    assert [one.get("wrong") for one in found] == [None] * len(fleet)
    assert [text(one) for one in found] == expected
    # Hosts with nothing of their own are equal, but for the one with the singletons; those that name themselves in
    # their environment are not.
    alike = min(len(read.hosts), 2)
    assert len(set(expected)) == ((len(OWN) - 2) * alike + len(read.hosts) if asked is targets.NEW else 3 * alike)


def test_each_host_is_told_what_is_wrong_with_its_own_variables() -> None:
    read = Inventory("single")
    (host,) = read.hosts
    made = targets.Targets(Templar(loader=read.loader), read.loader, targets.NEW, CONTENTS)
    with compiled_once():
        found = [
            made.of(read.variables(host, **own)).get("wrong", [])
            for own in (
                {"fastapi_app_workers": 0},
                {},
                {"fastapi_app_workers": "many"},
                {"fastapi_app_environment": {"A": trusted("{{ nowhere }}")}},
                {"fastapi_app_runtime": "podman"},
                {"fastapi_app_secrets": {"KEY": trusted("{{ vault_secretkey }}")}},
                # Others are made of them, and cannot be rendered.
                {"fastapi_app_host_names": "links.example.org"},
                {"fastapi_app_host_names": None},
                {"fastapi_app_host_names": trusted("{{ fastapi_app_name }}.example.org")},
                {"fastapi_app_secrets": "KEY=value"},
            )
        ]
    assert found[0] == ["fastapi_app_workers is 0; use at least 1."]
    assert found[1] == []
    assert found[2] == ["fastapi_app_workers is text and must be a whole number, such as `fastapi_app_workers: 2`"]
    assert found[3] == ["'nowhere' is undefined, which fastapi_app_environment.A uses"]
    assert "compose, systemd" in found[4][0]
    said = "'vault_secretkey' is undefined, which fastapi_app_secrets.KEY uses; did you mean vault_secret_key? If not, "
    assert [one.partition("add it to the vault")[0] for one in found[5]] == [said]
    names = "and must be a list, such as `fastapi_app_host_names: [value]`"
    assert found[6] == found[8] == [f"fastapi_app_host_names is text {names}"]
    assert found[7] == [f"fastapi_app_host_names is nothing {names}"]
    assert found[9] == [
        "fastapi_app_secrets is text and must be a mapping, such as `fastapi_app_secrets: {name: value}`"
    ]


FIVE_LINES = """
fastapi_app_name: titiler
fastapi_app_host_names: [tiles.example.org]
fastapi_image_name: registry.example.org/titiler:2.4.0
fastapi_app_port: 80
fastapi_app_health_path: /healthz
"""


@pytest.mark.parametrize(
    ("more", "content"),
    [
        ("", ("pull", "registry.example.org/titiler:2.4.0")),
        ("fastapi_image_source: ship", ("ship", "registry.example.org/titiler:2.4.0")),
        ("fastapi_image_context: '{{ inventory_dir }}/..'", None),
        ("fastapi_image_source: build", None),
        ("fastapi_image_name:", ("build", "slipway/titiler")),
    ],
)
def test_five_lines_name_an_image_that_is_pulled(tmp_path: Path, more: str, content: tuple[str, str] | None) -> None:
    """A name that a build would drop without a word is refused."""
    (tmp_path / "hosts.yml").write_text("web: {hosts: {web-a: {}}}\n")
    (tmp_path / "group_vars").mkdir()
    own = yaml.safe_load(FIVE_LINES) | (yaml.safe_load(more) if more else {})
    (tmp_path / "group_vars/web.yml").write_text(yaml.safe_dump(own))
    read = Inventory(str(tmp_path))
    made = targets.Targets(Templar(loader=read.loader), read.loader, targets.NEW, CONTENTS)
    with compiled_once():
        found = made.of(read.variables("web-a"))
    if content is None:
        assert [words for words in found["wrong"] if "but a build takes none" in words]
        return
    request = found["content"]["request"]
    assert (request["source"], request["name"]) == content


def test_a_number_of_the_command_line_is_a_number() -> None:
    """`-e fastapi_app_soak=2` is text for Ansible."""
    read = Inventory("single")
    (host,) = read.hosts
    made = targets.Targets(Templar(loader=read.loader), read.loader, targets.NEW, CONTENTS)
    given: tuple[dict[str, Any], ...] = (
        {"fastapi_app_soak": "2", "fastapi_app_workers": "3", "fastapi_app_read_only": "no"},
        {"fastapi_app_soak": 2.0, "fastapi_app_workers": 3, "fastapi_app_read_only": False},
    )
    with compiled_once():
        typed, meant = (made.of(read.variables(host, **own)) for own in given)
    assert typed["target"]["activate"]["soak"] == 2
    assert text(typed) == text(meant)


def test_what_they_cost_can_be_measured() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "bench.targets", "1"], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert told.stdout.splitlines()[-1].startswith("| 1 | ")
