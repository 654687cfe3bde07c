# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Ansible's connection and become plugins as ways to the agents of hosts; the only place that knows their insides.

What ansible-core's TaskExecutor does to connect to the host of a task is done here for any host of the play, since one
task takes the whole fleet. Written against ansible-core 2.19 and 2.21.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from ansible import constants as C  # noqa: N812 - its name all over Ansible
from ansible import context
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.plugins.action import ActionBase
from ansible.plugins.become import BecomeBase
from ansible.plugins.connection import ConnectionBase
from ansible.plugins.loader import become_loader, connection_loader
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.channel import Patience
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.host import Access, AgentHost, Settings
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.opening import PLACE
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.way import Errand, Started, Way, plain
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Unreachable

# Seconds beyond the connection's own timeout for passwords, the start of Python and the way of the agent's bytes.
BEGINNING = 30.0
# The first of these is what supported systems have; the shell of the host looks.
ANY_PYTHON = '"$(command -v /usr/bin/python3 || command -v python3 || echo python3)"'
# What TaskExecutor adds to the variables of a task's host, the same for all hosts.
OF_THE_TASK = ("hostvars", "ansible_search_path")
TTY = b"-tt"
NO_TTY = b"-T"


def open_hosts(
    play: Play,
    hosts: Sequence[str],
    patience: Patience | None = None,
    place: str = PLACE,
) -> dict[str, AgentHost]:
    """The hosts of an inventory, by name, with the connection and become settings that a task of the play would have.

    Connects to none of them; each does at its first call. To be used within one event loop. `place` is the directory
    where hosts keep agents.
    """
    settings = Settings(
        opening=asyncio.Semaphore(int(context.CLIARGS.get("forks") or C.DEFAULT_FORKS)),
        patience=patience or Patience(),
        place=place,
    )
    return {name: AgentHost(name, lambda name=name: play.access(name), settings) for name in hosts}  # type: ignore[misc]


class Play:
    """What the hosts of a play have in common, and the variables of each."""

    def __init__(self, action: ActionBase, task_vars: Mapping[str, Any]) -> None:
        self._action, self._task_vars = action, task_vars
        self._known: dict[str, dict[str, Any]] = {}
        # A task that is delegated would take all hosts for the one that it is delegated to.
        self._task = action._task.copy(exclude_parent=True, exclude_tasks=True)
        self._task._parent = action._task._parent
        self._task.delegate_to = None
        self._task_keys = self._task.dump_attrs()
        del self._task_keys["retries"]
        self._environments = environments(action._task)
        # The worker's own has what the command line and the play say, before the variables of the task's host.
        worker = multiprocessing.current_process()
        self._context = getattr(worker, "_play_context", None) or action._play_context
        self._variable_manager = getattr(worker, "_variable_manager", None) or task_vars["hostvars"]._variable_manager

    def access(self, name: str) -> Access:
        """How to reach a host. Raises Refused where its variables do not say that."""
        try:
            variables = self.variables(name)
            templar = self._action._templar.copy_with_new_env(available_variables=variables)
            return Access(
                way=way(self._connection(name, variables, templar), lambda: self._connection(name, variables, templar)),
                python=interpreter(variables, templar),
                environment=environment(self._environments, templar),
            )
        except AnsibleError as error:
            raise Refused(f"no way to this host: {plain(str(error).encode())}") from error

    def variables(self, name: str) -> dict[str, Any]:
        """The variables that the task has on a host, put together once. Raises Refused where it is not to be found."""
        if name not in self._known:
            self._known[name] = self._variables(name)
        return self._known[name]

    def _variables(self, name: str) -> dict[str, Any]:
        if name == self._task_vars.get("inventory_hostname"):
            return dict(self._task_vars)
        host = self._task_vars["hostvars"]._inventory.get_host(name)
        if host is None:
            raise Refused(f"{name} is not in the inventory")
        found: dict[str, Any] = self._variable_manager.get_vars(
            play=self._task._parent._play, host=host, task=self._task, include_hostvars=False
        )
        return found | {name: self._task_vars[name] for name in OF_THE_TASK if name in self._task_vars}

    def _connection(self, name: str, variables: dict[str, Any], templar: Any) -> ConnectionBase:
        """The connection plugin, set up as TaskExecutor does before the first attempt of a task."""
        play_context = self._context.set_task_and_variable_override(
            task=self._task, variables=variables, templar=templar
        )
        play_context.post_validate(templar=templar)
        play_context.remote_addr = play_context.remote_addr or name
        kind = templar.template(variables.get("ansible_connection")) or self._task.connection
        play_context.connection = kind
        connection = connection_loader.get(
            kind, play_context, None, task_uuid=self._task._uuid, ansible_playbook_pid=to_text(os.getppid())
        )
        if connection is None:
            raise AnsibleError(f"the connection plugin {kind!r} was not found")
        connection.set_become_plugin(self._become(variables, templar))
        play_context.set_attributes_from_plugin(connection)
        keys = dict(self._task_keys, timeout=play_context.timeout)
        if play_context.password:
            keys["password"] = play_context.password
        options = connection._resolve_option_variables(variables, templar)
        connection.set_options(task_keys=keys, var_options=options)
        _set_options("shell", connection._shell, keys, variables, templar)
        if connection.become is not None:
            if play_context.become_pass:
                keys["become_pass"] = play_context.become_pass
            _set_options("become", connection.become, keys, variables, templar)
        return connection

    def _become(self, variables: Mapping[str, Any], templar: Any) -> BecomeBase | None:
        wanted = self._task.become
        if variables.get("ansible_become") is not None:
            wanted = boolean(templar.template(variables["ansible_become"]))
        if not wanted:
            return None
        method = templar.template(variables.get("ansible_become_method")) or self._task.become_method
        become = become_loader.get(method)
        if become is None:
            raise AnsibleError(f"the become plugin {method!r} was not found")
        return become


def _set_options(kind: str, plugin: Any, keys: Mapping[str, Any], variables: Mapping[str, Any], templar: Any) -> None:
    names = C.config.get_plugin_vars(kind, plugin._load_name)
    options = {name: templar.template(variables[name]) for name in names if name in variables}
    plugin.set_options(task_keys=keys, var_options=options)


def interpreter(variables: Mapping[str, Any], templar: Any) -> str:
    """The Python of a host as its shell finds it: what inventory or Ansible's own discovery says, else any."""
    named = templar.template(variables.get("ansible_python_interpreter"))
    facts = variables.get("ansible_facts") or {}
    if not named or str(named).startswith("auto"):
        named = templar.template(facts.get("discovered_interpreter_python"))
    return str(named) if named else ANY_PYTHON


def environments(task: Any) -> list[Any]:
    """What is said of the environment, from the play inwards, as it is written: the task's own is that of one host."""
    found, part = [(task.get_ds() or {}).get("environment")], task._parent
    while part is not None:
        found.append(getattr(part, "_environment", None))
        part = getattr(part, "_parent", None)
    found.append(getattr(task._parent._play, "_environment", None))
    return [part for said in reversed(found) for part in (said if isinstance(said, list) else [said])]


def environment(layers: Sequence[Any], templar: Any) -> dict[str, str]:
    """The environment of a host's tasks; what is said last counts."""
    said = [templar.template(layer) for layer in layers if isinstance(layer, (dict, str))]
    return {str(name): str(value) for layer in said for name, value in (layer or {}).items()}


def way(connection: ConnectionBase, anew: Callable[[], ConnectionBase]) -> Way | Errand:
    """The way that a connection plugin goes; `anew` makes another of the same kind."""
    kind = connection._load_name.rsplit(".", 1)[-1]
    kinds: dict[str, type[_Process]] = {"ssh": _Ssh, "docker": _Docker, "local": _Local}
    return kinds[kind](connection) if kind in kinds else _Errand(connection, anew)


@dataclass(frozen=True)
class _Become:
    """A become plugin, for the time of one start: its prompt names that."""

    plugin: BecomeBase
    password: bytes

    @property
    def name(self) -> str:
        return str(self.plugin.name).rsplit(".", 1)[-1]

    def asks(self, said: bytes) -> bool:
        return bool(self.plugin.prompt and self.plugin.check_password_prompt(said))

    def wrong(self, said: bytes) -> bool:
        return bool(self.plugin.check_incorrect_password(said))

    def missing(self, said: bytes) -> bool:
        return bool(self.plugin.check_missing_password(said))


def _as_root(connection: ConnectionBase, command: str) -> str:
    """The command as the remote user gives it to the shell."""
    if connection.become is None:
        return command
    wrapped: str = connection.become.build_become_command(command, connection._shell)
    return wrapped


class _Process(ABC):
    """A connection that is a process of the controller."""

    def __init__(self, connection: ConnectionBase) -> None:
        self._connection = connection
        self._password = b""
        if connection.become is not None:
            self._password = to_bytes(connection.become.get_option("become_pass") or "")

    def start(self, command: str) -> Started:
        """Start the command. Raises Unreachable where the connection's program cannot be run, and Refused."""
        wrapped = _as_root(self._connection, command)
        become = self._connection.become
        try:
            process = self._popen(wrapped)
        except (AnsibleError, OSError) as error:
            raise Unreachable(plain(str(error).encode())) from error
        return Started(
            process,
            become=_Become(become, self._password) if become is not None else None,
            patience=float(self._timeout()) + BEGINNING,
            begun=self._begun,
        )

    def _timeout(self) -> float:
        return float(self._connection._play_context.timeout or 10)

    @abstractmethod
    def _popen(self, command: str) -> subprocess.Popen[bytes]:
        """Start a process of the controller that runs the command on the host. Raises AnsibleError and OSError."""

    def _begun(self) -> None:  # noqa: B027 - a way may have nothing to do here
        """Most have nothing that only the start needs."""

    def forget(self) -> None:  # noqa: B027 - a way may have nothing to do here
        """Most have nothing that a broken connection leaves."""


def _run(words: Sequence[str | bytes], **options: Any) -> subprocess.Popen[bytes]:
    """Start a process of the channel; a Ctrl-C is the coordinator's, which still has words for the hosts."""
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [to_bytes(word) for word in words],
        stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0,
        **{"start_new_session": True, **options},
    )  # fmt: skip


class _Local(_Process):
    def _popen(self, command: str) -> subprocess.Popen[bytes]:
        return _run([C.DEFAULT_EXECUTABLE or "/bin/sh", "-c", command])


class _Docker(_Process):
    def _popen(self, command: str) -> subprocess.Popen[bytes]:
        self._connection._set_conn_data()
        return _run(self._connection._build_exec_cmd([self._connection._play_context.executable, "-c", command]))


class _Ssh(_Process):
    """OpenSSH with the command line, the passwords and the control socket of Ansible's plugin."""

    def _popen(self, command: str) -> subprocess.Popen[bytes]:
        connection = self._connection
        connection.host = connection.get_option("host") or connection._play_context.remote_addr
        executable = connection.get_option("ssh_executable")
        # Some programs that make one root ask for a password on a terminal alone; their plugins say that they do.
        terminal = self._password and not getattr(connection.become, "pipelining", True)
        wrapped = f"/bin/sh -c {connection._shell.quote(command)}"
        words = connection._build_command(executable, "ssh", TTY if terminal else NO_TTY, connection.host, wrapped)
        # Until ansible-core 2.19 it is a part of _build_command.
        words[:0] = getattr(connection, "_sshpass_cmd", list)()
        options = connection._init_shm()
        pipe = connection.sshpass_pipe
        process = _run(words, **options, **({"pass_fds": pipe} if pipe else {}))
        if pipe:
            os.close(pipe[0])
            with suppress(BrokenPipeError):
                password = connection.get_option("password") or connection._play_context.password
                os.write(pipe[1], to_bytes(password) + b"\n")
            os.close(pipe[1])
            connection.sshpass_pipe = None
        return process

    def _begun(self) -> None:
        """The password that ssh asks for through Ansible was in shared memory."""
        if self._connection.shm is not None:
            with suppress(FileNotFoundError):
                self._connection.shm.unlink()
            self._connection.shm = None

    def forget(self) -> None:
        """A control socket may lead to a connection that is dead and hangs."""
        with suppress(AnsibleError, OSError):
            self._connection.reset()


class _Errand:
    """A connection of which only exec_command is known."""

    def __init__(self, connection: ConnectionBase, anew: Callable[[], ConnectionBase]) -> None:
        self._idle, self._anew = [connection], anew

    def run(self, command: str, given: bytes) -> tuple[int, bytes, bytes]:
        """Exit code, stdout and stderr. Raises Unreachable and Refused."""
        connection = self._idle.pop() if self._idle else self._anew()
        try:
            connection._connect()
            shell = connection._play_context.executable or "/bin/sh"
            wrapped = f"{shell} -c {connection._shell.quote(_as_root(connection, command))}"
            answer: tuple[int, bytes, bytes] = connection.exec_command(wrapped, in_data=given, sudoable=True)
        except AnsibleConnectionFailure as error:
            raise Unreachable(plain(str(error).encode())) from error
        except AnsibleError as error:
            raise Refused(plain(str(error).encode())) from error
        self._idle.append(connection)
        return answer
