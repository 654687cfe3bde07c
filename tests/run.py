"""Runs every check of the repository and counts: `python3 -m tests.run [PART ...]`, without a part all of them.

A failure does not stop the parts after it. What failed is named once more at the end; the last line is `N passed, N
failed`, and the exit code is 1 when anything failed. Every test of pytest counts as one, those of Molecule's scenarios
too, and so does every linter. A skipped test is one that nobody ran, so it counts as failed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Seconds until a command that hangs is ended and counted as failed.
LIMIT = 4500
INSTALLING = threading.Lock()
# Plugins are checked under the name by which Ansible imports them, which is the path through the committed link.
TYPED = (
    "app",
    "gunicorn_conf.py",
    "bench",
    "lab",
    "docs",
    "tests",
    "tools",
    "molecule",
    ".collections/ansible_collections/slipway/fleet/plugins",
)


@dataclass(frozen=True)
class Count:
    """Results: of one command, of a part, or of the run."""

    passed: int = 0
    # A line for each: what failed, and the beginning of why.
    failures: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        return len(self.failures)

    def __add__(self, other: Count) -> Count:
        return Count(self.passed + other.passed, self.failures + other.failures)


def environment(**more: str) -> dict[str, str]:
    """The environment of every command: the tools of this interpreter, plain output, Git content with any owner."""
    return {
        **os.environ,
        **more,
        "PATH": os.pathsep.join(
            dict.fromkeys([str(Path(sys.executable).parent), *os.environ.get("PATH", "").split(os.pathsep)])
        ),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOWS": "1",
        "LC_ALL": os.environ.get("LC_ALL", "C.UTF-8"),
        "PYTHONUNBUFFERED": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }


def run(command: Sequence[str], limit: float = LIMIT, name: str = "", **variables: str) -> int:
    """Run a command at the top of the repository with nothing on stdin and return its exit code.

    Args:
        command: program and arguments
        limit: seconds; after them the whole process group is ended, and the exit code is 124
        name: put before each line that it prints, for commands that run side by side
        variables: of its environment, besides those of every command
    """
    print(f"$ {' '.join(command)}", flush=True)
    try:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(**variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if name else None,
            stderr=subprocess.STDOUT if name else None,
            start_new_session=True,
        )
    except FileNotFoundError:
        print(f"{command[0]} is not installed; run: make setup", flush=True)
        return 127
    late = threading.Event()

    def end() -> None:
        late.set()
        os.killpg(process.pid, signal.SIGKILL)

    timer = threading.Timer(limit, end)
    timer.start()
    try:
        for line in process.stdout or ():
            print(f"{name:<15}| {line.decode(errors='replace').rstrip()}", flush=True)
        code = process.wait()
    finally:
        timer.cancel()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if late.is_set():
        print(f"ended: it took more than {limit:.0f} s", flush=True)
        return 124
    return code


def check(command: Sequence[str]) -> Count:
    """Run a command that counts as one."""
    return Count(passed=1) if run(command) == 0 else Count(failures=(" ".join(command),))


def count_junit(report: Path, exit_code: int, what: str) -> Count:
    """Read pytest's own figures; a run that failed without a failed test (a broken conftest) is one failure."""
    cases = list(ET.parse(report).iter("testcase")) if report.exists() else []  # noqa: S314 - pytest wrote it just now
    failures = []
    for case in cases:
        for kind in ("failure", "error", "skipped"):
            # A test can fail and its teardown as well: that is still one test.
            if (found := case.find(kind)) is not None:
                why = " ".join((found.get("message") or kind).split())
                failures.append(f"{what}: {case.get('classname')}::{case.get('name')}: {why[:600]}")
                break
    passed = len(cases) - len(failures)
    if exit_code and not failures:
        failures = [f"{what}: ended with exit code {exit_code} and without a failed test"]
    return Count(passed, tuple(failures))


def pytest(*paths: str, name: str = "") -> Count:
    """Run the tests below those of the paths that are there; for `name` see `run`."""
    there = [path for path in paths if (ROOT / path).exists()]
    if not there:
        return Count()
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report.xml")
        code = run(["pytest", "--quiet", f"--junit-xml={report}", *there], name=name)
        return count_junit(report, code, "pytest")


def scenario(name: str) -> Count:
    """Run a Molecule scenario; its verifier is pytest, which counts."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report.xml")
        command = ["molecule", "test", "--scenario-name", name]
        code = run(command, name=name, PYTEST_ADDOPTS=f"--junit-xml={report}")
        result = count_junit(report, code, f"molecule {name}")
    word = "failed" if result.failed else "passed"
    print(f"--- molecule: {name}: {word} in {time.monotonic() - started:.0f} s", flush=True)
    return result


def missing_packages() -> list[str]:
    """Debian packages of the servers and the browser that tests start, where they are not there."""
    postgres = shutil.which("postgres") or list(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    programs = {
        "redis-server": "redis-server",
        "haproxy": "haproxy",
        "pgrep": "procps",
        "sshd": "openssh-server",
        "chromium": "chromium",
        "docker-registry": "docker-registry",
        "debsecan": "debsecan",
    }
    missing = [package for program, package in programs.items() if not shutil.which(program, path=path)]
    return missing if postgres else ["postgresql", *missing]


def install_servers() -> bool:
    """Have what the tests start on this machine; says what is missing where it cannot be installed."""
    with INSTALLING:
        packages = missing_packages()
        if packages and os.geteuid() == 0 and shutil.which("apt-get"):
            os.environ["DEBIAN_FRONTEND"] = "noninteractive"
            run(["apt-get", "update", "-qq"])
            run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages])
            packages = missing_packages()
    if packages:
        print(f"The tests start programs of their own; install them with: sudo apt-get install {' '.join(packages)}")
    return not packages


def rules() -> Count:
    return pytest("tests/repo")


def lint() -> Count:
    typed = [path for path in TYPED if (ROOT / path).exists()]
    total = Count()
    for command in (
        ["yamllint", "--strict", "."],
        ["ansible-lint"],
        ["ruff", "check"],
        ["ruff", "format", "--check"],
        ["mypy", *typed],
    ):
        total += check(command)
    return total


def unit() -> Count:
    """Every folder of tests that has no part of its own, so that a new one cannot be forgotten."""
    folders = sorted(
        {path.parent for path in ROOT.glob("tests/*/test_*.py")} - {ROOT / "tests/repo", ROOT / "tests/app"}
    )
    if not install_servers():
        return Count(failures=("the programs that tests start are not there",))
    return pytest(*(str(folder.relative_to(ROOT)) for folder in folders), name="unit")


def app() -> Count:
    if not install_servers():
        return Count(failures=("the programs that tests start are not there",))
    return pytest("tests/app", name="app")


def scenarios() -> list[str]:
    """Names of the Molecule scenarios, the longest first; last one that fits beside the second longest, systemd."""
    names = sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml"))
    return sorted(names, key=lambda name: {"rolling": 0, "release": 2}.get(name, 1))


def molecule() -> Count:
    names = scenarios()
    for verb in ("docker", "images"):
        if run([sys.executable, "-m", "lab", verb]) != 0:
            print("The scenarios need hosts, and those need Docker and their images: see above.")
            return Count(failures=tuple(f"molecule {name}: no hosts" for name in names))
    # Much of a release is waiting, so two at a time keep two processors busy.
    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(scenario, names), Count())


# The quick ones first; what stands together runs side by side.
STEPS: tuple[dict[str, Callable[[], Count]], ...] = (
    {"rules": rules},
    {"lint": lint},
    {"unit": unit, "app": app},
    {"molecule": molecule},
)
PARTS = {name: part for step in STEPS for name, part in step.items()}


def timed(name: str) -> tuple[str, Count, float]:
    """A part's name, its count, and the seconds that it took."""
    started = time.monotonic()
    return name, PARTS[name](), time.monotonic() - started


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that are named, in their order, and print a table of them and the sum."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", nargs="*", help=f"one or more of: {', '.join(PARTS)}")
    wanted = parser.parse_args(arguments).part or list(PARTS)
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    rows: list[tuple[str, Count, float]] = []
    for step in STEPS:
        if names := [name for name in step if name in wanted]:
            print(f"\n=== {' and '.join(names)}", flush=True)
            with ThreadPoolExecutor(len(names)) as pool:
                rows += pool.map(timed, names)
    print("\n=== sum")
    for name, count, seconds in rows:
        print(f"{name:<10}{count.passed:>5} passed{count.failed:>5} failed{seconds:>8.0f} s")
    total = sum((count for _, count, _ in rows), Count())
    for failure in total.failures:
        print(f"failed: {failure}")
    print(f"{total.passed} passed, {total.failed} failed")
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main())
