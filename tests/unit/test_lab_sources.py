"""How the lab reads apt's configuration."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import sources
from lab.shell import LabError
from lab.sources import Mirrors, Source, choose, parse_deb822, parse_one_line

DEB822 = """\
# A comment in front
Types: deb deb-src
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main contrib
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----
 .
 mDMEYC
 -----END PGP PUBLIC KEY BLOCK-----

Types: deb
URIs: http://mirror.example/security
# A comment inside
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: http://off.example/debian
Suites: bookworm
Components: main

Types: deb-src
URIs: http://source.example/debian
Suites: bookworm
Components: main
"""


def test_deb822_gives_one_source_for_each_suite_of_enabled_binary_stanzas() -> None:
    assert list(parse_deb822(DEB822)) == [
        Source("http://mirror.example/debian", "bookworm", ("main", "contrib")),
        Source("http://mirror.example/debian", "bookworm-updates", ("main", "contrib")),
        Source("http://mirror.example/security", "bookworm-security", ("main",)),
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("deb http://a.example/debian trixie main", [Source("http://a.example/debian", "trixie", ("main",))]),
        (
            "deb [arch=amd64 signed-by=/k.gpg] http://a.example/debian trixie main non-free # why",
            [Source("http://a.example/debian", "trixie", ("main", "non-free"))],
        ),
        ("deb-src http://a.example/debian trixie main", []),
        ("# deb http://a.example/debian trixie main", []),
        ("deb http://a.example/flat ./", []),
        ("", []),
    ],
)
def test_one_line_format(line: str, expected: list[Source]) -> None:
    assert list(parse_one_line(line)) == expected


def test_the_archive_of_the_distribution_is_chosen_among_others() -> None:
    found = choose(
        [
            Source("https://tools.example/apt", "stable", ("main",)),
            Source("https://tools.example/debian", "tools-bookworm", ("main",)),
            *parse_deb822(DEB822),
        ],
        "bookworm",
    )
    assert found == Mirrors("http://mirror.example/debian", "http://mirror.example/security")


@pytest.mark.parametrize(
    "source",
    [
        Source("cdrom:[Debian]/", "bookworm", ("main",)),
        Source("http://mirror.example/debian", "bookworm", ("contrib",)),
        Source("http://mirror.example/debian", "trixie", ("main",)),
    ],
)
def test_no_archive_is_better_than_a_wrong_one(source: Source) -> None:
    assert choose([source], "bookworm") is None


def test_sources_of_an_image_name_its_own_suite() -> None:
    text = Mirrors("http://mirror.example/debian", "http://mirror.example/security").deb822("trixie")
    assert [(source.uri, source.suite) for source in parse_deb822(text)] == [
        ("http://mirror.example/debian", "trixie"),
        ("http://mirror.example/debian", "trixie-updates"),
        ("http://mirror.example/security", "trixie-security"),
    ]


def test_without_a_security_archive_none_is_made_up() -> None:
    assert "security" not in Mirrors("http://mirror.example/debian").deb822("trixie")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(sources.OVERRIDE, raising=False)
    monkeypatch.setattr(sources, "APT", tmp_path / "apt")
    monkeypatch.setattr(sources, "OS_RELEASE", tmp_path / "os-release")
    (tmp_path / "apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "os-release").write_text('ID=debian\nVERSION_CODENAME="bookworm"\n')
    return tmp_path


def test_both_formats_are_read_from_this_machine(machine: Path) -> None:
    (machine / "apt/sources.list").write_text("deb http://old.example/debian bookworm-security main\n")
    (machine / "apt/sources.list.d/debian.sources").write_text(DEB822)
    assert sources.of_this_machine() == Mirrors("http://mirror.example/debian", "http://old.example/debian")


@pytest.mark.parametrize("release", ["", "ID=ubuntu\nVERSION_CODENAME=bookworm\n"])
def test_a_machine_that_is_not_debian_is_told_how_to_name_a_mirror(machine: Path, release: str) -> None:
    (machine / "apt/sources.list.d/debian.sources").write_text(DEB822)
    (machine / "os-release").write_text(release)
    with pytest.raises(LabError, match=sources.OVERRIDE):
        sources.of_this_machine()


def test_the_environment_wins(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(sources.OVERRIDE, "http://named.example/debian")
    assert sources.of_this_machine() == Mirrors("http://named.example/debian")
