"""What a run that did nothing ends with, as docs/operations.md has it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import ansible_runs
import pytest

ROOT = Path(__file__).resolve().parents[2]
TOLD = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
VAULT = (ROOT / "inventories/lab/group_vars/all/vault.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "arguments", "code", "said"),
    [
        (VAULT, [], 4, "Attempting to decrypt but no vault secrets found"),
        (VAULT, ["--vault-id", "prod@other"], 4, "Decryption failed (no vault secrets were found that could decrypt)"),
        ("port: {{ x }}\n", [], 4, "YAML parsing failed"),
        (VAULT, ["--limit", "web3"], 1, "--limit leaves us with no hosts"),
    ],
    ids=["no password", "another password", "broken YAML", "no host"],
)
def test_what_never_began_has_no_recap(text: str, arguments: list[str], code: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("web: {hosts: {web1: }}\n")
    (tmp_path / "other").write_text("another one\n")
    vault = tmp_path / "group_vars/all/vault.yml"
    vault.parent.mkdir(parents=True)
    vault.write_text(text)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_VAULT")}
    given = [one.replace("@", f"@{tmp_path}/") for one in arguments]
    command = ["ansible-playbook", "-i", str(tmp_path / "hosts.yml"), *given, str(ROOT / "playbooks/deploy.yml")]
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert said in ran.stderr
    assert "PLAY RECAP" not in ran.stdout
    assert f"| {code} |" in TOLD
    if code == 4:
        assert f"`{said}`" in TOLD
        assert f"[ERROR]: The variables of this inventory cannot be read: {vault}:" in " ".join(ran.stderr.split())


EMPTY = "- {hosts: all, gather_facts: false}\n"
IMPORTS = f"{EMPTY}- {{ansible.builtin.import_playbook: slipway.fleet.status}}\n"


@pytest.mark.parametrize(
    ("text", "arguments", "said"),
    [
        ("", ["--start-at-task", "Take the flet"], 'no task of this playbook is called "Take the flet"'),
        ("", ["--skip-tags", "always,untagged"], "--skip-tags always,untagged leaves no task"),
        ("", ["--skip-tags", "all"], "--skip-tags all leaves no task"),
        ("", ["--tags", "nosuch"], "no task of this playbook has the tag nosuch"),
        (IMPORTS, ["--start-at-task", "nosuch"], 'no task of this playbook is called "nosuch"'),
        ("", ["--start-at-task", "nosuch", "--list-tasks"], ""),
        ("", ["--start-at-task", "nosuch", "--list-hosts"], ""),
        ("", ["--start-at-task", "nosuch", "--syntax-check"], ""),
        (EMPTY, [], ""),
        (EMPTY, ["--skip-tags", "all"], ""),
    ],
)
def test_a_run_of_ours_that_began_no_task_does_not_end_as_a_good_one(
    text: str, arguments: list[str], said: str, tmp_path: Path
) -> None:
    (tmp_path / "hosts.yml").write_text("web: {hosts: {web1: }}\n")
    (tmp_path / "own.yml").write_text(text)
    playbook = tmp_path / "own.yml" if text else ROOT / "playbooks/status.yml"
    command = ["ansible-playbook", "-i", str(tmp_path / "hosts.yml"), *arguments, str(playbook)]
    environment = os.environ | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    ran = ansible_runs.run(command, cwd=ROOT, env=environment, limit=120)
    told = " ".join(f"{ran.stdout} {ran.stderr}".split())
    assert ran.returncode == (2 if said else 0), told
    assert said in told
    assert ("Nothing was done" in told) == bool(said)
