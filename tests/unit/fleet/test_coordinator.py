"""What a run over a fleet does when all is well, and what it asks of hosts for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import verdict
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Identity, Unwatchable

from tests.unit.fleet.memory import MemoryContent, fleet, outcomes

FIRST = ["look", "hold", "stage", "run", "activate", "let_go"]
OTHERS = ["look", "hold", "stage", "activate", "let_go"]


@pytest.mark.parametrize(
    ("operation", "left_out", "told"),
    [
        ("deploy", ["web4"], "web4, which keeps what it serves: a deploy without --limit takes it there"),
        (
            "rollback",
            ["4", "5"],
            (
                "4, 5, which keep what they serve: a rollback without --limit, with -e fastapi_app_release=r, "
                "takes them there"
            ),
        ),
        ("restart", ["web4"], "web4, which was not started anew"),
        (
            "restart",
            [f"web{number}" for number in range(4, 14)],
            "web4, web5, web6, web7, web8, web9, web10, web11 and 2 more, which were not started anew",
        ),
    ],
)
def test_hosts_of_the_fleet_that_a_run_is_not_about_are_told(operation: str, left_out: list[str], told: str) -> None:
    assert verdict.not_in_it(left_out, operation, "r") == f"; not in it: {told}"


def test_a_run_of_a_part_of_the_fleet_says_so_in_its_plan_and_at_its_end() -> None:
    others = "not in it: web4, which keeps what it serves: a deploy without --limit takes it there"
    there = fleet()
    planned = there.run(check_mode=True, left_out=["web4"])
    assert planned.plan.splitlines()[-1] == f"Of the fleet {others}"
    report = there.run(left_out=["web4"])
    assert (report.word, report.message) == ("good", f"every host of this run serves release new; {others}")
    report = there.run(left_out=["web4"])
    assert report.message == f"every host of this run serves release new already; nothing was changed; {others}"


def test_a_deploy_serves_everywhere_and_is_told_as_it_was() -> None:
    there = fleet()
    report = there.run()
    assert (report.word, report.message) == ("good", "every host serves release new")
    assert (report.release, report.changed, report.wrong) == ("new", True, {})
    assert there.serving == ["new"] * 3
    assert [host.verbs for host in there.hosts] == [FIRST, OTHERS, OTHERS]
    assert [host.holder for host in there.hosts] == ["", "", ""]
    assert report.rows[0] == {
        "host": "web1",
        "batch": 1,
        "was": "old",
        "tried": "new",
        "now": "new",
        "outcome": "good",
        "cause": "",
        "diagnosis": "",
        "drift": [],
        "gap": 0.0,
        "breaks": [],
        "breaks_left_out": 0,
        "canary": None,
        "steps": report.rows[0]["steps"],
    }
    assert [step["phase"] for step in report.rows[0]["steps"]] == ["start", "gate", "switch", "drain"]
    assert report.rows[0]["steps"][1]["start"] == pytest.approx(there.told("started")[0].at + 1.0)
    assert [row["batch"] for row in report.rows] == [1, 2, 2]
    assert report.began < report.rows[0]["steps"][0]["start"] < report.ended


def test_the_content_is_identified_and_prepared_once() -> None:
    there = fleet()
    there.run()
    assert there.content.calls == [
        *["identify", "look web1", "look web2", "look web3", "prepare web1 web2 web3"],
        *["put web1", "put web2", "put web3", "bill"],
    ]


def test_a_request_has_what_the_host_is_to_check() -> None:
    there = fleet(1)
    there.run()
    host = there.hosts[0]
    look, activate = host.asked("look")[0], host.asked("activate")[0]
    assert all(arguments["run_id"] == "run-1" and arguments["place"]["app"] == "app" for _, arguments in host.calls)
    assert (look["purpose"], look["release"], look["host"]["architectures"]) == ("deploy", "new", ["amd64"])
    assert look["host"]["controller_time"] > 0
    assert (activate["release"], activate["expects"], activate["restart"]) == ("new", "old", False)
    assert activate["about"] == {
        "who": "ann",
        "from": "desk",
        "run": "run-1",
        "operation": "deploy",
        "revision": "r1",
        "migration": "0003",
    }
    assert host.asked("let_go")[0] == {"place": look["place"], "run_id": "run-1", "drain": 10.0}
    stage = host.asked("stage")[0]
    assert stage["files"][0]["dest"] == "/opt/slipway/app/releases/new/compose.yaml"
    assert (stage["contents"], stage["check"]) == ({"0": "image: app:new"}, ["check"])


def test_nothing_to_do_asks_each_host_once() -> None:
    there = fleet(serving="new")
    report = there.run()
    assert (report.word, report.changed) == ("nothing", False)
    assert report.message == "every host serves release new already; nothing was changed"
    assert [host.verbs for host in there.hosts] == [["look"]] * 3
    assert outcomes(report) == ["unchanged"] * 3


def test_a_settled_host_is_left_alone_and_counts_for_the_verdict() -> None:
    there = fleet()
    there.hosts[0].serving = "new"
    report = there.run()
    assert (report.word, outcomes(report)) == ("good", ["unchanged", "good", "good"])
    assert there.hosts[0].verbs == ["look", "let_go"]
    assert there.hosts[1].verbs == FIRST


def test_a_settled_host_that_breaks_meanwhile_is_no_good_end() -> None:
    there = fleet()
    there.hosts[0].serving = "new"
    there.hosts[1].hooks["activate"] = lambda: setattr(there.hosts[0], "serving", None)
    report = there.run()
    assert (report.word, outcomes(report)) == ("failed", ["failed", "good", "good"])
    assert report.rows[0]["cause"] == "serves nothing and not new"


def test_whose_edges_showed_the_maintenance_page_is_told() -> None:
    there = fleet()
    there.hosts[1].answers["look"] = {"page": {"declared": False}}
    assert there.run().covered == [there.hosts[1].name]


def test_a_first_release_expects_nothing() -> None:
    there = fleet(serving=None, good=[])
    assert there.run().word == "good"
    assert [host.asked("activate")[0]["expects"] for host in there.hosts] == ["", "", ""]


def test_where_nothing_answers_but_something_is_recorded_whatever_serves_is_replaced() -> None:
    there = fleet(1, serving=None)
    report = there.run()
    assert (report.word, report.rows[0]["was"]) == ("good", "old")
    assert there.hosts[0].asked("activate")[0]["expects"] is None


def test_what_serves_is_read_again_under_the_lease() -> None:
    there = fleet()

    def somebody_else_deploys() -> None:
        there.hosts[1].serving, there.hosts[1].good = "other", ["old", "other"]

    there.hosts[1].hooks["hold"] = somebody_else_deploys
    there.hosts[2].bad = {"new"}
    report = there.run()
    assert there.hosts[1].asked("activate")[0]["expects"] == "other"
    assert (report.word, there.serving) == ("reverted", ["old", "other", "old"])
    assert there.hosts[1].asked("settle")[0]["return_to"] == "other"


def test_hosts_of_a_batch_go_at_once_and_batches_after_each_other() -> None:
    there = fleet(4)
    there.run(batches=[1, "25%", "100%"])
    assert [event.about["hosts"] for event in there.told("batch")] == [["web1"], ["web2"], ["web3", "web4"]]
    began = {event.host: event.at for event in there.told("started")}
    ended = {event.host: event.at for event in there.told("ended")}
    assert began["web2"] >= ended["web1"]
    assert began["web4"] >= ended["web2"]
    assert began["web4"] == began["web3"] < ended["web3"]


def test_no_more_hosts_than_allowed_are_asked_at_once() -> None:
    there = fleet(9)
    most = 0

    def look(event: Any) -> None:
        nonlocal most
        most = max(most, sum(host.under_way > 0 for host in there.hosts))

    there.events = type("Told", (list,), {"append": lambda _, event: look(event)})()
    assert there.run(batches=["100%"], at_once=4).word == "good"
    assert 0 < most <= 4


def test_one_image_each_is_a_release_each() -> None:
    there = fleet(2)
    other = MemoryContent(Identity("app:b", "b"), known="b")
    there.other_contents = {"web2": other}
    report = there.run()
    assert (report.word, there.serving) == ("good", ["new", "b"])


def test_content_that_only_a_host_can_name() -> None:
    there = fleet(2)
    there.content.identity = Identity("registry/app:latest", "")
    report = there.run()
    assert (report.word, there.serving, report.release) == ("good", ["new", "new"], "new")
    assert there.hosts[0].asked("look")[0]["release"] == ""


def test_content_that_turns_out_to_be_what_serves_changes_no_host() -> None:
    there = fleet(2, serving="new")
    there.content.identity = Identity("registry/app:latest", "")
    report = there.run()
    assert (report.word, there.serving) == ("nothing", ["new", "new"])
    assert report.message == "every host serves release new already; nothing was switched", "an image came to the hosts"
    assert [host.verbs for host in there.hosts] == [["look", "hold", "let_go"]] * 2
    assert [host.holder for host in there.hosts] == ["", ""]


def test_a_bill_of_materials_is_put_beside_the_release(tmp_path: Path) -> None:
    there = fleet(2)
    there.content.path = tmp_path / "sbom.json"
    there.content.path.write_text('{"components": []}')
    assert there.run().word == "good"
    bill = there.hosts[1].asked("stage")[-1]
    assert bill["files"][0]["dest"] == "/opt/slipway/app/releases/new/sbom.cdx.json"
    assert bill["contents"] == {"0": '{"components": []}'}
    assert max(len(host.verbs) for host in there.hosts) + 2 <= 8 + 1  # with the two for the image; the first migrates


def test_what_a_transaction_warns_of_is_told() -> None:
    there = fleet(2)
    there.hosts[0].answers["activate"] = {"warnings": ["slot blue listens on tcp port 20010"]}
    there.hosts[0].answers["settle"] = {"warnings": ["release old is gone"]}
    there.hosts[1].bad.add("new")
    there.run()
    said = [(event.host, event.about["message"]) for event in there.told("warning")]
    assert said == [("web1", "slot blue listens on tcp port 20010"), ("web1", "release old is gone")]


def test_a_bill_that_cannot_be_made_is_a_warning() -> None:
    there = fleet(2)
    there.content.faults["bill"] = RuntimeError("syft ended with 1")
    assert there.run().word == "good"
    assert "there is no bill of materials" in there.told("warning")[0].about["message"]


def test_check_mode_looks_and_changes_nothing() -> None:
    there = fleet(3)
    there.hosts[0].serving = "new"
    report = there.run(check_mode=True, diff=True)
    assert (report.word, report.changed, report.wrong) == ("planned", False, {})
    assert [host.verbs for host in there.hosts] == [["look"], ["look", "stage"], ["look", "stage"]]
    assert [host.staged for host in there.hosts] == [set(), set(), set()]
    assert all(arguments["check_mode"] and not arguments["check"] for arguments in there.hosts[1].asked("stage"))
    assert there.content.calls == ["identify"]
    assert report.plan.splitlines() == [
        "Plan: release new on 2 of 3 hosts, in this order:",
        "  batch 1: web2 (old)",
        "  batch 2: web3 (old)",
        "Image: app:old -> app:new",
        "Migrations before the first host: after ",
        "Least free disk: 5000 MiB on web2",
    ]
    assert [entry["host"] for entry in report.diff] == ["web2", "web3"]


def test_a_plan_says_what_is_compared_before_a_switch_and_what_a_break_means() -> None:
    def plan(breaking: str, replay: str, path: str = "/openapi.json", **hosts: Any) -> str:
        there = fleet(3, **hosts)
        there.usual["activate"] = {"contract": {"path": path, "breaking": breaking}, "replay": replay}
        return there.run(check_mode=True).plan

    warned = "(fastapi_app_replay: warn)"
    assert plan("refuse", "warn").splitlines()[-3:-1] == [
        "API, compared before each switch: a break keeps the release from serving (fastapi_app_breaking_api: refuse)",
        f"Replay, before each switch: a route that is broken is named, and the release goes on {warned}",
    ]
    nothing = [
        plan("ignore", "ignore"),
        plan("refuse", "ignore", path=""),
        plan("refuse", "refuse", serving=None, good=[]),
    ]
    assert not [lines for lines in nothing if "before each switch" in lines]
    assert all(lines.startswith("Plan: release") for lines in nothing), nothing


def test_a_plan_names_what_a_release_breaks_that_ran_before() -> None:
    there = fleet(3)
    contract = {"path": "/openapi.json", "breaking": "refuse"}
    there.usual["activate"] = {"contract": contract}
    gone = ["GET /a is gone", "GET /b is gone"]
    for host in there.hosts[:2]:
        host.answers["stage"] = {"api": {"breaks": gone, "more": 3, "note": ""}}
    there.hosts[2].answers["stage"] = {"api": None}
    report = there.run(check_mode=True)
    lines = report.plan.splitlines()
    at = lines.index("API: new breaks it in 5 places, by what it said when it ran on web1, web2:")
    assert lines[at - 1].startswith("API, compared before each switch: ")
    assert lines[at + 1 : at + 4] == [*(f"  {sentence}" for sentence in gone), "  and 3 more"]
    assert report.plan.count("API: ") == 1
    asked = [host.asked("stage")[0] for host in there.hosts]
    assert [(one["contract"], one["was"]) for one in asked] == [(contract, "old")] * 3
    there.run()
    assert all("contract" not in host.asked("stage")[-1] for host in there.hosts)


def test_problems_in_check_mode_are_warnings() -> None:
    there = fleet(2)
    there.hosts[1].problems = ["Docker is not installed"]
    assert there.run(check_mode=True).word == "planned"
    (warning,) = there.told("warning")
    assert (warning.host, warning.about["message"]) == ("web2", "a release would stop here: Docker is not installed")


def test_problems_in_a_plan_that_is_to_be_followed_refuse_it() -> None:
    """A rotation looks by one, and lets new credentials in then."""
    there = fleet(2)
    there.hosts[1].problems = ["Docker is not installed"]
    report = there.run(check_mode=True, strict=True)
    assert (report.word, report.plan) == ("refused", "")
    assert "web2 cannot take a release: Docker is not installed" in report.message
    assert not there.told("warning")


@pytest.mark.parametrize("operation", ["deploy", "rollback", "restart"])
@pytest.mark.parametrize("check_mode", [False, True])
@pytest.mark.parametrize("serving", ["old", "new"])
def test_two_names_of_one_machine_are_refused_before_anything_is_changed(
    operation: str, check_mode: bool, serving: str
) -> None:
    there = fleet(serving=serving)
    there.hosts[0].machine = there.hosts[2].machine = "boot root name"
    report = there.run(operation, check_mode=check_mode)
    assert (report.word, report.changed) == ("refused", False)
    assert report.message == (
        "nothing was changed; web3 is the same machine as web1: compare their ansible_host and ansible_port in the "
        "inventory and mend the wrong one, or leave it out of this run with --limit 'all:!web3'"
    )
    assert [host.verbs for host in there.hosts] == [["look"]] * 3


def test_hosts_that_do_not_say_which_machine_they_are_are_taken_for_several() -> None:
    there = fleet()
    for host in there.hosts:
        host.answers["look"] = {"machine": ""}
    assert there.run().word == "good"


def test_nothing_to_plan() -> None:
    there = fleet(2, serving="new")
    report = there.run(check_mode=True)
    assert (report.word, report.changed) == ("nothing", False)
    assert [host.verbs for host in there.hosts] == [["look"]] * 2


def test_a_restart_starts_what_serves_anew() -> None:
    there = fleet(2)
    there.hosts[1].serving = "older"
    report = there.run("restart")
    assert (report.word, there.serving, report.changed) == ("good", ["old", "older"], True)
    assert all(host.asked("activate")[0]["restart"] for host in there.hosts)
    assert [host.verbs for host in there.hosts] == [["look", "hold", "activate", "let_go"]] * 2


def test_a_restart_of_what_was_never_released_is_refused() -> None:
    there = fleet(2)
    there.hosts[1].serving, there.hosts[1].good = None, []
    report = there.run("restart")
    assert report.word == "refused"
    assert "web2 cannot restart: nothing was released here yet; run slipway.fleet.deploy" in report.message
    assert [host.verbs for host in there.hosts] == [["look"]] * 2


def test_a_rollback_is_to_one_release_for_all() -> None:
    there = fleet(3, good=["a", "b", "old"])
    there.hosts[1].good = ["a", "old"]  # it missed b
    report = there.run("rollback")
    assert (report.word, there.serving, report.release) == ("good", ["a"] * 3, "a")


def test_a_rollback_asks_for_each_schema_once_and_under_the_lease() -> None:
    there = fleet(3, good=["a", "old"], schemas={"a": "0001", "old": "0002"})
    there.hosts[2].schemas = {"a": "0001", "old": "0003"}
    assert there.run("rollback").word == "good"
    assert [len(host.asked("run")) for host in there.hosts] == [1, 0, 1]
    assert there.hosts[0].asked("run")[0]["command"] == ["safe-for", "0001"]
    assert there.hosts[0].asked("run")[0]["release"] == "old"
    assert there.hosts[0].verbs[:3] == ["look", "hold", "run"]


def test_the_edge_is_watched_while_hosts_turn_over() -> None:
    there = fleet(1)
    seen: list[str] = []

    class Watch:
        async def look(self, serving: Mapping[str, str]) -> list[str]:
            seen.append(f"look {there.hosts[0].verbs} {list(serving)}")
            return ["there is no way to web2"]

        async def start(self) -> None:
            seen.append(f"start {there.serving[0]}")

        async def stop(self) -> None:
            seen.append(f"stop {there.serving[0]}")
            raise RuntimeError("the probe is gone")

    there.watch = Watch()
    assert there.run().word == "good"
    assert seen == ["look ['look'] ['web1']", "start old", "stop new"]
    assert [event.about["message"] for event in there.told("warning")] == [
        "there is no way to web2",
        "what was seen of the edge is lost: the probe is gone",
    ]


@pytest.mark.parametrize(
    ("error", "word", "message"),
    [
        (Unwatchable("set a URL"), "refused", "nothing was changed; set a URL"),
        (RuntimeError("no idea"), "good", "every host serves release new"),
    ],
)
def test_what_cannot_be_watched_is_said_before_anything_is_changed(error: Exception, word: str, message: str) -> None:
    there = fleet(2)

    class Watch:
        async def look(self, serving: Mapping[str, str]) -> list[str]:
            assert [host.verbs for host in there.hosts] == [["look"]] * 2
            raise error

        async def start(self) -> None: ...

        async def stop(self) -> None: ...

    there.watch = Watch()
    report = there.run()
    assert (report.word, report.message) == (word, message)
    assert there.serving == (["old"] * 2 if word == "refused" else ["new"] * 2)


def test_what_a_host_notes_when_it_is_let_go_is_told() -> None:
    there = fleet(1)
    there.hosts[0].answers["let_go"] = {"notes": ["the image of release a is still used"]}
    there.run()
    assert there.told("warning")[0].about["message"] == "the image of release a is still used"


def test_whoever_is_told_cannot_disturb_a_run() -> None:
    there = fleet(2)
    there.events = type("Broken", (list,), {"append": lambda *_: 1 / 0})()
    assert there.run().word == "good"


def test_leases_are_renewed_over_a_long_roll() -> None:
    there = fleet(3)
    report = there.run(batches=[1])
    beats = int((report.ended - report.began) // 15)
    assert beats >= 1
    assert [len(host.asked("renew")) for host in there.hosts] == [beats] * 3


def test_a_rotation_brings_no_other_image_than_the_one_that_serves() -> None:
    there = fleet(2)
    there.usual["activate"] = {"about": {"image": "app:new"}}
    report = there.run(same_content=True)
    assert report.word == "refused"
    assert report.message.startswith(
        "nothing was changed; web1 serves app:old, and this checkout and inventory make app:new;"
    )
    assert "-e slipway_same_content=false" in report.message
    assert [host.verbs for host in there.hosts] == [["look"], ["look"]]
    there.usual["activate"] = {"about": {"image": "app:old"}}
    assert there.run(same_content=True).word == "good"


def test_a_rotation_that_was_cut_goes_on_where_the_rest_serves_already() -> None:
    there = fleet(2, serving="new")
    there.hosts[1].serving = "old"
    there.usual["activate"] = {"about": {"image": "app:old"}}
    assert there.run(same_content=True).word == "good"
    assert there.serving == ["new", "new"]
