"""slipway.fleet.tree: the pure part by tables, and the whole through ansible-playbook on this machine."""

from __future__ import annotations

import base64
import json
import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible_collections.slipway.fleet.plugins.module_utils.host import files as tree
from ansible_collections.slipway.fleet.plugins.modules import tree as tree_module

ROOT = Path(__file__).resolve().parents[2]
SECRET = "planted-Zq7-secret"


def put(*files: dict[str, Any], check: bool = False) -> list[str]:
    """Parse, plan and apply as the module does and return the changed paths."""
    contents = {str(position): file["content"] for position, file in enumerate(files) if "content" in file}
    changes = tree.plan(tree.parse(files, contents), check)
    if not check:
        tree.apply(changes)
    return [str(change.item.dest) for change in changes]


def snapshot(directory: Path) -> dict[str, tuple[str, int, float]]:
    """Everything below a directory: kind or content, mode, time of the last change."""
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        what = f"-> {path.readlink()}" if path.is_symlink() else "dir" if path.is_dir() else path.read_text()
        found[str(path.relative_to(directory))] = (
            what,
            stat.S_IMODE(status.st_mode),
            status.st_mtime if what != "dir" else 0,
        )
    return found


@pytest.mark.parametrize(
    ("options", "content", "said"),
    [
        ({"dest": "etc/x", "mode": "0644"}, "", "absolute path"),
        ({"dest": "/etc/../x", "mode": "0644"}, "", "absolute path"),
        ({"dest": "/etc/x/", "mode": "0644"}, "", "absolute path"),
        ({"dest": "/", "state": "absent"}, None, "absolute path"),
        ({"dest": "/x", "mode": "0644"}, None, "needs src"),
        ({"dest": "/x", "mode": "0755", "state": "directory"}, "text", "has no content"),
        ({"dest": "/x", "state": "absent"}, "text", "has no content"),
        ({"dest": "/x", "state": "link"}, None, "needs src"),
        ({"dest": "/x", "state": "gone"}, None, "must be one of"),
        ({"dest": "/x"}, "", "mode is None"),
        ({"dest": "/x", "mode": "u=rw"}, "", "octal"),
        ({"dest": "/x", "mode": "420"}, "", ""),
        ({"dest": "/x", "mode": "0888"}, "", "octal"),
        ({"dest": "/x", "mode": "-644"}, "", "octal"),
        ({"dest": "/x", "mode": "0644", "validate": "true"}, "", "must contain %s"),
        ({"dest": "/x", "mode": "0644", "validate": "true %s", "state": "touch-once"}, "", "for state file"),
    ],
)
def test_parse_refuses(options: dict[str, Any], content: str | None, said: str) -> None:
    contents = {} if content is None else {"0": content}
    if not said:
        tree.parse([options], contents)
        return
    with pytest.raises(tree.TreeError, match=re.escape(said)) as caught:
        tree.parse([options], contents)
    assert str(caught.value).startswith(f"files[0] ({options['dest']}): ")


def test_parse_refuses_a_dest_twice() -> None:
    with pytest.raises(tree.TreeError, match=r"files\[1\] \(/x\).*twice"):
        tree.parse([{"dest": "/x", "mode": "0644"}, {"dest": "/x", "state": "absent"}], {"0": ""})


def test_everything_once_and_nothing_the_second_time(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old/file").write_text("")
    files: list[dict[str, Any]] = [
        {"dest": f"{tmp_path}/a/b", "state": "directory", "mode": "0750"},
        {"dest": f"{tmp_path}/a/b/plain", "mode": "0640", "content": "text\n"},
        {"dest": f"{tmp_path}/a/b/secret", "mode": "0400", "content": SECRET, "secret": True},
        {"dest": f"{tmp_path}/a/b/once", "mode": "0600", "state": "touch-once", "content": "first\n"},
        {"dest": f"{tmp_path}/a/link", "state": "link", "src": "b/plain"},
        {"dest": f"{tmp_path}/old", "state": "absent"},
    ]
    assert put(*files, check=True) == [file["dest"] for file in files]
    assert snapshot(tmp_path).keys() == {"old", "old/file"}
    assert put(*files) == [file["dest"] for file in files]
    before = snapshot(tmp_path)
    assert {path: entry[:2] for path, entry in before.items()} == {
        "a": ("dir", 0o755),
        "a/b": ("dir", 0o750),
        "a/b/plain": ("text\n", 0o640),
        "a/b/secret": (SECRET, 0o400),
        "a/b/once": ("first\n", 0o600),
        "a/link": ("-> b/plain", 0o777),
    }
    assert put(*files) == []
    assert snapshot(tmp_path) == before


def change_content(path: Path) -> None:
    path.write_text("other")


def change_mode(path: Path) -> None:
    path.chmod(0o600)


def change_to_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/null")


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize("spoil", [change_content, change_mode, change_to_link, remove])
def test_drift_is_put_right(tmp_path: Path, spoil: Any) -> None:
    file = {"dest": f"{tmp_path}/x", "mode": "0644", "content": "wanted"}
    other = {"dest": f"{tmp_path}/y", "mode": "0644", "content": "same"}
    put(file, other)
    before = (tmp_path / "y").stat()
    spoil(tmp_path / "x")
    assert put(file, other) == [f"{tmp_path}/x"]
    status = (tmp_path / "x").lstat()
    assert (stat.S_ISREG(status.st_mode), stat.S_IMODE(status.st_mode)) == (True, 0o644)
    assert (tmp_path / "x").read_text() == "wanted"
    assert (tmp_path / "y").stat().st_ino == before.st_ino


def test_touch_once_leaves_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("of the service")
    (tmp_path / "state").chmod(0o600)
    assert put({"dest": f"{tmp_path}/state", "mode": "0644", "state": "touch-once"}) == []


def test_a_link_is_moved(tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to("v1")
    assert put({"dest": f"{tmp_path}/current", "state": "link", "src": "v2"}) == [f"{tmp_path}/current"]
    assert str((tmp_path / "current").readlink()) == "v2"
    assert list(tmp_path.iterdir()) == [tmp_path / "current"]


def test_absent_removes_a_link_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    put({"dest": f"{tmp_path}/link", "state": "absent"})
    assert list(tmp_path.iterdir()) == [tmp_path / "data"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ([{"dest": "{0}/none/x", "mode": "0644", "content": ""}], "{0}/none does not exist; list it"),
        (
            [{"dest": "{0}/x", "mode": "0644", "content": "", "owner": "nobody-here"}],
            "user nobody-here of {0}/x is not known",
        ),
        (
            [{"dest": "{0}/x", "mode": "0644", "content": "", "group": "nobody-here"}],
            "group nobody-here of {0}/x is not known",
        ),
        ([{"dest": "{0}/is_dir", "mode": "0644", "content": ""}], "is a directory, but state is file"),
        ([{"dest": "{0}/is_dir", "state": "link", "src": "x"}], "is a directory, but state is link"),
        ([{"dest": "{0}/is_file", "mode": "0755", "state": "directory"}], "is not a directory, but state is directory"),
        ([{"dest": "{0}/is_file/x", "mode": "0644", "content": ""}], "is_file does not exist"),
        (
            [{"dest": "{0}/n", "mode": "0644", "content": "", "validate": "no-such-program %s"}],
            "no-such-program is not installed",
        ),
        ([{"dest": f"{{0}}/{'n' * 260}", "mode": "0644", "content": ""}], "too long"),
        (
            [
                {"dest": "{0}/new", "mode": "0755", "state": "directory"},
                {"dest": "{0}/new/file", "mode": "0644", "content": "x"},
                {"dest": "{0}/is_file", "mode": "0600", "content": "replaced"},
                {"dest": "{0}/bad", "mode": "0644", "content": "bad text", "validate": "sh -c 'cat %s; exit 7'"},
                {"dest": "{0}/is_dir", "state": "absent"},
            ],
            "no file was changed: exit code 7: bad text",
        ),
    ],
)
def test_what_cannot_be_done_changes_nothing(tmp_path: Path, files: list[dict[str, Any]], said: str) -> None:
    (tmp_path / "is_dir").mkdir()
    (tmp_path / "is_file").write_text("kept")
    before = snapshot(tmp_path)
    with pytest.raises(tree.TreeError) as caught:
        put(*({**file, "dest": file["dest"].format(tmp_path)} for file in files))
    assert said.format(tmp_path) in str(caught.value)
    assert snapshot(tmp_path) == before


def test_a_validated_file_may_refer_to_new_ones(tmp_path: Path) -> None:
    validate = f"grep -q page {tmp_path}/errors/503.http %s"
    files = [
        {"dest": f"{tmp_path}/main.cfg", "mode": "0644", "content": "see page", "validate": validate},
        {"dest": f"{tmp_path}/errors", "state": "directory", "mode": "0755"},
        {"dest": f"{tmp_path}/errors/503.http", "mode": "0644", "content": "a page"},
    ]
    assert len(put(*files[1:], files[0])) == 3
    assert (tmp_path / "main.cfg").read_text() == "see page"


def test_the_validator_sees_the_end_of_the_name(tmp_path: Path) -> None:
    validate = "sh -c 'case %s in *x.service) ;; *) exit 1; esac'"
    assert put({"dest": f"{tmp_path}/x.service", "mode": "0644", "content": "", "validate": validate})


def test_an_unchanged_file_is_not_validated(tmp_path: Path) -> None:
    file = {"dest": f"{tmp_path}/x", "mode": "0644", "content": "text"}
    put(file)
    assert put({**file, "validate": "false %s"}) == []


def test_a_full_disk_is_noticed_before_anything_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [{"dest": f"{tmp_path}/{name}", "mode": "0644", "content": name} for name in "abc"]
    put(*files)
    before = snapshot(tmp_path)
    calls: list[int] = []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 3:
            raise OSError(28, "No space left on device", f"{tmp_path}/c")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(tree.TreeError, match="No space left on device; no file was changed"):
        put(*({**file, "content": "new"} for file in files))
    assert snapshot(tmp_path) == before


def test_what_a_killed_run_left_is_used_up(tmp_path: Path) -> None:
    (tmp_path / ".slipway-x").write_text("half")
    (tmp_path / ".slipway-x").chmod(0o400)
    put({"dest": f"{tmp_path}/x", "mode": "0644", "content": "whole"})
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("x", "whole")]


def test_readers_see_the_old_or_the_new_content(tmp_path: Path) -> None:
    path, stop, seen = tmp_path / "x", threading.Event(), set()
    texts = [letter * 200_000 for letter in "ab"]
    put({"dest": str(path), "mode": "0644", "content": texts[0]})

    def read() -> None:
        while not stop.is_set():
            seen.add(path.read_text())

    reader = threading.Thread(target=read)
    reader.start()
    for turn in range(40):
        put({"dest": str(path), "mode": "0644", "content": texts[turn % 2]})
    stop.set()
    reader.join()
    assert seen <= set(texts)


@pytest.mark.parametrize(
    ("before", "shown"), [(None, ("absent\n", "(secret)\n")), ("old-one", ("(secret)\n", "(secret) new\n"))]
)
def test_a_secret_is_not_in_the_diff(tmp_path: Path, before: str | None, shown: tuple[str, str]) -> None:
    if before:
        (tmp_path / "x").write_text(before)
    changes = tree.plan(
        tree.parse([{"dest": f"{tmp_path}/x", "mode": "0400", "secret": True}], {"0": SECRET}), check=True
    )
    assert (changes[0].diff[0]["before"], changes[0].diff[0]["after"]) == shown
    assert not any(text in json.dumps(change.diff) for change in changes for text in (SECRET, "old-one"))


@pytest.mark.parametrize(
    ("before", "shown"),
    [(None, ("absent\n", "(part of Slipway)\n")), ("old", ("(part of Slipway)\n", "(part of Slipway) new\n"))],
)
def test_what_is_part_of_slipway_is_named_in_the_diff_and_not_shown(
    tmp_path: Path, before: str | None, shown: tuple[str, str]
) -> None:
    """A plan is read, and thousands of lines of a program of ours would be in it."""
    if before:
        (tmp_path / "x").write_text(before)
    (change,) = tree.plan(tree.parse([{"dest": f"{tmp_path}/x", "mode": "0644", "program": True}], {"0": "new"}), True)
    assert [(part["before"], part["after"]) for part in change.diff] == [shown]


def test_a_new_file_is_shown_as_a_change_of_the_one_that_it_replaces(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("a\nb\n")
    file = {"dest": f"{tmp_path}/new", "mode": "0644", "replaces": f"{tmp_path}/old"}
    (change,) = tree.plan(tree.parse([file], {"0": "a\nc\n"}), check=True)
    diff = change.diff[0]
    assert (diff["before_header"], diff["after_header"]) == (f"{tmp_path}/old", f"{tmp_path}/new")
    assert (diff["before"], diff["after"]) == ("a\nb\n", "a\nc\n")
    nothing = {**file, "replaces": f"{tmp_path}/none"}
    assert tree.plan(tree.parse([nothing], {"0": "a\n"}), check=True)[0].diff[0]["before"] == ""


def test_a_secret_is_not_in_what_the_validator_says(tmp_path: Path) -> None:
    file = {"dest": f"{tmp_path}/x", "mode": "0400", "secret": True, "content": SECRET}
    with pytest.raises(tree.TreeError) as caught:
        put({**file, "validate": "sh -c 'cat %s; exit 1'"})
    assert SECRET not in str(caught.value)


# --- through Ansible

PLAY = """
- hosts: localhost
  connection: local
  gather_facts: false
  vars:
    ansible_python_interpreter: {python}
    where: {where}
    secret: {secret}
  roles: [example]
"""
TASKS = """
- name: Put the tree in place
  slipway.fleet.tree:
    files:
      - {dest: "{{ where }}/conf", state: directory, mode: "0755"}
      - {src: main.j2, dest: "{{ where }}/conf/main", mode: "0644", validate: "grep -q port %s"}
      - {content: "{{ secret }}", dest: "{{ where }}/conf/secret", mode: "0400", secret: true}
      - {content: "{{ {'a': 1} | to_json }}", dest: "{{ where }}/conf/json", mode: "0644"}
      - {content: "{{ 5 }}", dest: "{{ where }}/conf/number", mode: "0644"}
      - {src: conf/main, dest: "{{ where }}/link", state: link}
  register: example_tree_result
  notify: Reload
- name: Render the same template with Ansible's own module
  ansible.builtin.template: {src: main.j2, dest: "{{ where }}/../reference", mode: "0644"}
  when: not ansible_check_mode
- name: Show
  ansible.builtin.debug:
    msg: "paths={{ example_tree_result.changed_paths | map('basename') | join(',') }}"
"""
TEMPLATE = """# {{ ansible_managed }}
{% for port in ports %}
port {{ port }}
{% endfor %}
{% include 'part.j2' %}
back\\\\slash {{ template_path }}
"""


class Playbook:
    """A role that uses the module, and what its runs say."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.where = directory / "host"
        self.where.mkdir()
        role = directory / "roles/example"
        for name, text in {
            "tasks/main.yml": TASKS,
            "templates/main.j2": TEMPLATE,
            "templates/part.j2": "included\n",
            "defaults/main.yml": "ports: [80, 443]\n",
            "handlers/main.yml": "- name: Reload\n  ansible.builtin.debug:\n    msg: reloaded\n",
        }.items():
            (role / name).parent.mkdir(parents=True, exist_ok=True)
            (role / name).write_text(text)
        (directory / "play.yml").write_text(PLAY.format(python=sys.executable, where=self.where, secret=SECRET))

    def run(self, *arguments: str, code: int = 0) -> str:
        environment = os.environ | {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
        }
        result = subprocess.run(
            [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "play.yml", *arguments],
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        output = result.stdout + result.stderr
        assert result.returncode == code, output
        return output


@pytest.fixture
def playbook(tmp_path: Path) -> Playbook:
    return Playbook(tmp_path)


def test_a_role_check_first_then_twice(playbook: Playbook) -> None:
    said = playbook.run("--check", "--diff", "-vvv")
    assert "paths=conf,main,secret,json,number,link" in said
    assert "+port 443" in said
    assert "+(secret)" in said
    assert SECRET not in said
    assert snapshot(playbook.where) == {}

    said = playbook.run("--diff", "-vvv")
    assert "reloaded" in said
    assert SECRET not in said
    assert {path: entry[:2] for path, entry in snapshot(playbook.where).items()} == {
        "conf": ("dir", 0o755),
        "conf/main": ((playbook.directory / "reference").read_text(), 0o644),
        "conf/secret": (SECRET, 0o400),
        "conf/json": ('{"a": 1}', 0o644),
        "conf/number": ("5", 0o644),
        "link": ("-> conf/main", 0o777),
    }

    assert "port 443" in (playbook.where / "conf/main").read_text()

    said = playbook.run()
    assert "changed=0" in said
    assert "reloaded" not in said


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"ports": []}, "conf/main is refused by its validator `grep -q port %s`, no file was changed: exit code 1"),
        ({"ports": "{{ nowhere }}"}, "main.j2 cannot be rendered"),
        ({"secret": {"a": 1}}, "content is not text"),
        ({"where": "relative"}, "dest must be an absolute path"),
    ],
)
def test_what_is_wrong_is_said(playbook: Playbook, variables: dict[str, Any], said: str) -> None:
    output = " ".join(playbook.run("-e", json.dumps(variables), code=2).split())
    assert said in output
    assert SECRET not in output
    assert snapshot(playbook.where) == {}


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ('{dest: /x, content: "", mode: 0644}', "mode must be in quotes"),
        ('{dest: /x, content: "", src: main.j2, mode: "0644"}', "src and content exclude each other"),
        ('{dest: /x, src: nowhere.j2, mode: "0644"}', "nowhere.j2"),
        ('{dest: /x, content: "", mode: "0644", ownr: root}', "ownr"),
        ("text", "must be a dictionary"),
    ],
)
def test_a_wrong_item_is_named(playbook: Playbook, item: str, said: str) -> None:
    tasks = playbook.directory / "roles/example/tasks/main.yml"
    tasks.write_text(f"- name: Wrong\n  slipway.fleet.tree:\n    files:\n      - {item}\n")
    assert said in " ".join(playbook.run(code=2).split())


def test_no_content_is_in_the_hosts_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contents = base64.b64encode(json.dumps({"0": SECRET}).encode()).decode()
    files = [{"dest": f"{tmp_path}/x", "mode": "0400", "secret": True}]
    logged: list[str] = []
    monkeypatch.setattr(
        basic, "_ANSIBLE_ARGS", json.dumps({"ANSIBLE_MODULE_ARGS": {"files": files, "contents": contents}}).encode()
    )
    monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
    monkeypatch.setattr(
        basic.AnsibleModule, "log", lambda _, message, log_args=None: logged.append(f"{message} {log_args}")
    )
    with pytest.raises(SystemExit) as ended:
        tree_module.main()
    assert ended.value.code == 0
    assert (tmp_path / "x").read_text() == SECRET
    assert f"{tmp_path}/x" in logged[0]
    assert not any(text in line for line in logged for text in (SECRET, contents))


def test_what_a_file_must_keep_is_not_taken_out_of_it(tmp_path: Path) -> None:
    hba = {"dest": str(tmp_path / "hba"), "mode": "0644", "keeps": r"^host (\S+) all$", "otherwise": "it serves %s"}
    assert put({**hba, "content": "host links all\nhost shop all\n"})
    assert put({**hba, "content": "# new\nhost shop all\nhost links all\nhost more all\n"})
    before = snapshot(tmp_path)
    other = {"dest": str(tmp_path / "new"), "mode": "0644", "content": "x"}
    for check in (True, False):
        with pytest.raises(tree.TreeError, match=r"it serves links, shop \(.*/hba; no file was changed\)"):
            put(other, {**hba, "content": "host more all\n"}, check=check)
    assert snapshot(tmp_path) == before


def test_what_is_said_otherwise_belongs_to_what_must_be_kept() -> None:
    with pytest.raises(tree.TreeError, match="keeps and otherwise are for state file and go together"):
        tree.parse([{"dest": "/x", "mode": "0644", "keeps": "x"}], {"0": ""})
