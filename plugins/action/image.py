# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Controller part of slipway.fleet.image: builds once for all hosts and sends what a host lacks."""

from __future__ import annotations

import fcntl
import gzip
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.slipway.fleet.plugins.module_utils.build_context import BuildContext, ContextError
from ansible_collections.slipway.fleet.plugins.module_utils.image import (
    CONTENT_LABEL,
    Image,
    ImageError,
    build_arguments,
    docker,
    find,
)

ARCHIVES_KEPT = 3


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    directory = Path(home) / "slipway" / "images"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    return directory


def digest_of(name: str) -> str:
    """The digest in an image name, empty where it has none: sha256:... of registry.example/app@sha256:..."""
    return name.partition("@")[2]


@contextmanager
def _once(name: str) -> Iterator[None]:
    """Let one of Ansible's parallel workers do the work while the others wait for its result."""
    with open(_cache() / f"{name}.lock", "w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


class ActionModule(ActionBase):  # type: ignore[misc]
    """See the module of the same name for the options."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        self._task_vars = task_vars
        options = dict(self._task.args)
        source = options.get("source", "pull")
        try:
            if options.get("operation") == "identify":
                return self._identify(options, source)
            if source == "pull":
                return self._pull(options)
            if source == "ship":
                return self._ship(options)
            if source in ("build", "build_on_host"):
                return self._build(options, on_host=source == "build_on_host")
        except (ImageError, ContextError) as error:
            raise AnsibleActionFail(str(error)) from error
        raise AnsibleActionFail(f"source is {source!r}, but must be one of pull, ship, build, build_on_host")

    def _identify(self, options: dict[str, Any], source: str) -> dict[str, Any]:
        """Name and content of the wanted image as far as the controller knows them, without a look at the host.

        The content is empty for a tag that only the registry can resolve.
        """
        name = str(options["name"])
        if source in ("build", "build_on_host"):
            key = self._context(options).key()
            return self._answer(f"{name}:{key[:12]}", key, None, changed=False)
        if source == "ship":
            local = find(name)
            return self._answer(name, local.id if local else "", None, changed=False)
        return self._answer(name, digest_of(name), None, changed=False)

    def _pull(self, options: dict[str, Any]) -> dict[str, Any]:
        result = self._on_host(operation="pull", name=options["name"], pull_again=options.get("pull_again", False))
        image = result.get("image")
        if image is None:
            return self._answer(options["name"], options["name"], None, changed=True)
        digest = next(iter(image["digests"]), options["name"])
        content = digest_of(options["name"]) or image["id"]
        return self._answer(digest, content, image["id"], changed=result["changed"])

    def _ship(self, options: dict[str, Any]) -> dict[str, Any]:
        name = options["name"]
        local = find(name)
        if local is None:
            raise ImageError(f"the controller's Docker has no image {name}; pull or build it, or set source to pull")
        there = self._on_host(name=name)["image"]
        if there and there["id"] == local.id:
            return self._answer(name, local.id, local.id, changed=False)
        if not self._task.check_mode:
            self._send(local, name)
        return self._answer(name, local.id, local.id, changed=True)

    def _build(self, options: dict[str, Any], on_host: bool) -> dict[str, Any]:
        context = self._context(options)
        key = context.key()
        reference = f"{options['name']}:{key[:12]}"
        there = self._on_host(name=reference)["image"]
        if there:
            return self._answer(reference, key, there["id"], changed=False)
        if self._task.check_mode:
            return self._answer(reference, key, None, changed=True)
        if on_host:
            image = self._build_there(context, key, reference)
        else:
            local = self._build_here(context, key, reference)
            self._send(local, reference)
            image = local.id
        return self._answer(reference, key, image, changed=True)

    def _context(self, options: dict[str, Any]) -> BuildContext:
        if not options.get("context"):
            raise ContextError("a build needs `context`, the directory with the Dockerfile")
        ca_file = options.get("ca_file")
        return BuildContext(
            Path(options["context"]),
            options.get("dockerfile", "Dockerfile"),
            {key: str(value) for key, value in (options.get("build_args") or {}).items()},
            Path(ca_file) if ca_file else None,
        )

    def _build_here(self, context: BuildContext, key: str, reference: str) -> Image:
        """Build on the controller unless it has the content already. Raises ImageError with the build's output."""
        with _once(f"build-{key[:12]}"):
            found = find(reference)
            if found and found.content == key:
                return found
            with tempfile.TemporaryDirectory(prefix="slipway-") as directory:
                archive = Path(directory) / "context.tar"
                context.write(archive)
                arguments = build_arguments(context.arguments)
                with open(archive, "rb") as stream:
                    docker(
                        "build", "--tag", reference, "--file", context.dockerfile,
                        "--label", f"{CONTENT_LABEL}={key}", *arguments, "-",
                        timeout=3600, stdin=stream,
                    )  # fmt: skip
            built = find(reference)
        if built is None:
            raise ImageError(f"the build of {reference} succeeded, but the image is not there")
        return built

    def _build_there(self, context: BuildContext, key: str, reference: str) -> str:
        with tempfile.TemporaryDirectory(prefix="slipway-") as directory:
            archive = Path(directory) / "context.tar"
            context.write(archive)
            result = self._transfer(
                archive,
                operation="build",
                name=reference,
                content=key,
                dockerfile=context.dockerfile,
                build_args=context.arguments,
            )
        return str(result["image"]["id"])

    def _send(self, image: Image, reference: str) -> None:
        """Send an image that the controller has; the compressed archive is made once and kept for the next host."""
        archive = _cache() / f"{image.id.rpartition(':')[2]}.tar.gz"
        with _once(archive.name):
            if not archive.exists():
                self._save(image, archive)
        os.utime(archive)
        self._transfer(archive, operation="load", name=reference, expected=image.id)

    def _save(self, image: Image, archive: Path) -> None:
        part = archive.with_suffix(".part")
        with subprocess.Popen(["docker", "save", image.id], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            with gzip.open(part, "wb", compresslevel=1) as stream:
                shutil.copyfileobj(process.stdout, stream, 1 << 20)
        if process.returncode:
            part.unlink()
            raise ImageError(f"`docker save {image.id}` failed with exit code {process.returncode}")
        part.rename(archive)
        for old in sorted(_cache().glob("*.tar.gz"), key=lambda path: path.stat().st_mtime)[:-ARCHIVES_KEPT]:
            old.unlink()

    def _transfer(self, archive: Path, **arguments: Any) -> dict[str, Any]:
        self._make_tmp_path()
        try:
            remote = self._connection._shell.join_path(self._connection._shell.tmpdir, archive.name)
            self._transfer_file(str(archive), remote)
            self._fixup_perms2([self._connection._shell.tmpdir, remote])
            return self._on_host(archive=remote, **arguments)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)

    def _on_host(self, **arguments: Any) -> dict[str, Any]:
        result: dict[str, Any] = self._execute_module("slipway.fleet.image", arguments, task_vars=self._task_vars)
        if result.get("failed"):
            raise ImageError(str(result.get("msg", result)))
        return result

    def _answer(self, reference: str, content: str, image: str | None, changed: bool) -> dict[str, Any]:
        return {"changed": changed, "reference": reference, "content": content, "id": image}
