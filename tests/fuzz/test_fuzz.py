"""Whoever draws the inputs of `make fuzz`, what is found fails the test by its own error."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.fuzz.guided import KEPT, SECONDS, can_be_guided
from tests.fuzz.hostile import EXAMPLES, given


class PlantedError(Exception):
    pass


def reader(faulty: bool) -> None:
    @given(st.text())
    def reads(text: str) -> None:
        if faulty and len(text) > 2:
            raise PlantedError

    reads()


@pytest.mark.parametrize("guided", [False, True])
def test_a_fault_is_found(guided: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(EXAMPLES, "2000")
    if guided:
        monkeypatch.setenv(SECONDS, "30")
        monkeypatch.setenv(KEPT, str(tmp_path))
    with pytest.raises(PlantedError):
        reader(faulty=True)
    assert any(tmp_path.iterdir()) is (guided and can_be_guided()), "Atheris works where it is wanted and installed"


def test_where_nothing_is_wrong_nothing_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {EXAMPLES: "50", SECONDS: "1", KEPT: str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    reader(faulty=False)
