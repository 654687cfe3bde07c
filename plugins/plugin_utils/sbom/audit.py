# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Known vulnerabilities of what a bill of materials names: pip-audit for Python, debsecan for Debian.

A part that could not be looked up counts as not checked, with the reason. Silence is never taken for a clean result.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.host.command import WHOLE, Ran, run

LIMIT = 300  # seconds
# Another place with debsecan's data, such as a mirror in a closed network. pip-audit has variables of its own for that.
SOURCE = "SLIPWAY_DEBSECAN_SOURCE"
_DETAIL = re.compile(r"^(?P<id>\S+)(?: \((?P<notes>[^)]*)\))?\n(?P<body>(?:  .*\n?)*)", re.MULTILINE)
_INSTALLED = re.compile(r"^  installed: (\S+) (\S+)$", re.MULTILINE)
_FIXED = re.compile(r"^  fixed (?:in unstable|on branch): +\S+ (\S+) ", re.MULTILINE)


@dataclass(frozen=True)
class Finding:
    """One known vulnerability of one package; `fixed` are versions without it, none where there is no fix yet."""

    package: str
    version: str
    id: str
    fixed: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "fixed": list(self.fixed)}


@dataclass
class Audit:
    """What is known, and the sentences about what was not checked."""

    findings: list[Finding] = field(default_factory=list)
    checked: int = 0
    unchecked: list[str] = field(default_factory=list)


def audit(document: Mapping[str, Any]) -> Audit:
    """Look up everything that a CycloneDX document of ours names."""
    python, debian = [], []
    for component in document.get("components", []):
        purl = component.get("purl", "")
        if purl.startswith("pkg:pypi/"):
            python.append(component)
        elif purl.startswith("pkg:deb/"):
            debian.append(component)
    parts = [_python(python)] if python else []
    parts += [_debian(debian)] if debian else []
    return Audit(
        sorted((one for part in parts for one in part.findings), key=lambda one: (not one.fixed, one.package, one.id)),
        sum(part.checked for part in parts),
        [words for part in parts for words in part.unchecked],
    )


def _last_words(result: Ran) -> str:
    """The last line of a program, which names the error in a traceback too."""
    lines = [line for line in (result.stderr or result.stdout).splitlines() if line.strip()]
    return lines[-1].strip()[:300] if lines else f"exit code {result.returncode}"


def _python(components: list[Mapping[str, Any]]) -> Audit:
    what = f"{len(components)} Python distributions"
    with tempfile.NamedTemporaryFile("w", suffix=".txt", prefix="slipway-") as listed:
        listed.write("".join(f"{item['name']}=={item['version']}\n" for item in components))
        listed.flush()
        words = [sys.executable, "-m", "pip_audit", "--requirement", listed.name, "--no-deps", "--disable-pip"]
        words += ["--format", "json", "--desc", "off", "--progress-spinner", "off"]
        result = run(words, LIMIT, limit=WHOLE)
    if "No module named pip_audit" in result.stderr:
        return Audit(unchecked=[f"{what}: {sys.executable} has no pip-audit; install it with pip"])
    try:
        return parse_pip_audit(result.stdout)
    except (ValueError, KeyError):
        return Audit(unchecked=[f"{what}: pip-audit got no answer: {_last_words(result)}"])


def parse_pip_audit(text: str) -> Audit:
    """The JSON of pip-audit. What it skipped it did not check, although it ends with 0 then."""
    found = Audit()
    skipped: list[tuple[str, str]] = []
    for item in json.loads(text)["dependencies"]:
        if "skip_reason" in item:
            skipped.append((item["name"], item["skip_reason"]))
            continue
        found.checked += 1
        found.findings += [
            Finding(item["name"], item["version"], _name(one), tuple(one["fix_versions"])) for one in item["vulns"]
        ]
    if skipped:
        names = ", ".join(name for name, _ in skipped[:5]) + (" and more" if len(skipped) > 5 else "")
        found.unchecked.append(f"{len(skipped)} Python distributions ({names}): {skipped[0][1].partition(':')[0]}")
    return found


def _name(vulnerability: Mapping[str, Any]) -> str:
    """The CVE where there is one, since that is what people search for."""
    names = [vulnerability["id"], *vulnerability.get("aliases", [])]
    return str(next((name for name in names if name.startswith("CVE-")), names[0]))


def _debian(components: list[Mapping[str, Any]]) -> Audit:
    what = f"{len(components)} Debian packages"
    release = _release(components)
    program = shutil.which("debsecan")
    if not program:
        return Audit(unchecked=[f"{what}: there is no debsecan here; on Debian: sudo apt-get install debsecan"])
    if not release:
        return Audit(unchecked=[f"{what}: they are of no release of Debian that is known here"])
    with tempfile.NamedTemporaryFile("w", prefix="slipway-") as status:
        status.write(status_of(components))
        status.flush()
        words = [program, "--suite", release, "--status", status.name, "--format", "detail"]
        words += ["--source", os.environ[SOURCE]] if os.environ.get(SOURCE) else []
        result = run(words, LIMIT, limit=WHOLE)
    if result.returncode:
        said = " ".join(result.stderr.split())[-300:] or f"exit code {result.returncode}"
        return Audit(unchecked=[f"{what}: debsecan got no answer: {said}"])
    return Audit(parse_debsecan(result.stdout, release), len(components))


# Debian names its packages by numbers and its security data by names.
_RELEASES = {"12": "bookworm", "13": "trixie", "14": "forky"}


def _release(components: Iterable[Mapping[str, Any]]) -> str:
    for component in components:
        found = re.search(r"[?&]distro=debian-(\d+)", component["purl"])
        if found:
            return _RELEASES.get(found.group(1), "")
    return ""


def status_of(components: Iterable[Mapping[str, Any]]) -> str:
    """What dpkg's status file says of these packages, as far as debsecan reads it."""
    paragraphs = []
    for component in components:
        properties = {item["name"]: item["value"] for item in component.get("properties", [])}
        source, _, version = properties.get("slipway:source", f"{component['name']} {component['version']}").partition(
            " "
        )
        found = re.search(r"[?&]arch=([^&]+)", component["purl"])
        paragraphs.append(
            f"Package: {component['name']}\nStatus: install ok installed\n"
            f"Architecture: {found.group(1) if found else 'all'}\nSource: {source} ({version})\n"
            f"Version: {component['version']}\n"
        )
    return "\n".join(paragraphs)


def parse_debsecan(text: str, release: str) -> list[Finding]:
    """The details that debsecan prints. A fix counts where it is in the release."""
    number = next((key for key, name in _RELEASES.items() if name == release), "")
    findings = []
    for block in _DETAIL.finditer(text):
        installed = _INSTALLED.search(block["body"])
        if not installed:
            continue
        fixed: list[str] = []
        if "fix is available for the selected suite" in block["body"]:
            versions = list(dict.fromkeys(_FIXED.findall(block["body"])))
            fixed = [version for version in versions if f"deb{number}u" in version] or versions
        findings.append(Finding(installed[1], installed[2], block["id"], tuple(fixed)))
    return findings
