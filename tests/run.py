"""Runs every check of the repository and counts: `python3 -m tests.run [PART ...]`, without a part all of them.

A failure does not stop the parts after it. What took longest and what failed is named once more at the end; the last
line is `N passed, N failed`, and the exit code is 1 when anything failed. Every test of pytest counts as one, those of
Molecule's scenarios too, and so does every linter. A skipped test is one that nobody ran, so it counts as failed.

The part `soak` runs only where it is named: the long forms of tests that are short in a scenario.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Seconds until a command that hangs is ended and counted as failed.
LIMIT = 4500
SLOWEST = 20  # tests that the table at the end has
# Scenarios at a time: two of them leave a quarter of two processors idle. With three nothing is idle, at loads of 30,
# and yet all takes longer: what they wait for is asked for again and again.
BESIDE = 2
# Seconds of each scenario on two processors with others beside it. The longest begins first, so that none is left alone
# at the end; one that is not here begins before all of them.
SECONDS = {
    "rolling": 1400,
    "systemd": 820,
    "foreign": 650,
    "data": 600,
    "release": 480,
    "edge": 380,
    "default": 370,
    "runtime_switch": 240,
    "bundle": 230,
    "images": 210,
}
TOLD = 1000  # last lines of a command in which its reason is looked for
REASON = 600  # characters of why something failed, in its line at the end
PARAGRAPH = 240  # of them for each thing that an output says of it
# How Ansible, Molecule, pytest and this program begin to say why they end.
TELLING = re.compile(r"\[ERROR\]|fatal: |failed: |CRITICAL|ERROR\b|E   |ended: ")
OF_TASK = ("[ERROR]", "fatal: ", "failed: ")
TASK = re.compile(r"(?:TASK|RUNNING HANDLER) \[")
DONE = re.compile(r"➜ \w+: Executed: Successful$")
# What is around their words: colours, and the box that Molecule draws.
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
FRAME = re.compile(r"^\s*│ ?")
INSTALLING = threading.Lock()
PREPARING = threading.Lock()
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
    # Seconds and name of each test, with its fixtures.
    times: tuple[tuple[float, str], ...] = ()
    # What it consists of.
    rows: tuple[Row, ...] = ()

    @property
    def failed(self) -> int:
        return len(self.failures)

    def __add__(self, other: Count) -> Count:
        return Count(
            self.passed + other.passed,
            self.failures + other.failures,
            self.times + other.times,
            self.rows + other.rows,
        )


@dataclass(frozen=True)
class Row:
    """A line of the table at the end."""

    name: str
    count: Count
    seconds: float

    def __str__(self) -> str:
        return f"{self.name:<18}{self.count.passed:>5} passed{self.count.failed:>5} failed{self.seconds:>8.0f} s"


def environment(**more: str) -> dict[str, str]:
    """The environment of every command: the tools of this interpreter, plain output, Git content with any owner.

    Compiled modules are kept, whatever the caller prefers: without them each of the hundreds of ansible-playbook takes
    a second of a processor more to start.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **inherited,
        **more,
        "PATH": os.pathsep.join(
            dict.fromkeys([str(Path(sys.executable).parent), *inherited.get("PATH", "").split(os.pathsep)])
        ),
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOWS": "1",
        "LC_ALL": inherited.get("LC_ALL", "C.UTF-8"),
        "PYTHONUNBUFFERED": "1",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }


def run(
    command: Sequence[str], limit: float = LIMIT, name: str = "", told: deque[str] | None = None, **variables: str
) -> int:
    """Run a command at the top of the repository with nothing on stdin and return its exit code.

    Args:
        command: program and arguments
        limit: seconds; after them the whole process group is ended, and the exit code is 124
        name: put before each line that it prints, for commands that run side by side
        told: gets the lines of a command with a name
        variables: of its environment, besides those of every command
    """
    told = deque(maxlen=1) if told is None else told
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
            told.append(line.decode(errors="replace").rstrip())
            print(f"{name:<15}| {told[-1]}", flush=True)
        code = process.wait()
    finally:
        timer.cancel()
        if process.stdout:
            process.stdout.close()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if late.is_set():
        told.append(f"ended: it took more than {limit:.0f} s")
        print(told[-1], flush=True)
        return 124
    return code


def check(command: Sequence[str]) -> Count:
    """Run a command that counts as one; its lines begin with its name."""
    return Count(passed=1) if run(command, name=command[0]) == 0 else Count(failures=(" ".join(command),))


def reason(told: Iterable[str]) -> str:
    """Why a command failed, by its output: the task that failed, and the last that each program said of it.

    What was said goes on over wrapped lines and those of a result, until an empty one.
    """
    task: list[str] = []
    paragraph: list[str] = []
    said: dict[str, list[str]] = {}
    for line in told:
        text = FRAME.sub("", COLOUR.sub("", line)).strip().rstrip(" *")
        if TASK.match(text):
            paragraph = task = [text]
        elif found := TELLING.match(text):
            if found.group() in OF_TASK:
                said["task"] = task
            said.pop(found.group(), None)
            paragraph = said[found.group()] = [text]
        elif DONE.search(text) and "CRITICAL" not in said:
            # What failed before it did not matter.
            said, task = {}, []
        elif text and not text.startswith("└"):
            paragraph.append(text)
        else:
            paragraph = []
    return "; ".join(" ".join(lines)[:PARAGRAPH] for lines in said.values())[:REASON]


def why(message: str, whole: str) -> str:
    """Why a test failed, in its own words, or in those of the playbook whose whole output it was given as its message.

    Args:
        message: pytest's, of which it leaves away the middle where it is long
        whole: all that pytest has of it
    """
    lines = [line.removeprefix("E").strip() for line in whole.splitlines()]
    if any(map(TASK.match, lines)) and (found := reason(lines)):
        return f"{message.partition(':')[0]}: {found}"
    return " ".join(message.split())[:REASON]


def count_junit(report: Path, exit_code: int, what: str, told: Iterable[str] = ()) -> Count:
    """Read pytest's own figures; a run that failed without a failed test (a broken conftest) is one failure.

    Args:
        report: what pytest wrote
        exit_code: of the command
        what: put before the name of each test
        told: the last lines of the command; they say why it failed where no test does
    """
    cases = list(ET.parse(report).iter("testcase")) if report.exists() else []  # noqa: S314 - pytest wrote it just now
    failures = []
    times = []
    for case in cases:
        name = f"{what}: {case.get('classname')}::{case.get('name')}"
        times.append((float(case.get("time") or 0), name))
        for kind in ("failure", "error", "skipped"):
            # A test can fail and its teardown as well: that is still one test.
            if (found := case.find(kind)) is not None:
                failures.append(f"{name}: {why(found.get('message') or kind, found.text or '')}")
                break
    passed = len(cases) - len(failures)
    if exit_code and not failures:
        failures = [f"{what}: ended with exit code {exit_code} and without a failed test: {reason(told)}".rstrip(": ")]
    return Count(passed, tuple(failures), tuple(times))


def pytest(*paths: str, name: str = "", options: Sequence[str] = ()) -> Count:
    """Run the tests below those of the paths that are there, with options of pytest; for `name` see `run`."""
    there = [path for path in paths if (ROOT / path).exists()]
    if not there:
        return Count()
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report.xml")
        told: deque[str] = deque(maxlen=TOLD)
        code = run(["pytest", "--quiet", f"--junit-xml={report}", *options, *there], name=name, told=told)
        return count_junit(report, code, "pytest", told)


def scenario(name: str, *, long: bool = False) -> Count:
    """Run a Molecule scenario; its verifier is pytest, which counts.

    Args:
        name: the scenario
        long: only those of its tests that have a long form, in that form
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory, "report.xml")
        # Named, because Molecule finds it by itself only in a clone of Git.
        command = ["molecule", "--base-config", ".config/molecule/config.yml", "test", "--scenario-name", name]
        options = f"--junit-xml={report}" + (" -m soak" if long else "")
        told: deque[str] = deque(maxlen=TOLD)
        code = run(command, name=name, told=told, PYTEST_ADDOPTS=options, SLIPWAY_SOAK="yes" if long else "")
        result = count_junit(report, code, f"molecule {name}", told)
    row = Row(f"  {name}", result, time.monotonic() - started)
    print(f"--- molecule: {row}", flush=True)
    return result + Count(rows=(row,))


def missing_packages() -> list[str]:
    """Debian packages of the servers and the browser that tests start, where they are not there."""
    postgres = shutil.which("postgres") or list(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    programs = {
        "redis-server": "redis-server",
        "haproxy": "haproxy",
        "pgrep": "procps",
        "sshd": "openssh-server",
        "git": "git",
        "chromium": "chromium",
        "docker-registry": "docker-registry",
        "debsecan": "debsecan",
        "testssl": "testssl.sh",
        "restic": "restic",
        "nft": "nftables",
        "ip": "iproute2",
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
    return pytest("tests/repo", name="rules")


def lint() -> Count:
    typed = [path for path in TYPED if (ROOT / path).exists()]
    # The long ones first; each of them keeps one processor busy.
    commands = (
        ["ansible-lint"],
        ["mypy", *typed],
        ["yamllint", "--strict", "."],
        ["ruff", "check"],
        ["ruff", "format", "--check"],
        ["python3", "-m", "tools.audit_locks"],
    )
    with ThreadPoolExecutor(2) as pool:
        return sum(pool.map(check, commands), Count())


def unit() -> Count:
    """What starts no server and needs nothing but the interpreter's packages."""
    return pytest("tests/unit", name="unit", options=("--numprocesses=auto", "--dist=worksteal", "-p", "no:logging"))


def integration() -> Count:
    """Every folder of tests that has no part of its own, so that a new one cannot be forgotten."""
    folders = {path.parent for path in ROOT.glob("tests/*/test_*.py")} | {ROOT / "tests/integration"}
    folders -= {ROOT / f"tests/{part}" for part in ("repo", "unit", "app")}
    if not install_servers():
        return Count(failures=("the programs that tests start are not there",))
    paths = (str(folder.relative_to(ROOT)) for folder in sorted(folders))
    # Files stay whole: what the tests of one share, such as a run of many playbooks, is made once.
    # In the order of their names, since those with few tests take longest. One process more than processors: many wait.
    processes = f"--numprocesses={(os.cpu_count() or 1) + 1}"
    return pytest(*paths, name="integration", options=(processes, "--dist=loadfile", "--no-loadscope-reorder"))


def app() -> Count:
    if not install_servers():
        return Count(failures=("the programs that tests start are not there",))
    # Most of them wait, and a server for each process is made quickly.
    return pytest("tests/app", name="app", options=(f"--numprocesses={2 * (os.cpu_count() or 1)}", "--dist=worksteal"))


def scenarios() -> list[str]:
    """Names of the Molecule scenarios, the longest first."""
    names = sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml"))
    return sorted(names, key=lambda name: -SECONDS.get(name, LIMIT))


@cache
def _prepare_lab() -> bool:
    for verb in ("docker", "images", "prepared"):
        if run([sys.executable, "-m", "lab", verb], name="lab") != 0:
            print("The scenarios need hosts, and those need Docker and their images: see above.")
            return False
    return True


def lab_is_ready() -> bool:
    """Have what hosts are made from, once in a run; whoever comes meanwhile waits."""
    with PREPARING:
        return _prepare_lab()


def lab() -> Count:
    """On a new machine this takes minutes, most of them waiting: the linters run beside it."""
    return Count(passed=1) if lab_is_ready() else Count(failures=("lab: no hosts",))


def on_hosts(names: Sequence[str], start: Callable[[str], Count]) -> Count:
    """Run scenarios, once there is what their hosts are made from; `BESIDE` at a time."""
    if not lab_is_ready():
        return Count(failures=tuple(f"molecule {name}: no hosts" for name in names))
    with ThreadPoolExecutor(BESIDE) as pool:
        return sum(pool.map(start, names), Count())


def molecule() -> Count:
    return on_hosts(scenarios(), scenario)


def soak() -> Count:
    """The tests that have a long form, in that form: every one that pytest knows as `soak`."""
    return on_hosts(["rolling"], lambda name: scenario(name, long=True))


# What stands together runs side by side. On a new machine the lab waits for packages most of its time, so what needs no
# host fills it.
STEPS: tuple[dict[str, Callable[[], Count]], ...] = (
    {"rules": rules, "lint": lint, "lab": lab, "unit": unit, "integration": integration, "app": app},
    {"molecule": molecule},
)
USUAL = [name for step in STEPS for name in step]
# Takes long, and runs only where it is named.
ON_DEMAND: dict[str, Callable[[], Count]] = {"soak": soak}
PARTS = {name: part for step in (*STEPS, ON_DEMAND) for name, part in step.items()}


def timed(name: str) -> Row:
    """Run a part."""
    started = time.monotonic()
    count = PARTS[name]()
    return Row(name, count, time.monotonic() - started)


def slowest(times: Sequence[tuple[float, str]]) -> list[str]:
    """A line for each of the tests that took longest, the longest first."""
    return [f"{seconds:>7.1f} s  {name}" for seconds, name in sorted(times, reverse=True)[:SLOWEST]]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that are named, in their order, and print a table of them and the sum."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.run", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("part", nargs="*", help=f"one or more of: {', '.join(PARTS)}")
    wanted = parser.parse_args(arguments).part or USUAL
    if unknown := set(wanted) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    if not {"integration", "app"}.isdisjoint(wanted):
        # First, since the lab installs packages, too, and apt serves one at a time. Those parts tell what lacks.
        install_servers()
    rows: list[Row] = []
    for step in (*STEPS, ON_DEMAND):
        if names := [name for name in step if name in wanted]:
            print(f"\n=== {' and '.join(names)}", flush=True)
            with ThreadPoolExecutor(len(names)) as pool:
                rows += pool.map(timed, names)
    total = sum((row.count for row in rows), Count())
    if total.times:
        print("\n=== the slowest tests", *slowest(total.times), sep="\n")
    print("\n=== sum")
    for row in rows:
        print(row, *row.count.rows, sep="\n")
    for failure in total.failures:
        print(f"failed: {failure}")
    print(f"{total.passed} passed, {total.failed} failed")
    return 1 if total.failed or not total.passed else 0


if __name__ == "__main__":
    sys.exit(main())
