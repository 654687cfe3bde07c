# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the action plugins share: who this run is, a host that cannot be reached, a lease that is kept alive."""

from __future__ import annotations

import functools
import getpass
import multiprocessing
import os
import shlex
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any

import yaml
from ansible import constants
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure, AnsibleError, AnsibleUndefinedVariable
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.slipway.fleet.plugins.module_utils.release.lease import HEARTBEAT
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller import refusals
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Unreachable
from ansible_collections.slipway.fleet.plugins.plugin_utils.probe.client import alive, started

# libyaml's, where it is there, is ten times faster.
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Links to the job that runs this, as the CI systems name it.
CI_JOBS = ("CI_JOB_URL", "BUILD_URL", "CIRCLE_BUILD_URL")
GITHUB = ("SERVER_URL", "REPOSITORY", "RUN_ID")


def main_process() -> int:
    """The process id of ansible-playbook; an action plugin runs in one of its workers.

    Not the parent of now: a worker whose ansible-playbook was killed has another one, which lives for ever.
    """
    parent = multiprocessing.parent_process()
    return int(parent.pid or 0) if parent else os.getppid()


def main() -> tuple[int, str]:
    """Process id and start of ansible-playbook; together they name a process for good."""
    pid = main_process()
    return pid, started(pid)


def started_at(pid: int) -> float:
    """When a process started, in seconds since the epoch; now where that is not to be seen."""
    ticks = started(pid)
    if not ticks:
        return time.time()
    uptime = float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
    return time.time() - uptime + int(ticks) / os.sysconf("SC_CLK_TCK")


def who() -> str:
    """The person or job behind this run: SLIPWAY_WHO, else the user."""
    try:
        return os.environ.get("SLIPWAY_WHO") or getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def whence() -> str:
    """The machine, with a link to the CI job where there is one."""
    job = next((os.environ[name] for name in CI_JOBS if os.environ.get(name)), "")
    if os.environ.get("GITHUB_RUN_ID"):
        job = "{}/{}/actions/runs/{}".format(*(os.environ[f"GITHUB_{name}"] for name in GITHUB))
    return f"{socket.gethostname()} ({job})" if job else socket.gethostname()


def run_id() -> str:
    """Names this run of ansible-playbook, the same for all hosts and tasks, and no other run anywhere.

    Machines of a CI come from one snapshot: name, process ids and clocks are equal there. Ansible makes a directory
    for each run, with a random name, before it forks its workers.
    """
    _, _, own = Path(constants.DEFAULT_LOCAL_TMP).name.rpartition("ansible-local-")
    return f"{socket.gethostname()}-{own}"


def inventory_name(sources: Sequence[str]) -> str:
    """What reports are sorted by: the inventory's directory or file, by its own name.

    One that is just called inventory has the name of the project that it is in.
    """
    path = PurePath(sources[0]) if sources else PurePath("inventory")
    if path.stem == "hosts" and path.parent.name:
        path = path.parent
    if path.stem == "inventory" and path.parent.name:
        path = path.parent
    return path.stem or "inventory"


def reports(task_vars: dict[str, Any]) -> Path:
    """Where what is measured and told goes."""
    return Path("reports", inventory_name(task_vars.get("ansible_inventory_sources") or []))


def on_host(action: ActionBase, module: str, arguments: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
    """Run a module on the action's host. Raises Unreachable, so that the caller decides what that means for the fleet.

    Ansible itself would take the host out of the run and go on with the next batch (ansible issue 56265).
    """
    try:
        result: dict[str, Any] = action._execute_module(module_name=module, module_args=arguments, task_vars=task_vars)
    except AnsibleConnectionFailure as error:
        raise Unreachable(" ".join(str(error).split())) from error
    if result.get("unreachable"):
        raise Unreachable(" ".join(str(result.get("msg", "no answer")).split()))
    return result


@contextmanager
def sent(action: ActionBase, file: Path) -> Iterator[str]:
    """Send a file to the action's host, for a module that is told its path there; nothing of it is left afterwards."""
    action._make_tmp_path()
    try:
        directory = action._connection._shell.tmpdir
        remote = str(action._connection._shell.join_path(directory, file.name))
        action._transfer_file(str(file), remote)
        action._fixup_perms2([directory, remote])
        yield remote
    finally:
        action._remove_tmp_path(action._connection._shell.tmpdir)


@functools.lru_cache(maxsize=8)
def argument_spec(file: str, entry: str = "main") -> dict[str, Any]:
    """What a role's meta/argument_specs.yml says of the variables of an entry point."""
    said = yaml.load(Path(file).read_text(encoding="utf-8"), LOADER)  # noqa: S506 - either of the two is safe
    options: dict[str, Any] = said["argument_specs"][entry]["options"]
    return options


@functools.lru_cache(maxsize=8)
def _validator(specification: str, entry: str) -> ArgumentSpecValidator:
    return ArgumentSpecValidator(argument_spec(specification, entry))


def of_right_types(
    templar: Any, specification: str, variables: Mapping[str, Any], entry: str = "main"
) -> dict[str, Any]:
    """A role's inputs, rendered, what was given as text as the number or the truth that it stands for (`-e NAME=2`).

    Raises AnsibleActionFail for those that are not as its specification says, or are made of what is undefined.

    As ansible.builtin.validate_argument_spec does, which costs every host of the fleet a process of its own on the
    controller and as much again to copy the specification.
    """
    specification = os.path.realpath(specification)
    options = argument_spec(specification, entry)
    inputs = {name: variables[name] for name in options if name in variables}
    try:
        given: dict[str, Any] = templar.template(inputs)
    except AnsibleError as error:
        # What cannot be rendered may be made of one that is of a wrong type, which is the cause then.
        if wrong := _of_wrong_types(_that_can_be(templar, inputs), options):
            raise AnsibleActionFail("; ".join(wrong)) from None
        if isinstance(error, AnsibleUndefinedVariable):
            said = refusals.of_undefined(str(error), variables, options)
            raise AnsibleActionFail(said) from None  # which says it again
        raise
    result = _validator(specification, entry).validate(given, validate_role_argument_spec=True)
    if wrong := _told(result.error_messages, given, options):
        raise AnsibleActionFail("; ".join(wrong))
    meant = {name: result.validated_parameters[name] for name, value in given.items() if isinstance(value, str)}
    return given | {name: value for name, value in meant.items() if isinstance(value, (int, float))}


def _that_can_be(templar: Any, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Those that can be rendered, each by itself."""
    found = {}
    for name, value in inputs.items():
        with suppress(AnsibleError):
            found[name] = templar.template(value)
    return found


def _of_wrong_types(given: Mapping[str, Any], options: Mapping[str, Mapping[str, Any]]) -> list[str]:
    asked = {name: options[name] for name in given}
    said = ArgumentSpecValidator(asked).validate(dict(given), validate_role_argument_spec=True).error_messages
    return _told(said, given, options)


def _told(said: list[str], given: Mapping[str, Any], options: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys([*refusals.of_types(said, options), *refusals.of_containers(given, options)]))


def refuse_wrong(options: dict[str, Any], role: str = "", types: dict[str, Any] | None = None) -> None:
    """Raise AnsibleActionFail for what stands in the option `wrong`, or for options that are not of their `types`.

    A task for each check would cost every host of the fleet a process of its own on the controller. An option is named
    as the variable of the role that it came from.
    """
    named = {f"{role}_{name}": kind for name, kind in (types or {}).items()}
    given = {f"{role}_{name}": options[name] for name in types or () if options.get(name) is not None}
    errors = ArgumentSpecValidator(named).validate(given).error_messages
    broken = refusals.of_types(errors, named) or options.get("wrong")
    if broken:
        raise AnsibleActionFail(" ".join(broken))


def keep_alive(action: ActionBase, lease: str, run: str) -> None:
    """Renew a lease on the action's host for as long as ansible-playbook lives, and free it soon after it ended.

    Neither `always` nor `rescue` runs when ansible-playbook is interrupted or killed (ansible proposal 120), so a
    process of its own does this, with the connection that the task has. When the whole controller is gone, the lease
    runs out by itself.
    """
    pid = main_process()
    since = started(pid)
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        _be_quiet()
        file, mine = shlex.quote(lease), shlex.quote(f'"run": "{run}"')
        renew = f"grep -qsF {mine} {file} && touch -c {file}"
        _renew_until_gone(action, renew, pid, since)
        action._low_level_execute_command(f"grep -qsF {mine} {file} && rm -f {file}")
    finally:
        os._exit(0)


def _renew_until_gone(action: ActionBase, renew: str, pid: int, since: str) -> None:
    """Ends when the main process has, or the lease was given back."""
    beat = time.monotonic()
    while alive(pid, since):
        time.sleep(0.5)
        if time.monotonic() - beat < HEARTBEAT:
            continue
        beat = time.monotonic()
        try:
            if action._low_level_execute_command(renew)["rc"] == 1:
                os._exit(0)
        except AnsibleConnectionFailure:
            continue  # the host may come back; until then its lease grows old


def _be_quiet() -> None:
    """Nothing of the task that forked us is ours: neither its output nor its pipes to ansible-playbook."""
    Display().verbosity = 0
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)
    os.closerange(3, 4096)
