"""What may be shown: no secret in whatever form it stands, nothing that a terminal obeys, no endless line."""

from __future__ import annotations

import base64
import html
import json
import re
import time
import traceback
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host.shown import (
    BLANK,
    LONGEST_LINE,
    SHORTEST,
    Screen,
    clean,
    staged,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings

SECRET = "S3cr3t-of-the-app/with+odd 'quotes\"%and=more"
KEY = (
    "-----BEGIN PRIVATE KEY-----\n" + "\n".join(f"MIGHAgEAMBMGByqGSM49{n}AgEGCCqGSM49" for n in range(4)) + "\n-----END"
)
LETTERS = st.characters(codec="utf-8", exclude_characters="*")
SECRETS = st.lists(st.text(LETTERS, min_size=4, max_size=30).filter(str.strip), max_size=3)
# Pieces of which hostile texts are made.
PIECES = st.lists(
    st.one_of(
        st.text(st.characters()),
        st.sampled_from(
            ["\x1b[31m", "\x1b", "[", "\x9b1m", "\x1b]0;title", "\x07", "\x1b\\", "\u202e", "\r", "\r\n", "..."]
        ),
        st.sampled_from(["\ud800", "\x00", "\u2028", "\u2026", "https://user:pass@host/", "x" * 300, "\n", "\t"]),
    )
).map("".join)
FORBIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@given(PIECES, SECRETS, st.integers(1, 400))
def test_whatever_comes_is_harmless_and_stays_as_it_is(text: str, secrets: list[str], limit: int) -> None:
    shown = Screen(secrets).text(text, limit)
    assert not FORBIDDEN.search(shown)
    assert all(len(line) <= limit for line in shown.split("\n"))
    shown.encode()
    assert clean(shown) == clean(clean(shown))
    assert clean(text, limit) == clean(clean(text, limit), limit)


# What is shown of one, without what a terminal obeys, must be long enough to be known again.
VISIBLE = st.text(LETTERS, min_size=8, max_size=40).filter(lambda secret: len(clean(secret).strip()) >= SHORTEST)


@given(VISIBLE, PIECES, PIECES)
def test_no_secret_is_left(secret: str, before: str, after: str) -> None:
    shown = Screen([secret]).text(f"{before} {secret} {after}", 1 << 20)
    assert clean(secret) not in shown or clean(secret) in BLANK


@pytest.mark.parametrize("secret", ["Xk9'planted/secret+value-of-a-release", "9f86d081884c7d659a2feaa0c55ad015"])
@pytest.mark.parametrize("width", [13, 19])
def test_a_log_that_is_still_written_ends_in_the_middle_of_a_secret(secret: str, width: int) -> None:
    """And one of which the last lines are shown begins there."""
    for form in (secret, base64.b64encode(secret.encode()).decode(), secret.encode().hex()):
        pieces = [form[at : at + width] for at in range(0, len(form), width)]
        for count in range(1, len(pieces)):
            for lines in (["it begins", *pieces[:count]], [*pieces[-count:], "it ends"]):
                shown = Screen([secret]).text("\n".join(lines))
                assert not [piece for piece in pieces if len(piece) >= 8 and piece in shown], shown
                assert "it begins" in shown or "it ends" in shown


@given(st.text(LETTERS, min_size=8, max_size=40).filter(str.strip), st.binary(max_size=5), st.binary(max_size=5))
def test_base64_of_a_secret_within_something_else(secret: str, before: bytes, after: bytes) -> None:
    whole = base64.b64encode(before + secret.encode() + after).decode()
    assert BLANK in Screen([secret]).text(f"Authorization: Basic {whole}")


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        repr(SECRET),
        repr({"password": SECRET}),
        repr(SECRET.encode()),
        json.dumps(SECRET),
        json.dumps({"log": json.dumps({"password": SECRET})}),
        json.dumps(repr(SECRET)),
        quote(SECRET),
        quote(SECRET, safe=""),
        re.sub("%..", lambda found: found[0].lower(), quote(SECRET, safe="")),
        quote_plus(SECRET),
        html.escape(SECRET),
        base64.b64encode(SECRET.encode()).decode(),
        base64.urlsafe_b64encode(SECRET.encode()).decode(),
        base64.b64encode(f"admin:{SECRET}".encode()).decode(),
        SECRET.encode().hex(),
        f"\x1b[1m{SECRET}\x1b[0m",
        SECRET[:9] + "\x1b[31m" + SECRET[9:],
    ],
)
def test_forms_in_which_a_secret_stands(form: str) -> None:
    shown = Screen([SECRET]).text(f"it said {form} and went on")
    assert BLANK in shown
    assert "S3cr3t" not in shown
    assert "and went on" in shown
    assert not set(re.findall(r"[A-Za-z0-9]{12,}", shown)) & set(re.findall(r"[A-Za-z0-9]{12,}", form))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            "connect to postgresql://app:hunter2@db:5432/x failed",
            f"connect to postgresql://app:{BLANK}@db:5432/x failed",
        ),
        ("redis://:hunter2@cache/0", f"redis://:{BLANK}@cache/0"),
        ("https://u:p%40ss@host and http://host:80/a@b", f"https://u:{BLANK}@host and http://host:80/a@b"),
        ("http://[::1]:80/", "http://[::1]:80/"),
    ],
)
def test_the_password_of_any_url(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_a_secret_that_is_a_url_hides_its_password_alone_too() -> None:
    screen = Screen(["postgresql://app:hun%40ter2@db/x"])
    assert screen.text("FATAL: password authentication failed for hun@ter2") == (
        f"FATAL: password authentication failed for {BLANK}"
    )


def test_each_line_of_a_key() -> None:
    shown = Screen([KEY]).text("\n".join(f"web | {line}" for line in KEY.splitlines()))
    assert "MIGH" not in shown
    assert "BEGIN PRIVATE KEY" in shown


@pytest.mark.parametrize("secret", ["", "abc", "1", "***", "*****"])
def test_words_that_stand_everywhere_are_no_secrets(secret: str) -> None:
    text = "abc 1 *** ***** of the log"
    assert Screen([secret]).text(text) == text


class Inner(BaseModel):
    token: int


class Settings(BaseSettings):
    database_password: int
    inner: Inner


@pytest.mark.parametrize(
    "secret", ["hunter2-hunter2", "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-end"]
)
def test_errors_of_pydantic_settings(secret: str) -> None:
    """They show what they got, of a long value its beginning and its end."""
    with pytest.raises(ValidationError) as caught:
        Settings(database_password=secret, inner={"token": secret})  # type: ignore[arg-type]
    shown = Screen([secret]).text(caught.value)
    assert "database_password" in shown
    pieces = {secret[at : at + 4] for at in range(len(secret) - 3)}
    assert not [piece for piece in pieces if piece in shown]


def test_a_traceback() -> None:
    def connect(url: str) -> None:
        raise ConnectionError(f"cannot reach {url}")

    with pytest.raises(ConnectionError) as caught:
        connect(f"postgresql://app:{quote(SECRET, safe='')}@db/x")
    shown = Screen([SECRET]).text("".join(traceback.format_exception(caught.value)))
    assert shown.endswith(f"ConnectionError: cannot reach postgresql://app:{BLANK}@db/x\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x1b[31mred\x1b[0m\x1b]0;title\x07\x1b]8;;http://x\x1b\\link", "redlink"),
        ("\x9b31mred \x9d0;t\x9c\x1bPq#0\x1b\\x \x1b(B", "red x "),
        ("50 %\r100 %\r\nnext\tcell", "50 %\n100 %\nnext\tcell"),
        ("admin\u202etxt.exe\u2066", "admin\ufffdtxt.exe\ufffd"),
        ("\ud800\x00\x07", "\ufffd\ufffd\ufffd"),
        ("äöü \N{FAMILY}", "äöü \N{FAMILY}"),
    ],
)
def test_what_a_terminal_would_obey(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_of_a_long_line_both_ends_are_shown() -> None:
    shown = clean("begin" + "x" * 100_000 + "SomeError: end")
    assert len(shown) == LONGEST_LINE
    assert shown.startswith("begin")
    assert shown.endswith("SomeError: end")
    assert "characters left out" in shown


def test_only_what_somebody_wrote_is_blanked() -> None:
    told = Screen(["blue"]).told(
        {"slot": "blue", "serving": {"slot": "blue"}, "cause": "it is blue", "evidence": {"log": ["blue"], "exit": 1},
         "who": "a\x1b[1mb", "seconds": 1.5}
    )  # fmt: skip
    assert told == {
        "slot": "blue",
        "serving": {"slot": "blue"},
        "cause": f"it is {BLANK}",
        "evidence": {"log": [BLANK], "exit": 1},
        "who": "ab",
        "seconds": 1.5,
    }


def test_secrets_of_all_staged_releases_are_known(tmp_path: Path) -> None:
    for release in ("one", "two"):
        (tmp_path / release / "secrets").mkdir(parents=True)
        (tmp_path / release / "secrets" / "PASSWORD").write_text(f"hunter-{release}\n")
    assert staged(tmp_path).text("hunter-one hunter-two") == f"{BLANK} {BLANK}"
    assert staged(tmp_path / "nowhere").text("hunter-one") == "hunter-one"


@pytest.mark.parametrize(
    ("piece", "size"),
    [
        *((piece, 40_000) for piece in ("...", "http://", "http://u:", "\x1b]", "\x9d", "\x1b[1;", "a.")),
        ("http://u:" + "p" * 99, 40_000),
        # Each is looked at closely, for what could be the beginning of a secret: ten thousand of them show as much.
        ("S3cr...", 7_000),
    ],
)
def test_it_takes_time_in_proportion(piece: str, size: int) -> None:
    def spent(size: int) -> float:
        text, began = piece * (size // len(piece)), time.process_time()
        Screen([SECRET]).text(text, 1 << 30)
        return time.process_time() - began

    spent(1000)
    assert spent(10 * size) < 40 * spent(size) + 0.5
