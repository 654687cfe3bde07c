"""What the readers of this project may meet, as strategies: JSON of any shape, bytes cut and changed, hostile names.

A test takes a few of them, the same each time; `python3 -m tests.fuzz` takes thousands, and new ones each time.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st

from tests.fuzz.guided import can_be_guided, guided

# How many inputs each reader gets; without it as few as a run of all tests has time for.
EXAMPLES = "FUZZ_EXAMPLES"
FEW = 30

# Seconds of a processor for one input; each is smaller than what the slowest reader takes some milliseconds for.
LIMIT = 2.0


def given(*strategies: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """As Hypothesis's own, with as many examples as are asked for; guided where that is asked for."""
    asked = int(os.environ.get(EXAMPLES, "0"))
    chosen = hypothesis.settings(
        max_examples=asked or FEW,
        derandomize=not asked,
        database=None,
        deadline=None,
        print_blob=True,
        report_multiple_bugs=False,
        # A small input is worth minutes to somebody who waits for it.
        phases=[Phase.generate, *([Phase.shrink] if asked else [])],
        suppress_health_check=list(HealthCheck),
    )

    def made(test: Callable[..., None]) -> Callable[..., None]:
        whole = chosen(hypothesis.given(*strategies)(test))
        return guided(whole) if asked and can_be_guided() else whole

    return made


TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.sampled_from(
        [
            *("", " ", "\x00", "\n", "..", "../../etc/passwd", "/etc/passwd", "a\x1b[2J", "\u00b2", "\u202e", "nan"),
            *("inf", "1e999", "-1", "9" * 400, "9" * 5000, "0x10", "true", "2026-11-26T10:00:00+00:00", "%s%n"),
            *("0001-01-01T00:00:00+23:00", "9999-12-31 23:59:59 -2300", "a" * 5000, "\ufeff", "\U0010ffff"),
        ]
    ),
)
NUMBERS = st.one_of(
    st.integers(),
    st.floats(),
    st.booleans(),
    st.sampled_from([10**400, -(10**400), 2**63, 10**299, 0, -1]),
)
VALUES = st.one_of(st.none(), NUMBERS, TEXTS)
JSON: st.SearchStrategy[Any] = st.recursive(
    VALUES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)


class Long(str):
    """A text that is shown short."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} characters, {str(self[:20])!r}...>"


# Texts that are JSON for some, and more than they can take.
DEEP = st.sampled_from(
    [
        "[" * 100_000,
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000,
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"release": ' + "[" * 50_000 + "]" * 50_000 + "}",
        '{"a": ' + "9" * 100_000 + "}",
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": Infinity, "a": -Infinity}',
        "\ufeff{}",
        '{"a": "\\ud800"}',
        "\x00{}",
        "nul",
    ]
).map(Long)


def dumped(value: Any) -> str:
    """As Python writes it, what is no JSON included."""
    return json.dumps(value)


def like(right: Mapping[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects like a right one: some of its values are others, some are not there, and some more are."""
    return st.builds(
        lambda changed, gone, more: {
            **{name: value for name, value in {**right, **changed}.items() if name not in gone},
            **more,
        },
        st.dictionaries(st.sampled_from(sorted(right)), JSON, max_size=3),
        st.sets(st.sampled_from(sorted(right)), max_size=2),
        st.dictionaries(TEXTS, JSON, max_size=2),
    )


def lines_like(right: Mapping[str, Any]) -> st.SearchStrategy[str]:
    """Texts of lines, each JSON like a right one, or something else."""
    line = st.one_of(like(right).map(dumped), JSON.map(dumped), TEXTS, DEEP)
    return st.lists(line, max_size=6).map("\n".join)


def texts_like(right: Any) -> st.SearchStrategy[str]:
    """Texts of one object like a right one, or of something else."""
    return st.one_of(like(right).map(dumped), JSON.map(dumped), TEXTS, DEEP)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Bytes that were whole once: cut off, with others in them, or as they were."""
    data = bytearray(draw(whole))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(["cut", "put", "flip", "double"]))
        if how == "cut":
            del data[at:]
        elif how == "put":
            data[at:at] = draw(st.binary(max_size=20))
        elif how == "flip" and at < len(data):
            data[at] ^= draw(st.integers(1, 255))
        else:
            data += data[at : at + 1024]
    return bytes(data)


# Names in archives.
NAMES = st.one_of(
    st.sampled_from(
        [
            *(
                "manifest.json",
                "SHA256SUMS",
                "config.json",
                "content.json",
                "../outside",
                "/outside",
                "a/../../outside",
            ),
            *(
                "./a",
                "a//b",
                ".",
                "..",
                "",
                "a/",
                "wheels/x",
                "wheels/a/b",
                "wheels/a/b/c",
                "srv/app.py",
                "wheels/../x/y",
            ),
            *(
                "x/Packages",
                "x/a.deb",
                "/tmp/outside.deb",
                "var/lib/dpkg/status",
                "var/lib/dpkg/status.d/x",
                "project/x",
            ),
            *("usr/share/doc/x/copyright", "etc/os-release", "a/x.dist-info/METADATA", ".wh.a", "a/.wh..wh..opq"),
            *("requirements.txt", "a\nb", "a\x00b", "\udcff", "n" * 300, "/".join("d" * 90)),
        ]
    ),
    TEXTS,
)
KINDS = st.sampled_from(
    [
        *(tarfile.REGTYPE, tarfile.REGTYPE, tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE),
        *(tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.GNUTYPE_SPARSE, tarfile.CONTTYPE, b"Z"),
    ]
)


@st.composite
def tars(draw: st.DrawFn, contents: st.SearchStrategy[bytes] | None = None) -> bytes:
    """Archives whose members have hostile names, kinds, targets and headers."""
    target = io.BytesIO()
    form = draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
    with tarfile.open(fileobj=target, mode="w", format=form, errors="surrogateescape") as tar:
        for _ in range(draw(st.integers(0, 4))):
            item = tarfile.TarInfo(draw(NAMES))
            item.type = draw(KINDS)
            item.linkname = draw(NAMES)
            item.mode = draw(st.integers(0, 0o7777))
            data = draw(st.one_of([*([contents] if contents is not None else []), st.binary(max_size=200)]))
            item.size = len(data)
            if form == tarfile.PAX_FORMAT:
                names = st.sampled_from(["size", "path", "GNU.sparse.map", "GNU.sparse.major", "hdrcharset", "mtime"])
                item.pax_headers = draw(st.dictionaries(names, st.text("0123456789,-.a", max_size=12), max_size=1))
            try:
                tar.addfile(item, io.BytesIO(data))
            except (ValueError, UnicodeError, OverflowError):
                continue  # such a member cannot be written
    return target.getvalue()


@contextmanager
def quick() -> Iterator[None]:
    """What is done in it takes no more of a processor than `LIMIT`."""
    before = time.process_time()
    yield
    took = time.process_time() - before
    assert took < LIMIT, f"{took:.1f} s"


@contextmanager
def confined() -> Iterator[Path]:
    """A directory; nothing beside it is there afterwards, and nothing in it leads out."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        inside = Path(directory) / "a" / "b" / "inside"
        inside.mkdir(parents=True)
        yield inside
        there = {path for path in Path(directory).rglob("*") if inside not in (path, *path.parents)}
        assert there == {inside.parent, inside.parent.parent}
        links = [path for path in inside.rglob("*") if path.is_symlink()]
        assert not links, links
