"""Makes the images that are missing or out of date: pulled where a registry answers, else built of Debian packages."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Lock, Semaphore
from typing import TYPE_CHECKING

from lab import docker, sources, trust
from lab.recipes import RECIPES, Recipe, inputs_digest
from lab.report import say, step
from lab.shell import LabError, run, run_logged

if TYPE_CHECKING:
    from collections.abc import Sequence

_BUILDS_AT_A_TIME = 2  # more do not help, they wait for the same disk and network


def ensure(logs: Path, *, refresh: bool = False, recipes: Sequence[Recipe] = RECIPES) -> None:
    """Bring every image up to date.

    Args:
        logs: The directory for the output of builds.
        refresh: Ask the registry again, and make everything anew.
        recipes: What to make, each after its base.

    Raises:
        LabError: An image can neither be pulled nor made; the message says why and where the log is.
    """
    maker = _Maker(logs, refresh=refresh)
    made: dict[str, Future[docker.Image]] = {}
    with ThreadPoolExecutor(len(recipes)) as pool:
        for recipe in recipes:
            made[recipe.tag] = pool.submit(maker.make, recipe, made[recipe.base] if recipe.base else None)
    stand_ins = sum(future.result().is_stand_in for future in made.values())
    if stand_ins:
        say("images", f"{stand_ins} are stand-ins made of Debian packages: no registry gave the official ones.")
        say("", "To ask again: python3 -m lab images --refresh")


class _Maker:
    """Makes images, and remembers what it learned about the registry."""

    def __init__(self, logs: Path, *, refresh: bool) -> None:
        self._logs = logs
        self._refresh = refresh
        self._authorities = trust.extra_authorities()
        self._registry_lock = Lock()
        self._registry_fault: str | None = None
        self._build_slots = Semaphore(_BUILDS_AT_A_TIME)

    def make(self, recipe: Recipe, base: Future[docker.Image] | None) -> docker.Image:
        """Return the image, made first if that is needed."""
        base_image = base.result() if base else None
        image = docker.find_image(recipe.tag)
        ask = image is None or self._refresh
        if recipe.official and ((ask and self._pull(recipe, recipe.official)) or _is_pulled(image)):
            image = _found(recipe)
            say(recipe.tag, f"{recipe.purpose}: official {recipe.official}, {_megabytes(image)}")
            return image
        mirrors = None if base_image else sources.of_this_machine()
        base_identity = _identity(base_image) if base_image else repr(mirrors)
        inputs = inputs_digest(recipe, base_identity, *self._authorities)
        if image is None or self._refresh or image.labels.get(docker.LABEL_INPUTS) != inputs:
            with self._build_slots:
                self._produce(recipe, inputs, mirrors)
            image = _found(recipe)
        what = f"stand-in for {recipe.official}" if recipe.official else "made here"
        say(recipe.tag, f"{recipe.purpose}: {what}, {_megabytes(image)}")
        return image

    def _pull(self, recipe: Recipe, official: str) -> bool:
        """Try to pull; a registry that failed once is not asked again in this run."""
        with self._registry_lock:
            if self._registry_fault is not None:
                return False
            try:
                with step(recipe.tag, f"pulling {official}"):
                    docker.pull(official)
                    docker.tag(official, recipe.tag)
            except LabError as error:
                self._registry_fault = str(error)
                say("registry", f"gives no images: {error}")
                say(
                    "",
                    "What is missing is made of this machine's Debian packages instead, which takes two minutes once.",
                )
                return False
        return True

    def _produce(self, recipe: Recipe, inputs: str, mirrors: sources.Mirrors | None) -> None:
        labels = {docker.LABEL_INPUTS: inputs, docker.LABEL_STAND_IN: str(bool(recipe.official)).lower()}
        log = self._logs / f"{recipe.tag.rpartition('/')[2].replace(':', '-')}.log"
        with tempfile.TemporaryDirectory(prefix="slipway-lab-", dir=_scratch()) as scratch:
            context = Path(scratch) / "context"
            shutil.copytree(recipe.directory, context)
            trust.write(context / "ca", self._authorities)
            if mirrors:
                self._bootstrap(recipe, mirrors, context, labels, log)
            else:
                arguments = {"BASE_IMAGE": str(recipe.base), **dict(recipe.arguments)}
                with step(recipe.tag, "building with docker, output in " + _short(log)):
                    docker.build(context, recipe.tag, labels=labels, arguments=arguments, log=log)

    def _bootstrap(
        self, recipe: Recipe, mirrors: sources.Mirrors, context: Path, labels: dict[str, str], log: Path
    ) -> None:
        suite = dict(recipe.arguments)["SUITE"]
        _require_debootstrap(recipe, self._registry_fault)
        (context / "debian.sources").write_text(mirrors.deb822(suite))
        root = context.parent / "root"
        with step(recipe.tag, f"debootstrap of Debian {suite}, about a minute, output in {_short(log)}"):
            try:
                run_logged([str(context / "bootstrap"), suite, mirrors.main, str(root), str(context)], log)
                docker.import_root(root, recipe.tag, labels)
            finally:
                # Left mounted when debootstrap was interrupted; removing the directory must not follow it.
                for mount in ("proc", "sys"):
                    if os.path.ismount(root / mount):
                        run("umount", str(root / mount))


def _require_debootstrap(recipe: Recipe, registry_fault: str | None) -> None:
    """Install debootstrap where that is possible.

    Raises:
        LabError: Stand-ins cannot be made on this machine.
    """
    if sys.platform != "linux" or os.geteuid() != 0 or not shutil.which("apt-get"):
        raise LabError(
            f"{recipe.tag} can neither be pulled as {recipe.official} (the registry: {registry_fault}) nor made here,\n"
            "because that needs debootstrap, root and a Debian system. Give Docker access to a registry, or on Debian\n"
            "run this once as root: sudo python3 -m lab images"
        )
    with _installing:
        if not (shutil.which("debootstrap") and Path(sources.KEYRING).is_file()):
            with step("debootstrap", "installing it, to make a Debian base without a registry"):
                run("apt-get", "update", "-qq")
                packages = ("debootstrap", "debian-archive-keyring")
                run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages)


_installing = Lock()


def _found(recipe: Recipe) -> docker.Image:
    image = docker.find_image(recipe.tag)
    if image is None:
        raise LabError(f"{recipe.tag} was made but is gone already. Is somebody removing images? Run this again.")
    return image


def _is_pulled(image: docker.Image | None) -> bool:
    return image is not None and docker.LABEL_INPUTS not in image.labels


def _identity(image: docker.Image) -> str:
    """Return what the image was made from if the lab made it (equal inputs give equal images), else its id."""
    return image.labels.get(docker.LABEL_INPUTS, image.identity)


def _megabytes(image: docker.Image) -> str:
    return f"{image.size / 1e6:.0f} MB"


def _scratch() -> str | None:
    """Return a directory for root file systems: not /tmp, which is often in memory or mounted nodev."""
    return "/var/tmp" if Path("/var/tmp").is_dir() else None  # noqa: S108 - a name that tempfile makes unique


def _short(path: Path) -> str:
    return os.path.relpath(path)
