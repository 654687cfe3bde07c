"""A file that is called vault and is none is told, with what encrypts it; one of another name is nobody's business."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.plain_vault import (
    plain_vaults,
    readable_by_everybody,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.published_vault import LAB

PLAIN = "---\nvault_secret_key: a-secret-that-everybody-reads\n"
WHOLE = VaultLib([("default", VaultSecret(b"own"))]).encrypt(PLAIN).decode()
VALUE = "vault_secret_key: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  3031\n"


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("group_vars/all/vault.yml", PLAIN, True),
        ("group_vars/all/vault", PLAIN, True),
        ("host_vars/web1/prod-vault.yaml", PLAIN, True),
        ("group_vars/all/vault/database.yml", PLAIN, True),
        ("vault.yml", PLAIN, True),
        ("group_vars/all/vault.yml", "a:\n  b: [x]\n", True),
        ("group_vars/all/vault.yml", "a: !unsafe secret\n", True),
        ("group_vars/all/vault.yml", WHOLE, False),
        ("group_vars/all/vault.yml", VALUE, False),
        ("group_vars/all/vault.yml", "a: \"{{ lookup('env', 'A') }}\"\nb: ''\n", False),
        ("group_vars/all/vault.yml", "# nothing yet\n", False),
        ("group_vars/all/vault.yml", "a: [\n", False),
        ("group_vars/all/vault.yml.example", PLAIN, False),
        ("group_vars/all/secrets.yml", PLAIN, False),
        ("group_vars/all/defaults.yml", PLAIN, False),
        ("group_vars/vault.yml", PLAIN, False),
        ("group_vars/vault/main.yml", PLAIN, False),
        ("host_vars/vault1.example.com.yml", PLAIN, False),
    ],
)
def test_which_files_are_told(tmp_path: Path, name: str, text: str, told: bool) -> None:
    (tmp_path / "hosts.yml").write_text("all:\n")
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    assert plain_vaults([str(tmp_path)]) == ([str(file)] if told else [])
    # Ansible reads what lies beside a file no more than Slipway does.
    assert plain_vaults([str(tmp_path / "hosts.yml")]) == ([str(file)] if told and "/" in name else [])


def test_a_list_of_hosts_and_the_lab_s_own_are_no_matter() -> None:
    assert plain_vaults(["web1,", str(LAB)]) == []


def test_it_is_told_what_encrypts_it() -> None:
    assert "ansible-vault encrypt --vault-id NAME@prompt inv/group_vars/all/vault.yml" in (
        readable_by_everybody("inv/group_vars/all/vault.yml")
    )
