"""What users asked for last, asked of a release before it serves: what is chosen, and what counts as broken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import EdgeError
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import Probe, TransactionError
from ansible_collections.slipway.fleet.plugins.module_utils.release.replay import (
    PATIENCE,
    REQUESTS,
    Replay,
    Replayed,
    choice,
    may_be_asked,
    route_of,
)
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store

from tests.unit.memory import (  # noqa: F401 - a fixture of every test here
    Host,
    assert_whole,
    deploy,
    no_sync,
    stage,
    transaction,
)

NO_ROUTE = Probe(404, '{"detail":"Not Found"}')
NO_ITEM = Probe(404, '{"detail":"no such item"}')
Answer = Probe | int | list[Any]


class Slots:
    """Green is new and blue serves: what each answers by path, in turn where it is a list. What was asked is noted."""

    def __init__(self, green: dict[str, Answer], blue: dict[str, Answer] | None = None) -> None:
        self.answers: dict[str, dict[str, Answer]] = {"green": green, "blue": blue or {}}
        self.asked: list[tuple[str, str]] = []
        self.seconds = 0.0
        self.takes = 0.01
        self.seconds_given: list[float] = []

    def ask(self, slot: str, path: str, release: str, seconds: float, most: int) -> Probe:
        assert 0 < seconds <= PATIENCE
        self.seconds_given.append(seconds)
        assert {"green": "two", "blue": "one"}[slot] == release
        self.asked.append((slot, path))
        self.seconds += self.takes
        answer = self.answers[slot].get(path, NO_ROUTE if slot == "green" else 200)
        if isinstance(answer, list):
            answer = answer.pop(0)
        return answer if isinstance(answer, Probe) else Probe(answer)

    def replayed(self, *paths: str, refuses: bool = True) -> Replayed:
        replay = Replay(lambda: list(paths), self.ask, lambda: self.seconds, refuses)
        return replay(("green", "two"), ("blue", "one"), lambda: None)


def test_a_release_that_answers_all_of_it_is_asked_and_nobody_else() -> None:
    slots = Slots({"/a": 200, "/b?page=2": 307, "/c": 401})
    assert slots.replayed("/a", "/b?page=2", "/c") == Replayed(3)
    assert slots.asked == [("green", "/a"), ("green", "/b?page=2"), ("green", "/c")]


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (500, "answers 500"),
        (503, "answers 503"),
        (405, "answers 405"),
        (NO_ROUTE, "answers 404"),
        (Probe(error="nothing listens on it", nobody=True), "answers nothing (nothing listens on it)"),
    ],
)
@pytest.mark.parametrize("live", [200, 204, 302])
def test_a_route_that_it_breaks_is_named(new: Answer, said: str, live: int) -> None:
    found = Slots({"/links/7?page=2": new}, {"/links/7?page=2": live}).replayed("/links/7?page=2")
    assert found == Replayed(1, (f"GET /links/{{}}?page {said} where release one answers well",), refused=True)
    assert "it breaks what release one answers its users: GET /links/{}?page" in found.sentence("one")
    assert found.sentence("one").endswith("deploy with -e fastapi_app_replay=warn")
    assert found.as_dict() == {"asked": 1, "breaks": list(found.breaks), "note": ""}


def test_where_nobody_is_to_be_refused_it_is_named_alone() -> None:
    found = Slots({"/a": 500}).replayed("/a", refuses=False)
    assert (len(found.breaks), found.refused) == (1, False)


@pytest.mark.parametrize("live", [401, 403, 404, 422, 500, Probe(error="timed out")])
def test_what_the_live_release_does_not_answer_well_breaks_nothing(live: Answer) -> None:
    assert Slots({"/a": 500}, {"/a": live}).replayed("/a") == Replayed(1)


@pytest.mark.parametrize("new", [200, 301, 401, 403, 410, 422, 429])
def test_what_is_no_fault_of_a_route_breaks_nothing(new: int) -> None:
    assert Slots({"/a": new}).replayed("/a") == Replayed(1)


def test_what_happens_once_breaks_nothing() -> None:
    assert Slots({"/a": [500, 200]}).replayed("/a") == Replayed(1)
    assert Slots({"/a": [500, 500]}, {"/a": [200, 500]}).replayed("/a") == Replayed(1)


def test_what_the_old_release_has_in_memory_is_no_route_that_is_gone() -> None:
    found = Slots({"/items/1": NO_ITEM}).replayed("/items/1")
    assert (found.breaks, found.refused) == ((), False)
    assert found.note == (
        "GET /items/{} answers 404 where release one answers well; its page says that the route is there"
    )


def test_a_page_that_repeats_its_path_is_the_same_page() -> None:
    class Echoes(Slots):
        def ask(self, slot: str, path: str, release: str, seconds: float, most: int) -> Probe:
            return Probe(404, f"{path} is nowhere") if slot == "green" else Probe(200)

    assert Echoes({}).replayed("/gone").refused


def test_an_edge_that_tells_nothing_is_no_reason_to_refuse() -> None:
    def silent() -> list[str]:
        raise EdgeError("HAProxy does not answer")

    replay = Replay(silent, Slots({}).ask, lambda: 0.0, True)
    found = replay(("green", "two"), ("blue", "one"), lambda: None)
    assert found == Replayed(note="nothing was asked that users had asked: HAProxy does not answer")


def test_it_ends_in_time() -> None:
    slots = Slots({f"/{number}/x": 200 for number in range(REQUESTS)})
    slots.takes = PATIENCE
    found = slots.replayed(*slots.answers["green"])
    assert (found.asked, found.note) == (6, f"{REQUESTS - 6} of {REQUESTS} were not asked within 30 s")


def test_a_question_gets_no_more_than_what_is_left() -> None:
    slots = Slots({f"/{number}/x": 200 for number in range(REQUESTS)})
    slots.takes = 4.0
    slots.replayed(*slots.answers["green"])
    assert slots.seconds_given == [PATIENCE] * 7 + [2.0]


def test_files_of_another_build_break_nothing() -> None:
    found = Slots({}).replayed("/assets/index-3f2a1b9c.js", "/assets/index-77aa01bc.css")
    assert (found.asked, found.breaks, found.refused) == (2, (), False)
    assert found.note == "release one has files that are not there any more (/assets/index-3f2a1b9c.js and 1 more)"


def test_a_file_that_fails_is_a_break() -> None:
    assert Slots({"/report.pdf": 500}).replayed("/report.pdf").refused


def test_who_is_late_breaks_nothing() -> None:
    found = Slots({"/model": Probe(error="TimeoutError: timed out", late=True)}).replayed("/model")
    assert (found.breaks, found.refused) == ((), False)
    assert found.note.endswith("it may be slow at its first request")


def test_a_replay_that_breaks_refuses_nobody() -> None:
    class Breaks(Slots):
        def ask(self, slot: str, path: str, release: str, seconds: float, most: int) -> Probe:
            if path == "/b":
                raise KeyError(path)
            return super().ask(slot, path, release, seconds, most)

    found = Breaks({"/a": 200, "/c": 200}).replayed("/a", "/b", "/c")
    assert found == Replayed(3, note="GET /b could not be judged (KeyError: '/b')")
    with_no_list = Replay(lambda: [1], Slots({}).ask, lambda: 0.0, True)  # type: ignore[list-item]
    assert "nothing was asked that users had asked" in with_no_list(("green", "2"), ("blue", "1"), lambda: None).note


def test_a_crawler_pushes_out_no_route() -> None:
    crawled = [f"/p{'/x' * number}" for number in range(1, 25)]
    assert choice([*crawled, "/users/1"], REQUESTS)[:6] == [*crawled[:5], "/users/1"]


def test_nothing_asked_for_is_nothing_told() -> None:
    assert Slots({}).replayed().as_dict() is None


def test_the_choice_has_something_of_each_part() -> None:
    links = [f"/links/{name}" for name in "abcdefghijklmnopqrstuvwxyz"]
    paths = [*links, "/users/1", "/users/2", "/users/1/orders", "/", "/about"]
    chosen = choice(paths, 6)
    assert chosen == ["/links/a", "/users/1", "/users/1/orders", "/", "/links/b", "/about"]
    assert choice(paths, 100)[-1] == "/users/2", "another one of the same route comes last"
    assert len(choice(links * 3, REQUESTS)) == REQUESTS


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/links/abc?page=2&sort=-created",
        "/users/1b4e28ba-2fa1-11d2-883f-0016d3cca427/orders",
        "/payments",
        "/prune/runtime",
        "/how-to-deploy-fastapi-to-linux-vms-with-ansible",
        "/search?q=shoes%20and%20socks",
    ],
)
def test_what_may_be_asked(path: str) -> None:
    assert may_be_asked(path)


@pytest.mark.parametrize(
    "path",
    [
        "/account/logout",
        "//[x",
        "//elsewhere/a",
        "/caf\u00e9",
        "/r/k3jd82hs7wq0zmxn",
        "/invitations/7",
        "/jobs/7/run",
        "/run-now",
        "/stop",
        "/orders/7/pay",
        "/orders/7/approve",
        "/sign_out",
        "/unsubscribe/7",
        "/items/7/delete",
        "/items?action=delete",
        "/auth/callback?code=1",
        "/a?access_token=x",
        "/a?api_key=x",
        "/a?X-Amz-Signature=x",
        "/a?email=a%40example.org",
        "/r/9f86d081884c7d659a2feaa0c55ad015",
        "/r/eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIx",
        "/r?x=Zm9vYmFyYmF6cXV4MTIzNDU2",
    ],
)
def test_what_may_be_a_token_or_an_action_is_never_asked(path: str) -> None:
    assert not may_be_asked(path)
    assert choice([path], 10) == []


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/"),
        ("/links/7", "/links/{}"),
        ("/links/1b4e28ba-2fa1-11d2-883f-0016d3cca427/hits?to=9&from=2026-01-01", "/links/{}/hits?from&to"),
        ("/a/65f1c0ffee", "/a/{}"),
        ("/users/ann@example.org/x%40y", "/users/{}/{}"),
        ("/a/face/beefed", "/a/face/beefed"),
        ("/a?b=Ann%20Example", "/a?b"),
    ],
)
def test_a_route_has_no_word_of_a_user(path: str, route: str) -> None:
    assert route_of(path) == route


def released(root: Path, host: Host, replay: Callable[..., Replayed], release: str = "two", **request: Any) -> Any:
    deploy(root, host, "one")
    stage(root, release)
    work = transaction(root, host, release, **request)
    work.replay = replay
    return work.run()


def test_a_release_that_breaks_a_route_gets_no_request(tmp_path: Path) -> None:
    host = Host()
    asked: list[Any] = []

    def broken(*where: Any) -> Replayed:
        asked.append(where[:2])
        assert host.serving() == "one"
        return Replayed(4, ("GET /a answers 500 where release one answers well",), refused=True)

    host.served.clear()
    with pytest.raises(TransactionError, match="it breaks what release one answers its users: GET /a") as caught:
        released(tmp_path, host, broken)
    assert asked == [(("green", "two"), ("blue", "one"))]
    assert "two" not in host.served
    assert_whole(tmp_path, host, "one")
    assert caught.value.details["replay"] == Store(tmp_path).ledger()[-1]["replay"]


def test_what_was_asked_is_told_and_recorded(tmp_path: Path) -> None:
    host = Host()
    told = released(tmp_path, host, lambda *where: Replayed(4, note="GET /a has no item"))
    assert told["replay"] == {"asked": 4, "breaks": [], "note": "GET /a has no item"}
    assert Store(tmp_path).ledger()[-1]["replay"] == told["replay"]
    assert [phase["phase"] for phase in told["phases"]][:5] == ["start", "gate", "edge", "replay", "switch"]
    assert_whole(tmp_path, host, "two")


def test_nothing_is_asked_of_a_restart_or_where_nothing_serves(tmp_path: Path) -> None:
    def never(*where: Any) -> Replayed:
        raise AssertionError

    host = Host()
    stage(tmp_path, "one")
    first = transaction(tmp_path, host, "one")
    first.replay = never
    first.run()
    again = transaction(tmp_path, host, "one", restart=True)
    again.replay = never
    again.run()
    assert_whole(tmp_path, host, "one")
