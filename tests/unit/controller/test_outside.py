"""Whether the controller has elsewhere what a lost fleet is made again from, with a real Git."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible import constants, context
from ansible.module_utils.common.collections import ImmutableDict
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller import outside


def git(place: Path, *words: str) -> None:
    named = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    subprocess.run(["git", "-C", str(place), *named, *words], check=True, capture_output=True)


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """One in a repository of Git that was pushed."""
    place = tmp_path / "shop" / "inventory"
    place.mkdir(parents=True)
    (place / "hosts.yml").write_text("all:\n")
    git(tmp_path, "init", "--quiet", "--bare", "remote")
    git(place.parent, "init", "--quiet", "--initial-branch=main")
    git(place.parent, "add", "--all")
    git(place.parent, "commit", "--quiet", "--message=one")
    git(place.parent, "remote", "add", "origin", str(tmp_path / "remote"))
    git(place.parent, "push", "--quiet", "--set-upstream", "origin", "main")
    return place


def said(inventory: Path, *passwords: Path) -> list[str]:
    return list(outside.kept([str(inventory), str(inventory)], passwords))


def test_an_inventory_that_is_kept(inventory: Path, tmp_path: Path) -> None:
    first, second = said(inventory, tmp_path / "password")
    assert first == f"inventory {inventory}: in Git, and pushed"
    assert second.startswith(f"the vault's password: {tmp_path}/password; have it where a fire does not reach both")
    assert said(inventory / "hosts.yml")[0].endswith("hosts.yml: in Git, and pushed")


def test_what_is_on_this_machine_alone(inventory: Path) -> None:
    (inventory / "vault.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n")
    assert said(inventory)[0].endswith("1 of its files is not committed")
    (inventory / ".gitignore").write_text("vault.yml\n")
    git(inventory, "add", ".gitignore")
    git(inventory, "commit", "--quiet", "--message=two")
    assert said(inventory)[0].endswith("1 of its files is not committed, 1 of its commits is not pushed")
    git(inventory, "remote", "remove", "origin")
    assert said(inventory)[0].endswith("1 of its files is not committed, its Git repository has no remote")


@pytest.mark.parametrize("ignored", ["", "shop-two/\n"], ids=["new", "ignored"])
def test_of_a_directory_that_git_does_not_have_each_file_counts(inventory: Path, ignored: str) -> None:
    (inventory.parent / ".git/info/exclude").write_text(ignored)
    other = inventory.parent / "shop-two"
    for file in ("hosts.yml", "group_vars/web/app.yml", "group_vars/all/vault.yml"):
        (other / file).parent.mkdir(parents=True, exist_ok=True)
        (other / file).write_text("x")
    assert said(other)[0].endswith("3 of its files are not committed")
    assert said(inventory)[0].endswith("in Git, and pushed")


def test_of_what_git_ignores_the_inventory_alone_counts(inventory: Path) -> None:
    (inventory / ".gitignore").write_text("vault.yml\n.vault_password\n*.retry\n.venv/\nreports/\n")
    git(inventory, "add", ".gitignore")
    git(inventory, "commit", "--quiet", "--message=two")
    git(inventory, "push", "--quiet")
    for ignored in (".vault_password", "deploy.retry", ".venv/bin/python", "reports/shop/status.json"):
        (inventory / ignored).parent.mkdir(parents=True, exist_ok=True)
        (inventory / ignored).write_text("x")
    assert said(inventory)[0].endswith("in Git, and pushed")
    assert said(inventory / "hosts.yml")[0].endswith("in Git, and pushed")
    for read in ("group_vars/all/vault.yml", "host_vars/web1/vault.yml"):
        (inventory / read).parent.mkdir(parents=True)
        (inventory / read).write_text("x")
    assert said(inventory)[0].endswith("2 of its files are not committed")
    assert said(inventory / "hosts.yml")[0].endswith("2 of its files are not committed")


def test_a_password_that_is_not_in_git_is_no_file_of_the_inventory(inventory: Path) -> None:
    password = inventory / "password"
    password.write_text("x")
    assert said(inventory, password)[0].endswith("in Git, and pushed")
    assert said(inventory)[0].endswith("1 of its files is not committed")


def test_a_password_beside_what_it_opens(inventory: Path) -> None:
    password = inventory / ".vault_password"
    password.write_text("x")
    assert "have it where a fire" in said(inventory, password)[1]
    git(inventory, "add", "--all")
    assert "is in Git, beside what it opens" in said(inventory, password)[1]


def test_an_inventory_without_git(tmp_path: Path) -> None:
    assert list(outside.kept(["localhost,"], [tmp_path])) == list(outside.kept([], [tmp_path]))
    first, second = said(tmp_path)
    assert "in no Git repository here" in first
    assert "no file of this run has it" in second


def test_the_files_that_open_the_vault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = {"vault_ids": ["prod@prompt", f"lab@{tmp_path}/lab"], "vault_password_files": [f"{tmp_path}/more"]}
    monkeypatch.setattr(context, "CLIARGS", ImmutableDict(given))
    monkeypatch.setattr(constants, "DEFAULT_VAULT_PASSWORD_FILE", f"{tmp_path}/lab")
    assert outside.password_files() == [tmp_path / "lab", tmp_path / "more"]
