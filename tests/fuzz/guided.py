"""Inputs that are guided by what the code does with them: Atheris draws for the same tests as Hypothesis does.

Atheris changes bytes and keeps those that reach something new; Hypothesis makes inputs of them, and the test judges.
It is there on Linux (x86-64) alone. It ends the process that it works in, so each reader has one of its own.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import inspect
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NoReturn

# Seconds that each reader gets in a round, and the directory of what was found to reach something new.
SECONDS = "FUZZ_SECONDS"
KEPT = "FUZZ_KEPT"
CODE = "ansible_collections.slipway.fleet.plugins."
# Bytes of an input: as many as Hypothesis takes for its largest ones.
LONGEST = 8192
SEEDS = 30


def can_be_guided() -> bool:
    return SECONDS in os.environ and importlib.util.find_spec("atheris") is not None


def guided(test: Callable[..., None]) -> Callable[..., None]:
    """The test with inputs of Atheris's for as long as a round gives it."""

    @functools.wraps(test)
    def fuzzed() -> None:
        reads = test.hypothesis.fuzz_one_input  # type: ignore[attr-defined]
        with tempfile.TemporaryDirectory(prefix="fuzz-found-") as found:
            child = os.fork()
            if not child:
                _fuzz(reads, Path(found), _kept(os.environ["PYTEST_CURRENT_TEST"].partition(" ")[0]))
            _, status = os.waitpid(child, 0)
            for path in sorted(Path(found).iterdir()):
                # Once more, where pytest sees it.
                reads(path.read_bytes())
        assert not status, f"fuzzing ended with {os.waitstatus_to_exitcode(status)}"

    # Hypothesis gives the test its arguments; pytest would take them for fixtures.
    del fuzzed.__wrapped__
    return fuzzed


def _kept(name: str) -> str:
    """The directory of a reader's inputs, with some that are long enough to begin with."""
    directory = Path(os.environ[KEPT]) / hashlib.sha256(name.encode()).hexdigest()[:16]
    directory.mkdir(exist_ok=True)
    for number in range(SEEDS):
        (directory / f"{number}").write_bytes(os.urandom(LONGEST // 2))
    return str(directory)


def _fuzz(reads: Callable[[bytes], Any], found: Path, kept: str) -> NoReturn:
    """Work until the time is over or something is found, which is in the directory then; and end the process."""

    def one(data: bytes) -> None:
        try:
            reads(data)
        except BaseException:  # noqa: BLE001 - whatever it is, it was found
            (found / "input").write_bytes(data)
            traceback.print_exc()
            os._exit(1)

    try:
        import atheris  # noqa: PLC0415 - it is not everywhere

        for function in _functions():
            atheris.instrument_func(function)
        limits = [f"-max_total_time={os.environ[SECONDS]}", f"-max_len={LONGEST}", "-rss_limit_mb=0", "-timeout=60"]
        atheris.Setup([sys.argv[0], *limits, f"-artifact_prefix={found}/", "-verbosity=0", kept], one)
        atheris.Fuzz()
    except Exception:  # noqa: BLE001 - told, and never the parent's
        traceback.print_exc()
    finally:
        os._exit(1)


def _functions() -> Iterator[FunctionType]:
    """Every function of the project's plugins that was loaded, those of classes included."""
    for name, module in list(sys.modules.items()):
        if name.startswith(CODE) and isinstance(module, ModuleType):
            for item in list(vars(module).values()):
                yield from _of(item, name)


def _of(item: Any, module: str) -> Iterator[FunctionType]:
    if getattr(item, "__module__", None) != module:
        return
    if inspect.isclass(item):
        for one in list(vars(item).values()):
            within = one.fget if isinstance(one, property) else getattr(one, "__func__", one)
            if isinstance(within, FunctionType):
                yield within
    elif isinstance(item, FunctionType):
        yield item
