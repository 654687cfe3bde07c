"""A run that could only do nothing is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.errors import AnsibleError
from ansible.inventory.group import Group
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible.plugins.loader import vars_loader
from ansible_collections.slipway.fleet.plugins.action.guard import no_hosts, no_tasks
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.unreadable import unreadable

GROUPS = {"web": ["web1", "web2"], "data": ["data1"], "all": ["web1", "web2", "data1"]}


@pytest.mark.parametrize(
    ("over", "chosen", "limit", "words"),
    [
        (["web"], ["localhost", "web1", "web2", "data1"], "", ""),
        (["web"], ["web2"], "web2", ""),
        (["web", "data"], ["data1"], "data1", ""),
        (["web"], ["data1"], "data1", "--limit data1 leaves none of them. They are: web1, web2."),
        (["load_balancer"], ["localhost"], "", "has no hosts in the group load_balancer, so nothing was done"),
    ],
)
def test_no_hosts(over: list[str], chosen: list[str], limit: str, words: str) -> None:
    said = no_hosts(over, GROUPS, chosen, "hosts.yml", limit)
    assert words in said
    assert bool(said) == bool(words)


@pytest.mark.parametrize(
    ("own", "named", "skipped", "refused"),
    [
        (["always"], ["all"], [], ""),
        (["always"], ["untagged"], [], ""),
        (["always"], ["deploy"], [], "the tag deploy, so --tags"),
        (["always"], ["always"], [], "the tag always, so --tags"),
        (["always", "app"], ["app"], [], ""),
        (["always", "app"], ["other"], [], "the tag other, so --tags"),
        (["always"], ["all"], ["deploy"], ""),
        (["always"], ["all"], ["deploy", "all"], "--skip-tags all,deploy leaves no task"),
        (["always", "app"], ["all"], ["all"], "--skip-tags all leaves no task"),
        (["always"], ["all"], ["untagged"], "--skip-tags untagged leaves no task"),
        (["always", "app"], ["all"], ["untagged"], ""),
    ],
)
def test_tags_that_leave_no_task(own: list[str], named: list[str], skipped: list[str], refused: str) -> None:
    said = no_tasks(own, named, skipped)
    assert refused in said
    assert bool(said) == bool(refused)


@pytest.mark.parametrize(
    ("text", "place", "password"),
    [
        ("---\na: [b\nc: d\n", ":3:2: YAML parsing failed", False),
        ("a:\n\tb: 1\n", ":2:1: YAML parsing failed: Tabs", False),
        ('a: "\0"\n', ": YAML parsing failed", False),
        ("$ANSIBLE_VAULT;1.1;AES256\n6162\n", ": A vault password must be", True),
        ("- a\n", "", False),
    ],
    ids=["a list that is not closed", "a tab", "no place in it", "a vault", "not a dictionary"],
)
def test_a_file_that_cannot_be_read_is_named(text: str, place: str, password: bool, tmp_path: Path) -> None:
    file = tmp_path / "group_vars/web/app.yml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    reader = vars_loader.get("host_group_vars")
    with pytest.raises(AnsibleError) as raised:
        reader.get_vars(DataLoader(), str(tmp_path), [Group("web")])
    said = unreadable(raised.value)
    assert f"{file}{place}" in said
    assert said.count("..") == 0
    assert ("--vault-password-file" in said) == password


@pytest.mark.parametrize("added", ["vault_new: x\n", "v: 1\nw: 22\n"])
def test_a_vault_to_which_plain_text_was_added_is_told_as_that(added: str, tmp_path: Path) -> None:
    library = VaultLib([("default", VaultSecret(b"a password"))])
    file = tmp_path / "group_vars/web/vault.yml"
    file.parent.mkdir(parents=True)
    file.write_bytes(library.encrypt("vault_old: y\n") + added.encode())
    loader = DataLoader()
    loader.set_vault_secrets([("default", VaultSecret(b"a password"))])
    with pytest.raises(AnsibleError) as raised:
        vars_loader.get("host_group_vars").get_vars(loader, str(tmp_path), [Group("web")])
    said = unreadable(raised.value)
    assert f"{file}: Vault format unhexlify error" in said
    assert said.endswith("was something added to it without ansible-vault edit?")
    assert "--vault-password-file" not in said


def test_what_is_no_file_is_told_as_it_is() -> None:
    told = "The variables of this inventory cannot be read: no such plugin. Nothing was done."
    assert unreadable(AnsibleError("no such plugin")) == told
