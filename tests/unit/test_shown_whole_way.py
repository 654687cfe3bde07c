"""A release fails on a host, with its secrets and worse in all that it says: none of it is seen anywhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from ansible.utils.display import Display
from ansible_collections.slipway.fleet.plugins.action import rollout
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.host.shown import Screen
from ansible_collections.slipway.fleet.plugins.module_utils.release import operations
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import Probe
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.telling import Telling, screened
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.watching import EdgeProbe
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import ContentError, Policy, Refused

from tests.unit import memory
from tests.unit.fleet.memory import RUN, Fault, Fleet, fleet
from tests.unit.memory import no_sync  # noqa: F401 - a fixture of every test here

SECRET = "Xk9-planted/secret+value"
EARLIER = "Qz7-of-the-release-before"
PLANTED = f"""\x1b[2J\x1b]0;title\x07{{"message": "settings {SECRET!r}"}} postgresql://app:{quote(SECRET, safe="")}@db
Authorization: Basic {base64.b64encode(f"app:{SECRET}".encode()).decode()} and {EARLIER}
\u202etxt.exe\r\x00 {"x" * 20_000}
pydantic_core.ValidationError: DATABASE_PASSWORD input_value='{SECRET}' in \x1b[31mred"""
# What would be left of them: their beginnings, in each form.
TRACES = (SECRET[:7], SECRET[-7:], EARLIER[:7], "UWs5", "WGs5LXBsYW50", "\x1b", "\u202e", "\x00", "x" * 9000)


def clean_of(text: str) -> bool:
    return not [trace for trace in TRACES if trace in text]


class Lines:
    """What a terminal gets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[str] = []
        for name in ("display", "warning", "error"):
            monkeypatch.setattr(Display, name, lambda _, text, *__, **___: self.said.append(str(text)))


def host_refuses(root: Path, monkeypatch: pytest.MonkeyPatch) -> SlipwayError:
    """The error of a host on which a release with these secrets fails; its ledger is below `root`."""
    host = memory.Host()
    root.mkdir()
    memory.deploy(root, host, "one")
    memory.stage(root, "two")
    for release, value in (("one", EARLIER), ("two", SECRET)):
        (root / "releases" / release / "secrets").mkdir()
        (root / "releases" / release / "secrets" / "DATABASE_PASSWORD").write_text(value)
    host.log["two"] = PLANTED
    host.sick["two"] = Probe(500, PLANTED)

    def made(arguments: dict[str, Any], **_: Any) -> Any:
        return memory.transaction(root, host, arguments.get("release") or "")

    def here(work: Callable[[Any], Any], log: Path, tell: Any, after: Any = None) -> Any:
        return work(tell)

    monkeypatch.setattr(operations, "transaction_of", made)
    monkeypatch.setattr(operations, "run_detached", here)
    place = {"app": "links", "root": str(root)}
    with pytest.raises(SlipwayError) as caught:
        operations.VERBS["activate"]({"place": place, "release": "two"}, lambda event: None)
    return caught.value


def test_a_host_lets_nothing_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = host_refuses(tmp_path / "links", monkeypatch)
    assert "DATABASE_PASSWORD" in str(error), "the cause is still told"
    assert clean_of(str(error))
    assert clean_of(json.dumps(error.details, ensure_ascii=False))
    ledger = tmp_path / "links" / "ledger.jsonl"
    last = json.loads(ledger.read_text().splitlines()[-1])
    assert (last["release"], last["result"]) == ("two", "failed")
    assert clean_of(json.dumps(last, ensure_ascii=False))
    assert clean_of(ledger.read_text())
    assert ledger.stat().st_mode & 0o777 == 0o600


def test_a_ledger_that_everybody_could_read_is_shut(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "ledger.jsonl").write_text("{}\n")
    (tmp_path / "ledger.jsonl").chmod(0o644)
    store.record({"event": "a note"})
    assert (tmp_path / "ledger.jsonl").stat().st_mode & 0o777 == 0o600


def shown_of(there: Fleet, directory: Path, lines: Lines) -> dict[str, Any]:
    """What a run over the fleet leaves: its lines, the task's result, JSON and page."""
    computed = {
        "web1": {
            "target": {
                "files": [{"dest": "/x"}, {"dest": "/y", "secret": True}],
                "contents": {"0": "no secret", "1": SECRET},
            },
            "content": {"kind": "image", "request": {"registry_password": EARLIER, "registry_user": "app"}},
        }
    }
    screen = Screen(rollout.secrets_in(computed))
    telling = Telling(screen)
    there.events = type("Told", (list,), {"append": lambda _, event: telling(event)})()
    report = screened(there.run(), screen)
    policy = Policy(operation="deploy", run=RUN)
    probe = EdgeProbe({"rate": 0.0, "must_pass": False}, lambda: ([], []), "/version", directory, False)
    action = object.__new__(rollout.ActionModule)
    action._began = 1000.0
    return action._told(report, policy, there.target("web1"), telling, probe, directory, "")


@pytest.mark.parametrize("raw", [True, False], ids=["a host that lets all out", "a host that screens"])
def test_a_run_shows_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bool) -> None:
    """The controller relies on no host: it knows the secrets that it sends."""
    there, lines = fleet(2), Lines(monkeypatch)
    error = host_refuses(tmp_path / "links", monkeypatch)
    message, details = (PLANTED, {"cause": PLANTED, "log": PLANTED}) if raw else (str(error), error.details)
    there.hosts[0].faults["activate"] = Fault(Refused(message, "release", details))
    there.hosts[1].answers["let_go"] = {"notes": [PLANTED]}
    directory = tmp_path / "reports"
    result = shown_of(there, directory, lines)
    assert result["verdict"] == "reverted"
    terminal = "\n".join(lines.said)
    assert "DATABASE_PASSWORD" in terminal
    page, data = (next(directory.glob(f"*.{kind}")).read_text() for kind in ("html", "json"))
    assert "DATABASE_PASSWORD" in page
    for text in (terminal, page, data, json.dumps(json.loads(data), ensure_ascii=False), str(result)):
        assert clean_of(text)


def test_what_a_registry_or_an_exception_says_is_screened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for what, error in (("identify", ContentError(PLANTED)), ("put", RuntimeError(PLANTED))):
        there, lines = fleet(1), Lines(monkeypatch)
        there.content.faults[what] = error
        result = shown_of(there, tmp_path / what, lines)
        assert result["verdict"] == "refused"
        assert clean_of("\n".join(lines.said) + str(result))
