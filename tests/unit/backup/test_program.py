"""The program of a host: what it is asked, and what it answers to what goes wrong."""

from __future__ import annotations

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup import program, restic
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import LOCKED, BackupError, Settings
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        (["backup", "--reason=timer"], restic.PATIENT),
        (["drill", "--reason=timer"], restic.PATIENT),
        (["drill"], restic.WAIT),
        (["restore", "--part=all"], restic.WAIT),
        (["status"], restic.WAIT),
    ],
)
def test_a_timer_waits_longer_for_other_hosts(
    words: list[str], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    made = program.repository(program.parser().parse_args(words), Settings("/srv/sets", "h"))
    monkeypatch.setattr(made, "_sleep", waits.append)
    monkeypatch.setattr(made, "_run", lambda *_, **__: Ran((), 1, "", "repository is already locked by PID 7"))
    with pytest.raises(BackupError) as caught:
        made.unlock()
    assert caught.value.fault == LOCKED
    assert sum(waits) == seconds
