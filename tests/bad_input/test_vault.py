"""A vault of one's own, made as docs say, by a stranger in a clone; and one that the lab's password opens."""

from __future__ import annotations

import os
import pty
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs import published_vault
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.published_vault import PASSWORD, vaults_of_the_lab

ROOT = Path(__file__).resolve().parents[2]
OWN = "a-password-of-my-own"


def encrypted(password: bytes, text: str = "vault_secret_key: x\n") -> str:
    vault = VaultLib([("default", VaultSecret(password))])
    return bytes(vault.encrypt(text)).decode()


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What somebody has who cloned the repository, with an example copied beside it."""
    place = tmp_path_factory.mktemp("stranger")
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.rstrip("\0").split("\0"):
        if name.startswith(("inventories/", "docs/", "ansible.cfg")):
            (place / "slipway" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, place / "slipway" / name)
    shutil.copytree(place / "slipway/inventories/single", place / "my-app/inventory")
    return place / "slipway"


def type_into(command: list[str], directory: Path, answer: str, new: str = "") -> tuple[int, str]:
    """Exit code and output of a command at a terminal, where every question for a password gets the same answer.

    One for a new password gets `new`, where that is given.
    """
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(directory)
        os.environ["ANSIBLE_CONFIG"] = str(directory / "ansible.cfg")
        os.execvp(command[0], command)  # noqa: S606 - found on PATH, as a person would
    said = b""
    try:
        while chunk := os.read(terminal, 4096):
            said += chunk
            if asked := re.search(rb"[^\n]*assword[^\n]*: ?$", said):
                typed = new if new and b"new vault" in asked[0].lower() else answer
                os.write(terminal, f"{typed}\n".encode())
                said += b"\n"
    except OSError:  # how a terminal says that nobody has it any more
        pass
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status), said.decode()


def test_the_documented_command_encrypts_with_the_password_that_was_typed(clone: Path) -> None:
    page = (clone / "docs/hosts.md").read_text()
    command = re.search(r"`(ansible-vault encrypt [^`]+)`", page)
    assert command
    file = (clone / command[1].split()[-1]).resolve()
    shutil.copy(file.with_name("vault.yml.example"), file)
    code, said = type_into(command[1].split(), clone, OWN)
    assert code == 0, said
    text = file.read_text()
    assert text.startswith("$ANSIBLE_VAULT;1.2;AES256;prod")
    assert b"vault_secret_key" in VaultLib([("prod", VaultSecret(OWN.encode()))]).decrypt(text.encode())
    assert vaults_of_the_lab([str(clone.parent / "my-app/inventory")]) == []


def test_the_documented_command_gives_the_vault_another_password(clone: Path) -> None:
    command = re.search(r"^ +(ansible-vault rekey .+)$", (clone / "docs/rotation.md").read_text(), re.MULTILINE)
    assert command
    file = (clone / command[1].split()[-1]).resolve()
    vault = VaultLib([("prod", VaultSecret(OWN.encode()))])
    file.write_bytes(vault.encrypt(b"vault_secret_key: kept\n", vault_id="prod"))
    another = "another-password-of-my-own"
    code, said = type_into(command[1].split(), clone, OWN, another)
    assert code == 0, said
    text = file.read_bytes()
    assert text.startswith(b"$ANSIBLE_VAULT;1.2;AES256;prod")
    assert VaultLib([("prod", VaultSecret(another.encode()))]).decrypt(text) == b"vault_secret_key: kept\n"
    with pytest.raises(AnsibleError):
        vault.decrypt(text)


def test_the_command_without_an_id_asks_for_a_password_too(clone: Path) -> None:
    file = clone / "plain.yml"
    file.write_text("vault_secret_key: x\n")
    code, said = type_into(["ansible-vault", "encrypt", "plain.yml"], clone, OWN)
    assert code == 0, said
    assert "New Vault password" in said
    assert VaultLib([("default", VaultSecret(OWN.encode()))]).decrypt(file.read_bytes())


def test_the_password_of_the_lab_is_the_one_that_is_looked_for() -> None:
    lab = ROOT / "inventories/lab"
    assert (lab / ".vault_password").read_bytes().strip() == PASSWORD
    assert VaultLib([("default", VaultSecret(PASSWORD))]).decrypt((lab / "group_vars/all/vault.yml").read_bytes())


VALUE = "vault_secret_key: !vault |\n  " + encrypted(PASSWORD, "x").rstrip("\n").replace("\n", "\n  ") + "\nother: 1\n"


@pytest.mark.parametrize(
    ("place", "text", "found"),
    [
        ("group_vars/all/vault.yml", encrypted(PASSWORD), True),
        ("host_vars/web1.yml", VALUE, True),
        ("hosts.yml", f"web: {{}}\n{VALUE}", True),
        ("group_vars/all/vault.yml", encrypted(OWN.encode()), False),
        ("group_vars/all/vault.yml", "vault_secret_key: x\n", False),
        ("group_vars/all/vault.yml", "$ANSIBLE_VAULT;1.1;AES256\n6162\n", False),
    ],
)
@pytest.mark.parametrize("named_by_file", [True, False])
def test_a_vault_that_everybody_can_open_is_found(
    place: str, text: str, found: bool, named_by_file: bool, tmp_path: Path
) -> None:
    (tmp_path / "hosts.yml").write_text("web: {}\n")
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / place).write_text(text)
    source = tmp_path / "hosts.yml" if named_by_file else tmp_path
    assert vaults_of_the_lab([str(source)]) == ([str(tmp_path / place)] if found else [])


def test_the_lab_itself_may_have_it_and_a_copy_of_it_may_not(tmp_path: Path) -> None:
    assert ROOT / "inventories/lab" == published_vault.LAB
    assert vaults_of_the_lab([str(ROOT / "inventories/lab")]) == []
    (tmp_path / "group_vars").symlink_to(ROOT / "inventories/lab/group_vars")
    assert vaults_of_the_lab([str(tmp_path)]) == [], "as the scenarios have it"
    shutil.copytree(ROOT / "inventories/lab", tmp_path / "copy")
    assert vaults_of_the_lab([str(tmp_path / "copy")]) == [str(tmp_path / "copy/group_vars/all/vault.yml")]
