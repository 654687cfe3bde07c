"""The rules of this code base that a machine can check: pure functions from texts to findings.

A finding says where, what, and what to do. An empty list means that the rule holds.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

Spec = Mapping[str, Any]

# Written in parts, so that this file does not hold what it forbids.
ADDRESSES = re.compile(
    "|".join(
        (r"pypi\." + "org", "python" + "hosted", r"(deb|ftp|security)\.debian\." + "org", "(?<!emit-)index" + "-url")
    )
)
MACHINE_PATHS = re.compile(r"(?<![\w./~-])/wo" + r"rk(?![\w-])|/tmp/" + r"brief|py" + r"env\b(?!_|\.cfg)")
UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
SKIPPED = re.compile(r"mark\.(sk" + r"ip|xf" + r"ail)|pytest\.(sk" + r"ip|xf" + r"ail|import" + r"orskip)\b")
NOQA = re.compile(r"#\s*noqa\b(?P<rest>.*)")
REASON = re.compile(r"^:?\s*[\w\[\]-]+(,?\s[\w\[\]]+)*\s+-\s+\w+")
FORBIDDEN_IN_ROLES = {
    "set_fact": "make it a lazy variable in vars/main.yml",
    "ignore_errors": "say with failed_when what is a failure",
    "hostvars[": "let it arrive as a variable of the role",
}
# What a role's table of contents may hold: nothing that changes a host.
CONTENTS = {"import_tasks", "include_tasks", "import_role", "include_role", "assert", "meta", "validate_argument_spec"}


def lines(text: str, pattern: re.Pattern[str], message: str) -> list[str]:
    """Findings for each line that has the pattern, numbered from 1."""
    return [
        f"{number}: {message}: {line.strip()}"
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def unwanted_words(text: str) -> list[str]:
    return [
        *lines(
            text, ADDRESSES, "address of a package registry; read it at run time from the machine's own configuration"
        ),
        *lines(text, MACHINE_PATHS, "path of one machine"),
        *lines(text, UNFINISHED, "unfinished; finish it or take it out"),
        *lines(text, SKIPPED, "a test that nobody runs; make it run or take it out"),
    ]


def noqa_without_reason(text: str) -> list[str]:
    return [
        f"{number}: noqa without its reason on the line; write `# noqa: RULE - why`: {line.strip()}"
        for number, line in enumerate(text.splitlines(), 1)
        if (found := NOQA.search(line)) and not REASON.search(found["rest"])
    ]


def forbidden_in_role(text: str) -> list[str]:
    found = []
    for number, line in enumerate(text.splitlines(), 1):
        code = line.split("#", 1)[0]
        found += [f"{number}: {word}; {instead}" for word, instead in FORBIDDEN_IN_ROLES.items() if word in code]
    return found


def inputs(points: Spec) -> dict[str, Spec]:
    """All options of all entry points of an argument spec."""
    return {name: option for point in points.values() for name, option in (point.get("options") or {}).items()}


def spec_and_defaults(points: Spec, defaults: Mapping[str, Any], defaults_text: str) -> list[str]:
    """Every input once in the spec and once in defaults with the same value; one without a default as a comment."""
    found = []
    options = inputs(points)
    for name, option in options.items():
        if option.get("required") and name in defaults:
            found.append(f"{name} is required in the spec and has a default; decide")
        elif option.get("required") or ("default" not in option and name not in defaults):
            if not re.search(rf"^# ?{name}:", defaults_text, re.MULTILINE):
                found.append(f"{name} has no default; show it in defaults/main.yml as a comment: `# {name}: ...`")
        elif name not in defaults:
            found.append(f"{name} is in the spec and not in defaults/main.yml")
        elif not _computed(defaults[name]) and option.get("default") != defaults[name]:
            found.append(f"{name}: the spec says {option.get('default')!r}, defaults/main.yml {defaults[name]!r}")
    found += [
        f"{name} is in defaults/main.yml and not in meta/argument_specs.yml" for name in defaults if name not in options
    ]
    return found


def _computed(value: Any) -> bool:
    return "{{" in repr(value)


def secret_types(points: Spec) -> list[str]:
    return [
        f"{name}: a secret is str or dict and has no choices, because a spec error prints the value of anything else"
        for name, option in inputs(points).items()
        if option.get("no_log") and (option.get("type") not in ("str", "dict") or option.get("choices"))
    ]


def names_of_variables(role: str, defaults: Iterable[str], constants: Iterable[str]) -> list[str]:
    defaults, constants = set(defaults), set(constants)
    return [
        *(f"{name} is in defaults and in vars" for name in sorted(defaults & constants)),
        *(
            f"{name}: in vars/ the prefix is __{role}_"
            for name in sorted(constants)
            if not name.startswith(f"__{role}_")
        ),
        *(
            f"{name}: in defaults/ the prefix is {role}_"
            for name in sorted(defaults)
            if not name.startswith(f"{role}_")
        ),
    ]


def tasks_of(document: Any) -> Iterator[dict[str, Any]]:
    """All tasks of a list, blocks opened."""
    for task in document or []:
        if "block" not in task:
            yield task
        for part in ("block", "rescue", "always"):
            yield from tasks_of(task.get(part))


def module_of(task: Mapping[str, Any]) -> str:
    """The module by its full name, which ansible-lint asks for (fqcn); nothing else in a task has a dot."""
    return next((key for key in task if "." in key), "")


def short_role_names(document: Any) -> list[str]:
    """Roles that tasks import or include by less than their full names; ansible-lint takes those."""
    return [
        f"{task.get('name')}: role {task[module]['name']} is not a full name like slipway.fleet.haproxy"
        for task in tasks_of(document)
        if (module := module_of(task)).endswith((".include_role", ".import_role"))
        and task[module]["name"].count(".") != 2
    ]


def impatient_apt(document: Any) -> list[str]:
    """Tasks of apt that give up while the first boot of a machine, or its own upgrades, hold the lock for minutes."""
    return [
        f"{task.get('name')}: write lock_timeout: 600"
        for task in tasks_of(document)
        if module_of(task) == "ansible.builtin.apt" and task[module_of(task)].get("lock_timeout", 60) < 600
    ]


def table_of_contents(text: str) -> list[str]:
    count = len(text.splitlines())
    return [
        *([f"{count} lines; at most 40, move steps to files of their own"] if count > 40 else []),
        *(
            f"{task.get('name')}: {module_of(task)} does work; move it to a file of its own"
            for task in tasks_of(yaml.safe_load(text))
            if module_of(task).rpartition(".")[2] not in CONTENTS
        ),
    ]


def plays(text: str) -> list[str]:
    """Each play at most 25 lines that say something, its roles by their full names."""
    node, document = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    if node is None:
        return ["no play"]
    found = []
    for play, content in zip(node.value, document, strict=True):
        said = text.splitlines()[play.start_mark.line : play.end_mark.line]
        count = len([line for line in said if line.strip() and not line.strip().startswith("#")])
        name = content.get("name", content.get("ansible.builtin.import_playbook"))
        if count > 25:
            found.append(f"{name}: {count} lines; at most 25, work belongs into roles")
        for role in content.get("roles", []):
            role_name = role if isinstance(role, str) else role.get("role", role.get("name"))
            if role_name.count(".") != 2:
                found.append(f"{name}: role {role_name} is not a full name like slipway.fleet.haproxy")
        for part in ("pre_tasks", "tasks", "post_tasks", "handlers"):
            found += short_role_names(content.get(part))
    return found


# Of the roles for data what asks for no app: the caches of a host, whoever has them, and what an upgrade said.
OF_NO_APP = {"status", "upgraded"}


def data_roles(node: Any, place: Path) -> Iterator[str]:
    """Roles of database and cache that a play calls for an app, also by files of tasks beside it."""
    if isinstance(node, str) and node in ("slipway.fleet.postgres", "slipway.fleet.redis"):
        yield node
    elif isinstance(node, list):
        for part in node:
            yield from data_roles(part, place)
    elif isinstance(node, dict) and node.get("tasks_from") not in OF_NO_APP:
        for name, part in node.items():
            if str(name).endswith(("import_tasks", "include_tasks")):
                file = place / str(part)
                yield from data_roles(yaml.safe_load(file.read_text(encoding="utf-8")), file.parent)
            yield from data_roles(part, place)


def whose(text: str, place: Path) -> list[str]:
    """A host of data has no variables of an app's own, so a play for it says whose database and cache it means."""
    return [
        f"{play.get('name')}: it calls {role} and does not say slipway_app"
        for play in yaml.safe_load(text)
        for role in sorted(set(data_roles([play.get(part) for part in ("roles", "tasks")], place)))
        if "slipway_app" not in (play.get("vars") or {})
    ]


def vault(text: str) -> list[str]:
    return [] if text.startswith("$ANSIBLE_VAULT;") else ["a vault file in clear text; run: ansible-vault encrypt FILE"]


def pins(lock: str) -> dict[str, set[str]]:
    """Versions in a lock file by package; some have one for each range of Python versions."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^\s;\\]+)", lock, re.MULTILINE):
        found.setdefault(canonicalize_name(name), set()).add(version)
    return found


def lock_in_step(requirements: Iterable[str], lock: str) -> list[str]:
    """Each requirement is pinned at a version that it allows, and each pin has a hash."""
    found, pinned = [], pins(lock)
    for requirement in map(Requirement, requirements):
        versions = pinned.get(canonicalize_name(requirement.name), set())
        if not any(requirement.specifier.contains(version, prereleases=True) for version in versions):
            found.append(f"{requirement}: the lock has {', '.join(sorted(versions)) or 'nothing'}; run: make lock")
    blocks = re.split(r"^(?=[\w-]+.*==)", lock, flags=re.MULTILINE)
    unhashed = [block.splitlines()[0] for block in blocks if "==" in block and "--hash=sha256:" not in block]
    return found + [f"{pin}: no hash; run: make lock" for pin in unhashed]


def ends_with_all(code: str) -> list[str]:
    """Calls that end a module with a whole result, or with warnings, past what warns in its place."""
    return [
        f"{call.lineno}: exit_json of a whole result; use `answer` of module_utils/host/answer.py, which warns of its "
        "`warnings`: Ansible will take none in a result any more"
        for call in ast.walk(ast.parse(code))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and any(
            keyword.arg == "warnings" or (keyword.arg is None and call.func.attr == "exit_json")
            for keyword in call.keywords
            if call.func.attr in ("exit_json", "fail_json")
        )
    ]
