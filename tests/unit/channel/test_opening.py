"""The beginning of a channel, without one: banners, passwords, an agent that is missing, names of failures."""

from __future__ import annotations

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.archive import Agent
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.opening import Opening
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Refused, Unreachable

from tests.unit.channel.lines import sudo

AGENT = Agent(b"bytes of the agent", "d1g357", "")
EARLY = b'{"verb":"open"}\n'
PROMPT = b"[sudo] password:"


def opening(password: str | None = None) -> Opening:
    return Opening(AGENT, "mark", bytearray(EARLY), None if password is None else sudo(password))


def heard(one: Opening, *said: bytes) -> list[bytes]:
    return [answer for piece in said for answer in one.hear(piece) if answer]


def test_the_first_words_go_at_once_where_no_password_is_needed() -> None:
    assert opening().begin() == opening("").begin() == EARLY
    assert opening("secret").begin() == b""


@pytest.mark.parametrize(
    "said",
    [
        (b"\nmark hello \n{}",),
        (b"Welcome!\r\n", b"mar", b"k hello", b" \n{", b"}"),
        (b'{"id":1}\nother hello \nLast login mark hello\n', b"mark hello \n{}"),
    ],
)
def test_noise_before_the_mark_is_passed_over(said: tuple[bytes, ...]) -> None:
    one = opening()
    one.begin()
    for piece in said:
        assert list(filter(None, one.hear(piece))) == []

    assert one.open
    assert one.rest() == b"{}"


def test_the_agent_is_sent_where_it_is_missing() -> None:
    one = opening()

    assert one.begin() == EARLY
    assert heard(one, b"\nmark missing \n") == [b"mark\n" + AGENT.data]
    assert heard(one, b"\nmark hello \n") == []
    assert one.open


def test_the_first_words_wait_for_root_where_a_password_is_asked() -> None:
    one = opening("secret")

    assert list(one.hear_error(b"We trust you have received the usual lecture.\n" + PROMPT)) == [b"secret\n"]
    assert list(one.hear_error(b"\n")) == []
    assert heard(one, b"BECOME-SUCCESS-x\n\nmark hello \n") == [EARLY]


def test_nobody_gets_the_password_who_only_speaks_of_one() -> None:
    one = opening("secret")

    assert heard(one, b"[sudo] password: is what you will be asked for\n") == []


@pytest.mark.parametrize("after", [b"Sorry, try again.\n", b"\n" + PROMPT])
def test_a_wrong_password_is_called_that_and_not_sent_again(after: bytes) -> None:
    one = opening("secret")
    list(one.hear_error(PROMPT))

    with pytest.raises(Refused, match="become password is wrong for sudo.*ansible_become_password"):
        list(one.hear_error(after))


def test_a_password_that_is_not_there_is_asked_for_by_name() -> None:
    with pytest.raises(Refused, match="wants a password and has none; give it with -K"):
        list(opening("").hear_error(PROMPT))


def test_a_refusal_has_the_words_of_the_host() -> None:
    with pytest.raises(Refused, match=r"^its Python \(/usr/bin/python3, 3.6.8\) is too old$"):
        heard(opening(), b'\nmark refused "its Python (/usr/bin/python3, 3.6.8) is too old"\n')


@pytest.mark.parametrize(
    ("become", "code", "errors", "kind", "text"),
    [
        (
            None,
            255,
            b"Banner\nssh: connect to host a port 22: No route to host\r\n",
            Unreachable,
            "ssh: connect to host",
        ),
        (None, 255, b"", Unreachable, "ended before the host said anything (exit code 255)"),
        (None, 1, b"\x1b[31mError: No such container: a\x1b[0m\n", Unreachable, "Error: No such container: a"),
        (None, 127, b"sh: 1: exec: python3: not found\n", Refused, "there is no Python on the host"),
        ("", 1, b"sudo: a password is required\n", Refused, "wants a password and has none"),
        ("", 1, b"sudo: Ein Passwort ist notwendig\n", Refused, "cannot become root on the host: sudo: Ein"),
        ("x", 127, b"sh: 1: sudo: not found\n", Refused, "cannot become root on the host: sh: 1: sudo: not found"),
        ("x", 255, b"Connection reset by peer\n", Unreachable, "Connection reset by peer"),
    ],
)
def test_the_end_before_the_beginning_is_explained(
    become: str | None, code: int, errors: bytes, kind: type[Exception], text: str
) -> None:
    one = opening(become)
    list(one.hear_error(errors))

    failure = one.failure(code)

    assert type(failure) is kind
    assert text in str(failure)
    assert "\x1b" not in str(failure)
