"""The Compose runtime of a slot: one Compose project `<app>-<slot>` with one service `web`."""

from __future__ import annotations

import json
import os
import re
import resource
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from ..host import command
from ..host.command import Ran
from ..host.durable import read_json, write_durably
from ..host.errors import Damaged
from ..image.local import CONTENT_LABEL, image_named_in
from .beside import processes_of
from .beside_compose import ComposeBeside
from .diagnosis import no_room
from .launch import SHELL, WANTED, by_python, by_shell
from .listening import exposed, parse_listening, tables_of
from .model import SLOTS, SlotStatus
from .runtime import RuntimeFailed
from .slots import in_own_directory
from .still import Still
from .users import Owner, user_of_app
from .words import compose_word

RELEASE_LABEL = "slipway.release"
# Lines of a release's Compose file: its secrets are variables, too; it has a command of its own.
COMMANDED = "    command: "
# Before the services of its processes.
BESIDE_WEB = "  # What runs beside it."
_OPEN_FILES = re.compile(r"\$\{SLIPWAY_OPEN_FILES:-(\d+)\}")
# Who is to run there, which only the image may know: {"user": what the inventory says, "otherwise": a number}; and what
# a release from before there was that says.
_USER, _NUMBERS = (
    re.compile(r"^x-slipway-user: (\{.*\})$", re.MULTILINE),
    re.compile(r'^    user: "(\d+):(\d+)"', re.MULTILINE),
)
# The bit of CAP_SYS_RESOURCE, with which a limit can be raised (capabilities(7)).
_RAISES = 1 << 24
# What the kernel says of a file, not a database of a table.
_DENIED = re.compile(r"(exec: |Errno 13\]|can't open)[^\n]*permission denied", re.IGNORECASE)
# Seconds for Docker to notice that a container has ended, or to be done with removing it, and those between two calls.
_NOTICES, _PAUSE = 10, 0.2
# Where an image that says nothing has its programs.
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Compose:
    """Starts, stops and looks at the slots of one app through the Docker command line."""

    def __init__(
        self,
        app: str,
        releases: Path,
        sockets: Path,
        ports: Optional[Mapping[str, int]] = None,
        processes: Path = Path("/proc"),
    ) -> None:
        self.app = app
        self.releases = releases
        self.sockets = sockets
        self.ports = ports or {}
        self.processes = processes
        self.beside = ComposeBeside(self)

    def start(self, slot: str, release: str) -> None:
        """Start `release` in `slot` from its own rendered files. Raises RuntimeFailed with Compose's words."""
        self.up(f"{self.app}-{slot}", slot, release, "up", "--detach", "--no-build", "--pull", "never", "web")

    def up(self, project: str, slot: str, release: str, *words: str) -> None:
        """Have Compose start something of a release. Raises RuntimeFailed with its words, and with advice."""
        try:
            _checked([*self._command(project, release), *words], 120, self._environment(slot, release))
        except RuntimeFailed as error:
            raise RuntimeFailed(f"{error}{self._another_user(release, str(error))}") from error

    def _another_user(self, release: str, said: str) -> str:
        """What to do where a process may not enter what its image made for a user of its own."""
        wanted = self._wanted_user(release)
        if not _DENIED.search(said) or (wanted and not wanted["user"]):
            return ""
        try:
            user = str(self._image(release)["Config"].get("User") or "").partition(":")[0]
        except (RuntimeFailed, ValueError, LookupError):
            return ""
        return f"; the image makes a user of its own, {user}: leave fastapi_app_user empty" if user else ""

    def owner(self, release: str) -> Optional[Owner]:
        """The user and the group of a release, as its image knows them; None where its files do not say."""
        wanted = self._wanted_user(release)
        if wanted is None:
            found = _NUMBERS.search(self._text(release))
            return (int(found[1]), int(found[2])) if found else None
        image = self._image(release)
        kept = self.releases / release / ".user.json"
        with suppress(Damaged, OSError, KeyError, ValueError):
            known = read_json(kept) or {}
            if known["image"] == image["Id"]:
                uid, gid = known["user"]
                return uid, gid
        texts: dict[str, str] = {}

        def read(path: str) -> str:
            if path not in texts:
                with Still(image["Id"], self._docker) as still:
                    texts[path] = still.text(path)
            return texts[path]

        owner = user_of_app(wanted["user"], str(image["Config"].get("User") or ""), int(wanted["otherwise"]), read)
        with suppress(OSError):
            write_durably(kept, json.dumps({"image": image["Id"], "user": owner}) + "\n")
        return owner

    def contents(self, release: str, path: str, to: Path) -> None:
        """Put what the image of a release has in a directory into another one. Raises RuntimeFailed."""
        image = self._image(release)
        home = str(image["Config"].get("WorkingDir") or "/").rstrip("/")
        if home == path or home.startswith(f"{path}/"):
            raise RuntimeFailed(
                f"a directory of the host at {path} would hide what the image has in {home}, where it runs; name "
                f"one of its own, such as {home}/data"
            )
        with Still(image["Id"], self._docker) as still:
            still.copy(path, to)

    def _image(self, release: str) -> dict[str, Any]:
        """What Docker knows of the image of a release. Raises RuntimeFailed."""
        found: dict[str, Any] = json.loads(self._docker("image", "inspect", self.image_of(release) or ""))[0]
        return found

    def _wanted_user(self, release: str) -> Optional[dict[str, Any]]:
        found = _USER.search(self._text(release))
        return json.loads(found[1]) if found else None

    def _text(self, release: str) -> str:
        return self._file(release).read_text(encoding="utf-8")

    def stop(self, slot: str, grace: float) -> None:
        """Stop and remove `slot`: SIGTERM, `grace` seconds, SIGKILL. Nothing to do is fine."""
        containers = self._containers(slot)
        if containers:
            self._docker("stop", "--time", str(int(grace)), *containers, timeout=grace + 30)
            self.remove(containers)

    def status(self) -> dict[str, SlotStatus]:
        """Both slots, in two calls to Docker."""
        found = {slot: SlotStatus() for slot in SLOTS}
        for item in self.known(self._containers(*SLOTS)):
            labels = item["Config"]["Labels"]
            slot = labels["com.docker.compose.project"].rpartition("-")[2]
            state = item["State"]
            found[slot] = SlotStatus(
                release=labels.get(RELEASE_LABEL),
                running=state["Running"] and not state["Restarting"],
                restarts=item["RestartCount"],
                exit_code=state["ExitCode"],
                out_of_memory=state["OOMKilled"],
                started=state["StartedAt"],
                container=item["Id"],
            )
        return found

    def logs(self, slot: str, lines: int) -> str:
        containers = self._containers(slot)
        if not containers:
            return ""
        return self._docker("logs", "--tail", str(lines), containers[0], merge=True)

    def listening(self, slot: str) -> list[str]:
        """Addresses on which the slot's processes listen, for the diagnosis of a slot that never answered."""
        containers = self._containers(slot)
        if not containers:
            return []
        try:
            said = self._docker("inspect", "--format", "{{.State.Pid}} {{json .Config.ExposedPorts}}", containers[0])
        except RuntimeFailed:
            return []
        process, _, ports = said.strip().partition(" ")
        # From the host: an image need not have a program that shows a file. 0 is a container that has ended.
        found = parse_listening(tables_of(self.processes / process)) if process != "0" else []
        return exposed(found, json.loads(ports or "null") or ())

    def past_edge(self, slot: str) -> list[str]:
        return []

    def retire(self, slot: str) -> None:
        """Let `slot` run on, but not come back after a crash or a reboot."""
        if containers := self._containers(slot):
            self.stay_down(containers)

    def stay_down(self, containers: Sequence[str]) -> None:
        """Have containers not come back by themselves once they have ended. Raises RuntimeFailed."""
        self._until_done("update", "--restart=no", *containers)

    def remove(self, containers: Sequence[str]) -> None:
        """Remove containers, whatever they do; those that are gone are no trouble. Raises RuntimeFailed."""
        self._until_done("rm", "--force", *containers)

    def known(self, containers: Sequence[str]) -> list[dict[str, Any]]:
        """What Docker knows of containers that it has just listed, without those gone since. Raises RuntimeFailed."""
        if not containers:
            return []
        # It prints those that it finds and fails for the others, a line for each.
        ran = _ran(["docker", "inspect", *containers], 60)
        lines = ran.stderr.lower().splitlines()
        if ran.returncode and not (lines and all("no such object" in line for line in lines)):
            raise RuntimeFailed(ran.said)
        found: list[dict[str, Any]] = json.loads(ran.stdout or "[]")
        return found

    def _until_done(self, *words: str) -> None:
        """Have Docker do something to containers that may end, or be removed, in that moment. Raises RuntimeFailed.

        That is an error in the words of whatever noticed it first (Docker, containerd, runc), or since Docker removes
        one by itself already (`--rm`). Once it is done with that, the same call does what is left to do.
        """
        deadline = time.monotonic() + _NOTICES
        while True:
            try:
                self._docker(*words)
                break
            except RuntimeFailed:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(_PAUSE)

    def resolved(self, slot: str, release: str) -> dict[str, Any]:
        """What Compose makes of a release's files for a slot, with every value in its place. Raises RuntimeFailed."""
        words = [*self._command(f"{self.app}-{slot}", release), "config", "--format", "json"]
        found: dict[str, Any] = json.loads(_checked(words, 60, self._environment(slot, release)))
        return found

    def there(self, releases: list[str]) -> list[str]:
        """Those of `releases` whose image this host has."""
        images = {release: image for release in releases if (image := self.image_of(release))}
        if not images:
            return []
        # It prints those that it finds and fails for the others, whose names it repeats.
        ran = _ran(["docker", "image", "inspect", "--format", "{{.Id}}", *images.values()], 60)
        if ran.returncode and "No such image" not in ran.stderr:
            raise RuntimeFailed(ran.said)
        return [release for release, image in images.items() if f"No such image: {image}" not in ran.stderr]

    def discard(self, releases: list[str]) -> None:
        """Untag the images that only `releases` name, and those built for this app that no release names.

        The releases of every app of the host count. Layers go with the last tag; an image in use is left.
        """
        unwanted = {self.image_of(release) for release in releases} | set(self._built())
        for reference in unwanted - self._named(set(releases)) - {None}:
            try:
                self._docker("image", "rm", str(reference))
            except RuntimeFailed:
                continue

    def _named(self, but: set[str]) -> set[Optional[str]]:
        """The images that releases of this host's apps name, those of this app's releases `but` left out."""
        files = self.releases.parent.parent.glob("*/releases/*/compose.yaml")
        mine = self.releases.resolve()
        return {
            image_named_in(path)
            for path in files
            if path.parent.name not in but or path.parent.parent.resolve() != mine
        }

    def _built(self) -> list[str]:
        """The images that the deploy playbook built for this app, as it names and labels them."""
        names = self._docker(
            "image", "ls", "--filter", f"label={CONTENT_LABEL}", "--format", "{{.Repository}}:{{.Tag}}",
            f"slipway/{self.app}",
        ).split()  # fmt: skip
        return [name for name in names if not name.endswith(":<none>")]

    def image_of(self, release: str) -> Optional[str]:
        """The image that a staged release names."""
        return image_named_in(self.releases / release / "compose.yaml")

    def run(self, release: str, words: list[str], timeout: float, name: str, together: bool = False) -> Ran:
        """Run a one-off command in `release`, with its environment, secrets, network and limits, outside any slot.

        It goes through the image's entry point, as what runs in a slot does.

        Its container is `<app>-oneoff-<name>`. One that was left by a runner which is gone is waited for, as long as a
        new one might take, and then removed; at the limit the container is stopped, not only Docker's client.
        """
        container = f"{self.app}-oneoff-{name}"
        self._end(container, timeout)
        try:
            ran = _ran(
                [
                    *self._command(f"{self.app}-oneoff", release),
                    *("run", "--rm", "--name", container, "--no-deps", "-T", "web", *words),
                ],
                timeout,
                self._environment("oneoff", release),
                together,
            )
        except SystemExit:  # who asked was told to end
            self._end(container, 0)
            raise
        if ran.timed_out:
            self._end(container, 0)
        said = ran.stdout if together else ran.stderr
        hint = f"{self._another_user(release, said)}{no_room(said)}" if ran.returncode else ""
        return replace(ran, stderr=ran.stderr.rstrip() + hint) if hint else ran

    def _end(self, container: str, wait: float) -> None:
        """Have no container of that name: wait `wait` seconds for its end, then stop and remove it."""
        deadline = time.monotonic() + wait
        while found := self._docker(
            "ps", "--all", "--format", "{{.State}}", "--filter", f"name=^/{container}$"
        ).strip():
            if found == "running" and time.monotonic() < deadline:
                time.sleep(1)
                continue
            self.remove([container])

    def _containers(self, *slots: str) -> list[str]:
        projects = [f"{self.app}-{slot}" for slot in slots]
        found = self._docker(
            "ps", "--all", "--no-trunc", "--format", '{{.ID}} {{.Label "com.docker.compose.project"}}',
            "--filter", "label=com.docker.compose.oneoff=False",
        ).splitlines()  # fmt: skip
        return [line.split()[0] for line in found if line.split()[1:] and line.split()[1] in projects]

    def _command(self, project: str, release: str) -> list[str]:
        files = [path for file in self._files(release) for path in ("--file", str(file))]
        return ["docker", "compose", "--project-name", project, *files]

    def _files(self, release: str) -> list[Path]:
        """The Compose files of a release: its own, and the one that puts the launcher before what the image runs."""
        file = self._file(release)
        lines = file.read_text(encoding="utf-8").splitlines()
        if WANTED not in lines:
            return [file]
        return [file, self._launch(release, commands_web(lines))]

    def _launch(self, release: str, commanded: bool) -> Path:
        """A Compose file with the image's own entry point, and its own command, behind the launcher.

        Compose cannot say what only the image knows, and a new entry point takes the image's command away. Raises
        RuntimeFailed where the image has nothing that could launch, or nothing to run.
        """
        image = self.image_of(release) or ""
        found = json.loads(self._docker("image", "inspect", image))[0]
        path, mark = self.releases / release / ".launch.yaml", f"# For {found['Id']}."
        if path.is_file() and path.read_text(encoding="utf-8").startswith(mark):
            return path
        config = found["Config"]
        entry, words = config.get("Entrypoint") or [], config.get("Cmd") or []
        if not commanded and not [*entry, *words]:
            raise RuntimeFailed(f"the image {image} has no command of its own; write one as fastapi_app_command")
        entry = [*self._launcher(image, config.get("Env") or []), *entry]
        lines = [mark, "services:", "  web:", f"    entrypoint: [{', '.join(map(compose_word, entry))}]"]
        if not commanded:
            lines.append(f"{COMMANDED}[{', '.join(map(compose_word, words))}]")
        for name in processes_of(self.releases, release):
            lines += [f"  {name}:", f"    entrypoint: [{', '.join(map(compose_word, entry))}]"]
        write_durably(path, "\n".join([*lines, ""]))
        return path

    def _launcher(self, image: str, environment: list[str]) -> list[str]:
        """The launcher that the image can run, by what is found in a container that is never started."""
        with Still(image, self._docker) as still:
            if still.holds(SHELL):
                return by_shell()
            path = next((text[5:] for text in environment if text.startswith("PATH=")), _PATH)
            for directory in path.split(":"):
                if still.holds(python := f"{directory}/python3"):
                    return by_python(python)
        raise RuntimeFailed(
            f"the image {image} has neither {SHELL} nor a python3 in {path}, so nothing in it can make variables of "
            "its secrets; set fastapi_app_secrets_as: [files], and let the app read them from /run/secrets"
        )

    def _file(self, release: str) -> Path:
        """The Compose file of a release; of one from before slots had directories a copy that knows them."""
        staged = self.releases / release / "compose.yaml"
        text = staged.read_text(encoding="utf-8")
        now = in_own_directory(text, self.sockets, "${SLIPWAY_SLOT}")
        if now == text:
            return staged
        copy = staged.with_name(".own-directory.yaml")
        if not copy.is_file() or copy.read_text(encoding="utf-8") != now:
            write_durably(copy, now)
        return copy

    def _environment(self, slot: str, release: str) -> dict[str, str]:
        files = _OPEN_FILES.search(self._text(release))
        limit = {"SLIPWAY_OPEN_FILES": str(open_files(int(files.group(1))))} if files else {}
        if self._wanted_user(release) and (owner := self.owner(release)):
            limit["SLIPWAY_USER"] = f"{owner[0]}:{owner[1]}"
        own = {"SLIPWAY_SLOT": slot, "SLIPWAY_RELEASE": release, "SLIPWAY_PORT": str(self.ports.get(slot, 0))}
        return {**os.environ, **own, **limit}

    def _docker(self, *arguments: str, timeout: float = 60, merge: bool = False) -> str:
        return _checked(["docker", *arguments], timeout, merge=merge)


def commands_web(lines: Sequence[str]) -> bool:
    """Whether the web process of a release's Compose file has a command of its own; its service comes first."""
    for line in lines:
        if line.startswith(COMMANDED):
            return True
        if line == BESIDE_WEB:
            return False
    return False


def open_files(wanted: int, status: Path = Path("/proc/self/status")) -> int:
    """How many files a process can be allowed to have open: on a host that is a container itself perhaps fewer.

    Docker refuses a limit that it cannot set, in words of its own.
    """
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status.read_text(encoding="ascii"), re.MULTILINE)
    if found and int(found.group(1), 16) & _RAISES:
        return wanted
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return wanted if most == resource.RLIM_INFINITY else min(wanted, most)


def _ran(words: list[str], timeout: float, environment: Optional[Mapping[str, str]] = None, merge: bool = False) -> Ran:
    try:
        return command.run(words, timeout, environment, merge)
    except command.CommandError as error:
        raise RuntimeFailed(str(error)) from error


def _checked(
    words: list[str], timeout: float, environment: Optional[Mapping[str, str]] = None, merge: bool = False
) -> str:
    ran = _ran(words, timeout, environment, merge)
    if ran.returncode:
        raise RuntimeFailed(ran.said)
    return ran.stdout
