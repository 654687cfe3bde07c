"""A release fails on a host, with its secrets and worse in all that it says: none of it is seen anywhere."""

from __future__ import annotations

import base64
import html
import json
import shlex
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from ansible.utils.display import Display
from ansible_collections.slipway.fleet.plugins.action import rollout
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.host.ledger import Ledger
from ansible_collections.slipway.fleet.plugins.module_utils.host.shown import Screen
from ansible_collections.slipway.fleet.plugins.module_utils.release import operations
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import Probe
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.telling import Telling, screened
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.watching import EdgeProbe
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import ContentError, Policy, Refused
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import history
from pydantic import BaseModel, ConfigDict, ValidationError

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
RECORD = {"run": "r1", "who": "ann", "from": "ci"}
TRACES = (SECRET[:7], SECRET[-7:], EARLIER[:7], "UWs5", "WGs5LXBsYW50", "\x1b", "\u202e", "\x00", "x" * 9000)


def clean_of(text: str) -> bool:
    return not [trace for trace in TRACES if trace in text]


class Lines:
    """What a terminal gets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.said: list[str] = []
        for name in ("display", "warning", "error"):
            monkeypatch.setattr(Display, name, lambda _, text, *__, **___: self.said.append(str(text)))


# Where a release fails, by the verb that is asked and what it is asked.
STAGES: dict[str, tuple[str, dict[str, Any]]] = {
    "its settings": ("run", {"command": ["check"], "purpose": "the check"}),
    "a migration": ("run", {"command": ["migrate"], "purpose": "the migration", "once": "migrated"}),
    "an operator's command": ("run", {"command": ["x"], "purpose": "the command", "alone": False, "record": RECORD}),
    "the gate": ("activate", {}),
    "a process": ("activate", {}),
}


def host_refuses(
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    planted: str = PLANTED,
    secret: str = SECRET,
    stage: str = "the gate",
) -> SlipwayError:
    """The error of a host on which a release with these secrets fails at a stage; its ledger is below `root`."""
    host = memory.Host()
    root.mkdir()
    memory.deploy(root, host, "one")
    memory.stage(root, "two")
    for release, value in (("one", EARLIER), ("two", secret)):
        (root / "releases" / release / "secrets").mkdir()
        (root / "releases" / release / "secrets" / "DATABASE_PASSWORD").write_text(value)
    if stage == "a process":
        declared = {"worker": {"command": ["x"], "replicas": 1, "singleton": False}}
        (root / "releases" / "two" / "processes.json").write_text(json.dumps(declared))
        host.beside.dies = {("two", "worker")}
        monkeypatch.setattr(host.beside, "logs", lambda instance, lines: planted)
    else:
        host.log["two"] = planted
        host.sick["two"] = Probe(500, planted)

    def made(arguments: dict[str, Any], **_: Any) -> Any:
        return memory.transaction(root, host, arguments.get("release") or "")

    def here(work: Callable[[Any], Any], log: Path, tell: Any, after: Any = None) -> Any:
        return work(tell)

    monkeypatch.setattr(operations, "transaction_of", made)
    monkeypatch.setattr(operations, "run_detached", here)
    verb, asked = STAGES[stage]
    if verb == "run":
        monkeypatch.setattr(host, "run", lambda *asked: Ran((), 1, planted, f"Traceback\n{planted}"))
        monkeypatch.setattr(operations, "runtime_of", lambda arguments: host)
    place = {"app": "links", "root": str(root)}
    record = {"record": {**asked["record"], "root": str(root)}} if "record" in asked else {}
    with pytest.raises(SlipwayError) as caught:
        operations.VERBS[verb]({"place": place, "release": "two", **asked, **record}, lambda event: None)
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


KEY = (
    "-----BEGIN PRIVATE KEY-----\n"
    + "\n".join(f"MIGH{n}gEAMBMGByqGSM49AgEGCCqGSM49AwEH" for n in range(3))
    + "\n-----END\n"
)


class Settings(BaseModel):
    """As an app has them; the secret stands where a number is wanted."""

    model_config = ConfigDict(extra="forbid")
    pool: int


def settings_error(secret: str) -> str:
    try:
        Settings.model_validate({"pool": secret, "other": {"nested": secret}})
    except ValidationError as error:
        return "".join(traceback.format_exception(error))
    raise AssertionError("it is no error")


def exception(secret: str) -> str:
    known: dict[str, str] = {}
    try:
        try:
            known[secret]
        except KeyError as error:
            raise ConnectionError(f"cannot connect with {secret!r}", {"password": secret}) from error
    except ConnectionError as error:
        return "".join(traceback.format_exception(error))
    raise AssertionError("it is no error")


def broken(text: str, indent: str, width: int = 11) -> str:
    return f"\n{indent}".join(text[at : at + width] for at in range(0, len(text), width))


def boxed(text: str, width: int = 11) -> str:
    """As rich shows a traceback."""
    return "\n".join(f"\u2502 {text[at : at + width]:{width}} \u2502" for at in range(0, len(text), width))


# How an app, its libraries and its shell may say a secret.
SAID: dict[str, Callable[[str], str]] = {
    "plain": lambda secret: f"DATABASE_PASSWORD {secret}",
    "an exception with its cause": exception,
    "settings that are refused": settings_error,
    "a URL": lambda secret: f"DATABASE_PASSWORD postgresql+asyncpg://app:{quote(secret, safe='')}@db:5432/app?ssl=1",
    "a form": lambda secret: f"DATABASE_PASSWORD {urlencode({'password': secret, 'user': 'app'})}",
    "JSON": lambda secret: json.dumps({"message": "DATABASE_PASSWORD", "env": {"X": secret}}),
    "JSON in JSON": lambda secret: json.dumps({"message": json.dumps({"DATABASE_PASSWORD": secret})}),
    "bytes of Python": lambda secret: f"DATABASE_PASSWORD {secret.encode()!r}",
    "HTML": lambda secret: f"<pre>DATABASE_PASSWORD {html.escape(secret)}</pre>",
    "base64": lambda secret: f"DATABASE_PASSWORD {base64.b64encode(secret.encode()).decode()}",
    "base64 of a URL": lambda secret: f"DATABASE_PASSWORD {base64.urlsafe_b64encode(secret.encode()).decode()}",
    "basic credentials": lambda secret: (
        f"DATABASE_PASSWORD Basic {base64.b64encode(f'app:{secret}'.encode()).decode()}"
    ),
    "hex": lambda secret: f"DATABASE_PASSWORD {secret.encode().hex()}",
    "a trace of the shell": lambda secret: f"+ export DATABASE_PASSWORD={shlex.quote(secret)}",
    "a trace of bash": lambda secret: "+ export DATABASE_PASSWORD='{}'".format(secret.replace("'", "'\\''")),
    "coloured": lambda secret: f"DATABASE_PASSWORD \x1b[31m{secret}\x1b[0m",
    "in the middle of a long line": lambda secret: f"DATABASE_PASSWORD {'x' * 300}{secret}{'y' * 300}",
    "broken at a width": lambda secret: f"DATABASE_PASSWORD is\n  {broken(secret, '  ')}",
    "in a box": lambda secret: "\u2502 DATABASE_PASSWORD     \u2502\n" + boxed(f"password='{secret}'"),
    "base64 of short lines": lambda secret: (
        f"DATABASE_PASSWORD\n{broken(base64.b64encode(secret.encode()).decode(), '')}"
    ),
    "with another end of its lines": lambda secret: f"DATABASE_PASSWORD {secret}".replace("\n", "\r\n"),
}
SECRETS = {
    "a password": "Xk9-planted/secret+value",
    "with quotes": "Xk9'planted\"<&%secret\\value é",
    "a key of many lines": KEY,
}


def traces(secret: str) -> set[str]:
    """What would be left of a secret: eight characters anywhere in it, as text, base64 and hex."""
    lines = [line for line in secret.splitlines() if not line.startswith("-----")]
    found = {line[at : at + 8] for line in lines for at in range(len(line) - 7)}
    raw = secret.encode()
    found |= {raw.hex()[at : at + 16] for at in range(0, len(raw.hex()) - 16, 2)}
    for before in range(3):
        whole = base64.b64encode(b"-" * before + raw).decode()[4:-4]
        found |= {whole[at : at + 12] for at in range(len(whole) - 11)}
    return found


def history_of(ledger: Path) -> str:
    records = Ledger(ledger.parent).told()
    told = history.tell({"web1": {"records": records}})
    return told.text + json.dumps(told.rows, ensure_ascii=False)


@pytest.mark.parametrize("stage", [stage for stage in STAGES if stage != "the gate"])
@pytest.mark.parametrize("kind", SECRETS)
def test_nowhere_whatever_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str, kind: str) -> None:
    """All ways of saying it at once, at each stage but the gate, which the next test has with each way by itself."""
    secret = SECRETS[kind]
    root = tmp_path / "links"
    error = host_refuses(root, monkeypatch, "\n".join(way(secret) for way in SAID.values()), secret, stage)
    assert "DATABASE_PASSWORD" in str(error) + json.dumps(error.details), "what was said is told"
    places = {
        "the answer": str(error) + json.dumps(error.details, ensure_ascii=False),
        "the host's files": "".join(
            path.read_text() for path in root.rglob("*") if path.is_file() and path.parent.name != "secrets"
        ),
        "history": history_of(root / "ledger.jsonl"),
    }
    left = {where: [trace for trace in traces(secret) if trace in shown] for where, shown in places.items()}
    assert not {where: found for where, found in left.items() if found}


@pytest.mark.parametrize("kept", [1, 5, 12, len(SECRET) - 1])
def test_nor_is_the_half_that_a_limit_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """Of an answer to a health check its first characters are told."""
    for limit in (200, 500, 2000):
        root = tmp_path / str(limit)
        error = host_refuses(root, monkeypatch, f"{'x' * (limit - kept)}{SECRET} and more {'x' * 3000}")
        told = str(error) + json.dumps(error.details) + (root / "ledger.jsonl").read_text()
        assert SECRET[: max(kept, 4)] not in told
        assert SECRET[-5:] not in told


@pytest.mark.parametrize("kind", SECRETS)
@pytest.mark.parametrize("how", SAID)
def test_a_secret_is_found_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, kind: str) -> None:
    """However it is said: by the host in its answer and its ledger, in history, on the terminal, page and JSON."""
    secret = SECRETS[kind]
    text = SAID[how](secret)
    root = tmp_path / "links"
    error = host_refuses(root, monkeypatch, text, secret)
    places = {
        "the answer": str(error) + json.dumps(error.details, ensure_ascii=False),
        "the ledger": (root / "ledger.jsonl").read_text(),
        "the ledger, read": json.dumps(Ledger(root).entries(), ensure_ascii=False),
        "history": history_of(root / "ledger.jsonl"),
    }
    # A host that lets it out: the controller knows what it sent.
    there, lines = fleet(2), Lines(monkeypatch)
    details = {"cause": text, "log": text, "evidence": {"health": text}}
    there.hosts[0].faults["activate"] = Fault(Refused(text, "release", details))
    there.hosts[1].answers["let_go"] = {"notes": [text]}
    directory = tmp_path / "reports"
    places["the result"] = str(shown_of(there, directory, lines, secret))
    places["the terminal"] = "\n".join(lines.said)
    for ending in ("html", "json"):
        places[f"the report's {ending}"] = next(directory.glob(f"*.{ending}")).read_text()
    places["the report's data"] = json.dumps(json.loads(places["the report's json"]), ensure_ascii=False)
    left = {where: [trace for trace in traces(secret) if trace in shown] for where, shown in places.items()}
    assert not {where: found for where, found in left.items() if found}


def test_a_ledger_that_everybody_could_read_is_shut(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (tmp_path / "ledger.jsonl").write_text("{}\n")
    (tmp_path / "ledger.jsonl").chmod(0o644)
    store.record({"event": "a note"})
    assert (tmp_path / "ledger.jsonl").stat().st_mode & 0o777 == 0o600


def shown_of(there: Fleet, directory: Path, lines: Lines, secret: str = SECRET) -> dict[str, Any]:
    """What a run over the fleet leaves: its lines, the task's result, JSON and page."""
    computed = {
        "web1": {
            "target": {
                "files": [{"dest": "/x"}, {"dest": "/y", "secret": True}],
                "contents": {"0": "no secret", "1": secret},
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
