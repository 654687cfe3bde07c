"""Where this machine gets its Debian packages from: read from apt's own configuration, never written down."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.shell import LabError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

APT = Path("/etc/apt")
OS_RELEASE = Path("/etc/os-release")
OVERRIDE = "LAB_DEBIAN_MIRROR"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

_ONE_LINE = re.compile(r"^deb\s+(?:\[[^\]]*\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>.+)$")


@dataclass(frozen=True)
class Source:
    """One archive that apt uses, for one suite."""

    uri: str
    suite: str
    components: tuple[str, ...]


@dataclass(frozen=True)
class Mirrors:
    """The addresses of the Debian archive and, where it is a separate one, of its security archive."""

    main: str
    security: str | None = None

    def deb822(self, suite: str) -> str:
        """Return the text of a ``debian.sources`` file for a suite such as ``trixie``."""
        stanzas = [_stanza(self.main, f"{suite} {suite}-updates")]
        if self.security:
            stanzas.append(_stanza(self.security, f"{suite}-security"))
        return "\n".join(stanzas)


def _stanza(uri: str, suites: str) -> str:
    return f"Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: main\nSigned-By: {KEYRING}\n"


def parse_one_line(text: str) -> Iterator[Source]:
    """Read the older format, as in ``sources.list``."""
    for line in text.splitlines():
        found = _ONE_LINE.match(line.split("#")[0].strip())
        if found:
            yield Source(found["uri"], found["suite"], tuple(found["components"].split()))


def parse_deb822(text: str) -> Iterator[Source]:
    """Read the format of ``*.sources`` files."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields: dict[str, str] = {}
        for name, value in re.findall(r"^([\w-]+):((?:.*)(?:\n[ \t]+.*)*)", stanza, re.MULTILINE):
            fields[name.lower()] = value
        if "deb" not in fields.get("types", "").split() or fields.get("enabled", "yes").strip().lower() == "no":
            continue
        for uri in fields.get("uris", "").split():
            for suite in fields.get("suites", "").split():
                yield Source(uri, suite, tuple(fields.get("components", "").split()))


def choose(sources: Iterable[Source], codename: str) -> Mirrors | None:
    """Return the mirrors that serve a Debian machine of this codename, or None when there are none to be had."""
    usable = [source for source in sources if "main" in source.components and source.uri.startswith("http")]
    main = next((source.uri for source in usable if source.suite == codename), None)
    security = next((source.uri for source in usable if source.suite == f"{codename}-security"), None)
    return Mirrors(main, security) if main else None


def of_this_machine() -> Mirrors:
    """Find out which mirrors to use here.

    Raises:
        LabError: This is not a Debian machine, or its configuration names no archive that is reached by HTTP.
    """
    if override := os.environ.get(OVERRIDE):
        return Mirrors(override)
    system = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', _read(OS_RELEASE), re.MULTILINE))
    mirrors = choose(_sources(), system.get("VERSION_CODENAME", "")) if system.get("ID") == "debian" else None
    if mirrors is None:
        raise LabError(
            f"No Debian archive is named in {APT}/sources.list or {APT}/sources.list.d on this machine.\n"
            f"Name one in the environment: {OVERRIDE}=http://..."
        )
    return mirrors


def _sources() -> Iterator[Source]:
    parts = APT / "sources.list.d"
    for path in [APT / "sources.list", *sorted(parts.glob("*.list"))]:
        yield from parse_one_line(_read(path))
    for path in sorted(parts.glob("*.sources")):
        yield from parse_deb822(_read(path))


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""
