"""The repository holds its own rules, and each rule refuses a sample that breaks it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs import generate
from tests.repo import rules

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in ROOT.glob("roles/*") if path.is_dir())
PLAYBOOKS = sorted(ROOT.glob("playbooks/*.yml"))


def repository_paths() -> list[Path]:
    """Every file and link that Git knows or would add."""
    names = subprocess.run(
        ["git", "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    ).stdout.decode()
    return sorted(ROOT / name for name in names.split("\0") if name)


def read(path: Path) -> str:
    """Text of a file; what is missing or not text is empty."""
    try:
        return path.read_text()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""


PATHS = repository_paths()
FILES = [path for path in PATHS if path.is_file() and not path.is_symlink()]


def load(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader) if path.exists() else None  # noqa: S506 - a SafeLoader with Ansible's tags


class Loader(yaml.SafeLoader):
    """Reads Ansible's own tags as plain text."""


for tag in ("!unsafe", "!vault"):
    Loader.add_constructor(tag, lambda _, node: str(node.value))


def holds(findings: list[str], where: Path) -> None:
    assert not findings, "\n" + "\n".join(f"{where.relative_to(ROOT)}: {finding}" for finding in findings)


def all_hold(rule: Callable[[Path], list[str]], paths: Iterable[Path]) -> None:
    """Check many files and show the findings of all of them."""
    findings = [f"{path.relative_to(ROOT)}: {finding}" for path in paths for finding in rule(path)]
    assert not findings, "\n" + "\n".join(findings)


def role_files(*folders: str) -> list[Path]:
    return [
        path
        for path in FILES
        for folder in folders
        if path.match(f"roles/*/{folder}/*") or path.match(f"roles/*/{folder}/*/*")
    ]


def id_of(path: object) -> str | None:
    return str(path.relative_to(ROOT)) if isinstance(path, Path) else None


# --- every file


def test_no_unwanted_words() -> None:
    all_hold(lambda path: rules.unwanted_words(read(path)), FILES)


def test_a_link_leads_to_what_is_beside_it_in_the_repository() -> None:
    links = [path for path in PATHS if path.is_symlink()]
    assert links
    leading_out = [
        path for path in links if path.readlink().is_absolute() or not path.resolve(strict=True).is_relative_to(ROOT)
    ]
    assert leading_out == []


def test_every_noqa_has_a_reason() -> None:
    all_hold(lambda path: rules.noqa_without_reason(read(path)), (path for path in FILES if path.suffix != ".md"))


@pytest.mark.parametrize(
    "bad",
    [
        "pip install --index" + "-url https://mirror",
        "https://pypi" + ".org/simple",
        "http://deb.debian" + ".org/debian",
        "cd /wo" + "rk/main",
        "see /tmp/" + "brief",
        "/root/.py" + "env/versions",
        "# TO" + "DO later",
        "@pytest.mark.sk" + "ip",
        "pytest.sk" + "ip('why')",
    ],
)
def test_unwanted_words_are_found(bad: str) -> None:
    assert rules.unwanted_words(f"fine\n{bad}\n")[0].startswith("2: ")


@pytest.mark.parametrize(
    "good", ["WORKDIR /srv/wo" + "rk", "~/wo" + "rk/app", "the wo" + "rk / rest", "framewo" + "rk", "py" + "env_name"]
)
def test_wanted_words_are_not(good: str) -> None:
    assert rules.unwanted_words(good) == []


@pytest.mark.parametrize(
    ("line", "right"),
    [
        ("x = 1  # no" + "qa", False),
        ("x = 1  # no" + "qa: E501", False),
        ("x = 1  # no" + "qa: E501, S101", False),
        ("x = 1  # no" + "qa: E501, S101 - a table reads better", True),
        ("command: x  # no" + "qa: command-instead-of-module", False),
        ("command: x  # no" + "qa: command-instead-of-module - the module cannot", True),
    ],
)
def test_a_noqa_needs_a_reason(line: str, right: bool) -> None:
    assert (rules.noqa_without_reason(line) == []) is right


def test_modules_warn_of_what_is_to_be_warned_of() -> None:
    all_hold(lambda path: rules.ends_with_all(read(path)), ROOT.glob("plugins/modules/*.py"))


@pytest.mark.parametrize(
    ("code", "right"),
    [
        ("module.exit_json(changed=True, warnings=note.warnings)", False),
        ("module.fail_json(msg='no', warnings=[])", False),
        ("module.exit_json(**result)", False),
        ("module.exit_json(changed=True, told=told)", True),
        ("module.fail_json(msg='no', **error.details)", True),
        ("answer(module, {**result, 'warnings': note.warnings})", True),
    ],
)
def test_a_result_with_warnings_goes_through_what_warns(code: str, right: bool) -> None:
    assert (rules.ends_with_all(code) == []) is right


def test_vault_files_are_encrypted() -> None:
    found = [path for path in FILES if path.name in ("vault.yml", "vault.yaml") or path.suffix == ".vault"]
    all_hold(lambda path: rules.vault(read(path)), found)
    assert rules.vault("password: clear\n")
    assert not rules.vault("$ANSIBLE_VAULT;1.1;AES256\n")


def test_shell_files(tmp_path: Path) -> None:
    def check(paths: list[Path]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["shellcheck", *map(str, paths)], capture_output=True, text=True, check=False)

    shell = [
        path
        for path in FILES
        if path.suffix == ".sh" or read(path).split("\n", 1)[0].endswith(("/sh", "bash", "/sh -eu", "/sh -e"))
    ]
    shell = [path for path in shell if path.suffix != ".j2"]
    assert ROOT / ".ci/run" in shell
    result = check(shell)
    assert result.returncode == 0, result.stdout
    (tmp_path / "bad").write_text("#!/bin/sh\nrm -r $1/*\n")
    assert check([tmp_path / "bad"]).returncode == 1


# --- roles


@pytest.mark.parametrize("role", ROLES, ids=id_of)
def test_role(role: Path) -> None:
    points = generate.entry_points(role)
    defaults_text = read(role / "defaults/main.yml")
    defaults, constants = load(role / "defaults/main.yml") or {}, load(role / "vars/main.yml") or {}
    holds(rules.spec_and_defaults(points, defaults, defaults_text), role)
    holds(rules.secret_types(points), role)
    holds(rules.names_of_variables(role.name, defaults, constants), role)
    holds(rules.table_of_contents(read(role / "tasks/main.yml")), role / "tasks/main.yml")
    holds(
        [f"entry point {name} has no tasks/{name}.yml" for name in points if not (role / f"tasks/{name}.yml").exists()],
        role,
    )


def test_role_tasks() -> None:
    all_hold(lambda path: rules.forbidden_in_role(read(path)), role_files("tasks", "handlers"))
    all_hold(lambda path: rules.short_role_names(load(path)), role_files("tasks", "handlers"))
    all_hold(lambda path: rules.impatient_apt(load(path)), role_files("tasks", "handlers"))


def test_role_variables_and_templates() -> None:
    all_hold(lambda path: rules.forbidden_in_role(read(path)), role_files("defaults", "vars", "templates", "meta"))


def test_templates_say_who_manages_the_file() -> None:
    # JSON, raw HTTP and Redis' list of users have no comments, and a page is for its visitors.
    templates = [
        path
        for path in role_files("templates")
        if not path.name.endswith((".json.j2", ".http.j2", ".html.j2", ".acl.j2"))
    ]
    header = ["the header {{ ansible_managed | comment }} is missing"]
    all_hold(lambda path: [] if "ansible_managed" in read(path) else header, templates)


@pytest.mark.parametrize("role", ROLES, ids=id_of)
def test_role_readme_is_generated(role: Path) -> None:
    holds(
        [] if read(role / "README.md") == generate.readme(role) else ["not as the spec says; run: make docs"],
        role / "README.md",
    )


@pytest.mark.parametrize(
    ("option", "defaults", "said"),
    [
        ({"type": "int", "default": 1}, "web_x: 2\n", "the spec says 1"),
        ({"type": "int", "default": 1}, "", "not in defaults"),
        ({"type": "int"}, "", "as a comment"),
        ({"type": "int"}, "# web_x: 2\n", ""),
        ({"type": "int"}, "web_x: 2\n", "the spec says None"),
        ({"type": "int", "required": True}, "web_x: 2\n", "decide"),
        ({"type": "int", "required": True}, "", "as a comment"),
        ({"type": "int", "default": 2}, "web_x: 2\nweb_y: 3\n", "web_y is in defaults"),
        ({"type": "int", "default": 2}, "web_x: 2\n", ""),
        ({"type": "int", "required": True}, "# web_x: 2\n", ""),
        ({"type": "str"}, 'web_x: "{{ other }}"\n', ""),
    ],
)
def test_spec_and_defaults_are_compared(option: dict[str, Any], defaults: str, said: str) -> None:
    found = rules.spec_and_defaults({"main": {"options": {"web_x": option}}}, yaml.safe_load(defaults) or {}, defaults)
    assert said in " ".join(found)
    assert bool(found) == bool(said)


@pytest.mark.parametrize("option", [{"type": "int", "no_log": True}, {"type": "str", "no_log": True, "choices": ["a"]}])
def test_printable_secrets_are_found(option: dict[str, Any]) -> None:
    assert rules.secret_types({"main": {"options": {"web_secret": option}}})


def test_variable_names_are_compared() -> None:
    assert rules.names_of_variables("web", ["web_port"], ["__web_path"]) == []
    assert len(rules.names_of_variables("web", ["web_port", "port"], ["web_port"])) == 3


@pytest.mark.parametrize(
    "bad", ["- ansible.builtin.set_fact: {a: 1}", "  ignore_errors: true", 'x: "{{ hostvars[other].y }}"']
)
def test_forbidden_words_are_found(bad: str) -> None:
    assert rules.forbidden_in_role(bad)
    assert not rules.forbidden_in_role(f"# not {bad}")


@pytest.mark.parametrize(
    "bad",
    [
        "- ansible.builtin.import_role: {name: haproxy}",
        "- name: block\n  block:\n    - ansible.builtin.include_role: {name: haproxy}",
    ],
)
def test_short_names_of_roles_are_found(bad: str) -> None:
    assert rules.short_role_names(yaml.safe_load(bad))
    assert not rules.short_role_names(yaml.safe_load(bad.replace("haproxy", "slipway.fleet.haproxy")))


def test_apt_that_does_not_wait_is_found() -> None:
    assert rules.impatient_apt(yaml.safe_load("- name: x\n  ansible.builtin.apt: {name: y}\n"))
    assert not rules.impatient_apt(yaml.safe_load("- name: x\n  ansible.builtin.apt: {name: y, lock_timeout: 600}\n"))


def test_work_in_main_is_found() -> None:
    assert rules.table_of_contents("- name: x\n  ansible.builtin.copy: {dest: /x}\n")
    assert rules.table_of_contents("- name: x\n  copy: {dest: /x}\n")
    assert rules.table_of_contents("- ansible.builtin.import_tasks: x.yml\n" * 41)
    assert not rules.table_of_contents("- ansible.builtin.import_tasks: x.yml\n" * 40)


def test_the_section_of_a_readme_is_replaced_and_prose_is_kept(tmp_path: Path) -> None:
    role = tmp_path / "web"
    (role / "meta").mkdir(parents=True)
    spec = """
        argument_specs:
          main:
            short_description: Serves
            options:
              web_port: {type: int, default: 80, description: Port | C(tcp)}
    """
    (role / "meta/argument_specs.yml").write_text(spec)
    assert "| `web_port` | int | `80` | Port \\| `tcp` |" in generate.readme(role)
    (role / "README.md").write_text(f"# Web\n\nProse.\n\n{generate.BEGIN}\nold\n{generate.END}\n\nMore.\n")
    first = generate.readme(role)
    assert first.startswith("# Web\n\nProse.\n\n<!--")
    assert first.endswith("-->\n\nMore.\n")
    assert "old" not in first
    (role / "README.md").write_text(first)
    assert generate.readme(role) == first


# --- playbooks


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=id_of)
def test_playbook(playbook: Path) -> None:
    holds(rules.plays(read(playbook)), playbook)
    named = f"`{playbook.name}`" in read(ROOT / "README.md") or f"playbooks/{playbook.name}" in read(ROOT / "README.md")
    holds([] if named else ["README.md does not name it in its table of playbooks"], playbook)


@pytest.mark.parametrize(
    "bad",
    [
        "- hosts: all\n  vars:\n" + "".join(f"    a{n}: 1\n" for n in range(24)),
        "- hosts: all\n  roles: [haproxy]\n",
        "- hosts: all\n  roles:\n    - {role: haproxy}\n",
        "- hosts: all\n  tasks:\n    - ansible.builtin.import_role: {name: haproxy}\n",
    ],
)
def test_bad_plays_are_found(bad: str) -> None:
    assert rules.plays(bad)
    assert not rules.plays("- hosts: all\n  roles: [slipway.fleet.haproxy]\n")


@pytest.mark.parametrize("playbook", [*PLAYBOOKS, *sorted(ROOT.glob("playbooks/parts/*.yml"))], ids=id_of)
def test_a_play_says_whose_database_and_cache_it_means(playbook: Path) -> None:
    holds(rules.whose(read(playbook), playbook.parent), playbook)


def test_a_play_for_nobody_s_database_is_found(tmp_path: Path) -> None:
    (tmp_path / "more.yml").write_text(
        "- ansible.builtin.import_role: {name: slipway.fleet.redis, tasks_from: users}\n"
    )
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks/beside.yml").write_text((tmp_path / "more.yml").read_text())
    (tmp_path / "tasks/first.yml").write_text("- ansible.builtin.import_tasks: beside.yml\n")
    for bad in (
        "- hosts: data\n  roles: [slipway.fleet.postgres]\n",
        "- hosts: data\n  tasks:\n    - block: [{ansible.builtin.import_role: {name: slipway.fleet.redis}}]\n",
        "- hosts: data\n  tasks: [{ansible.builtin.import_tasks: more.yml}]\n",
        "- hosts: data\n  tasks: [{ansible.builtin.import_tasks: tasks/first.yml}]\n",
    ):
        assert rules.whose(bad, tmp_path)
        assert not rules.whose(f"{bad}  vars: {{slipway_app: links}}\n", tmp_path)


# --- linters


def test_a_file_has_no_leave_that_it_does_not_need() -> None:
    """Of the rules on how programs are started, which few files may break, each for a reason (pyproject.toml)."""
    leaves = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["ruff"]["lint"]["per-file-ignores"]
    command = [
        "ruff",
        "check",
        "--isolated",
        "--select=S6",
        "--output-format=json",
        "--exit-zero",
        "plugins",
        "app",
        "docs",
    ]
    found = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    needed = {(str(Path(item["filename"]).relative_to(ROOT)), item["code"]) for item in found}
    # Those with `noqa` have their reason in the line.
    assert {(path, code) for path, codes in leaves.items() if path.endswith(".py") for code in codes} == needed


# --- metadata


def requirements(project: dict[str, Any], *groups: str) -> list[str]:
    return [
        *project["project"]["dependencies"],
        *(entry for group in groups for entry in project["dependency-groups"][group]),
    ]


def test_locks_are_in_step() -> None:
    project = tomllib.loads(read(ROOT / "pyproject.toml"))
    app, dev = ROOT / "requirements/app.lock", ROOT / "requirements/dev.lock"
    holds(rules.lock_in_step(requirements(project), read(app)), app)
    holds(rules.lock_in_step(requirements(project, "ops", "dev"), read(dev)), dev)
    pinned = rules.pins(read(dev))
    holds(
        [
            f"{name} is not as in app.lock"
            for name, versions in rules.pins(read(app)).items()
            if pinned.get(name) != versions
        ],
        dev,
    )


@pytest.mark.parametrize("lock", ["", "fastapi==0.1 \\\n    --hash=sha256:0\n", "fastapi==2.0\n"])
def test_a_lock_out_of_step_is_found(lock: str) -> None:
    assert rules.lock_in_step(["fastapi>=1"], lock)
    assert not rules.lock_in_step(["fastapi>=1"], "fastapi==2.0 \\\n    --hash=sha256:0\n")


def collections_used() -> set[str]:
    """Collections besides ours and Ansible's own that the tasks of roles and playbooks call."""
    found = set()
    for path in [*ROOT.glob("roles/*/*/*.yml"), *ROOT.glob("playbooks/**/*.yml")]:
        called = re.findall(r"^[ -]*([a-z_]+\.[a-z_]+)\.[a-z_0-9]+:", read(path), re.MULTILINE)
        found |= {name for name in called if name not in ("ansible.builtin", "slipway.fleet")}
    return found


def test_collection_metadata_agree() -> None:
    galaxy = load(ROOT / "galaxy.yml")
    listed = {entry["name"]: entry["version"] for entry in load(ROOT / "requirements.yml")["collections"]}
    assert galaxy["dependencies"] == listed
    assert set(listed) == collections_used(), "galaxy.yml and requirements.yml name what roles and playbooks use"
    assert galaxy["version"] == tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["version"]


def test_the_collection_has_every_kind_of_file_that_plugins_are_made_of() -> None:
    rules_of_plugins = [
        words[2:]
        for line in load(ROOT / "galaxy.yml")["manifest"]["directives"]
        if (words := line.split())[:2] == ["recursive-include", "plugins"]
    ]
    kinds = {f"*{path.suffix}" for path in FILES if path.relative_to(ROOT).parts[0] == "plugins"}
    assert [sorted(kinds)] == [sorted(patterns) for patterns in rules_of_plugins]


def test_changelog_fragments_have_known_kinds() -> None:
    config = load(ROOT / "changelogs/config.yaml")
    kinds = {kind for kind, _ in config["sections"]} | {config["prelude_section_name"], config["trivial_section_name"]}
    all_hold(
        lambda path: [f"{kind} is no section of changelogs/config.yaml" for kind in load(path) if kind not in kinds],
        sorted(ROOT.glob("changelogs/fragments/*.yml")),
    )


def test_scripts_can_be_executed() -> None:
    # Modules are started by Ansible, templates by nobody.
    scripts = [
        path
        for path in FILES
        if read(path).startswith("#!") and path.suffix != ".j2" and not path.match("plugins/modules/*")
    ]
    all_hold(lambda path: [] if os.access(path, os.X_OK) else ["starts with #! and is not executable"], scripts)
