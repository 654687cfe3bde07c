"""What is told about a fleet, and how a run ends that only looks."""

from __future__ import annotations

from typing import Any

import pytest
from ansible import context
from ansible.errors import AnsibleFilterError
from ansible_collections.slipway.fleet.plugins.callback.exit_code import wanted
from ansible_collections.slipway.fleet.plugins.filter.fleet import command_words, whole_text
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import inventory_name
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import (
    history as told_history,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import (
    lock as told_lock,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import (
    logs as told_logs,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import (
    status as told_status,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.views.view import brief, silence, silent, table

GONE = {"outcome": "unreachable", "cause": "it cannot be reached: no route to host"}


def observed(release: str, *drift: str, **more: Any) -> dict[str, Any]:
    state = {"release": release, "slot": "blue", "since": "now"}
    return {"state": state, "health": "200", "drift": list(drift), "free_mib": 2048, "certificate_days": None, **more}


def test_a_cell_is_plain_text_on_one_line() -> None:
    assert table([("a", "b"), ("\x1b[31mred", None), ("two\nlines", 3)]).splitlines() == [
        "a          b",
        "red        -",
        "two lines  3",
    ]


TRACEBACK = "".join(
    f'  File "/usr/lib/python3/pool/base.py", line {line}, in connect\n    raise it\n' for line in range(90)
)
DRILL = "set 05f600d5 is not proven: GET /healthz answered 500"
REFUSED = 'sqlalchemy.exc.OperationalError: (psycopg.OperationalError) connection to "172.17.0.4" failed'


def test_a_log_in_a_cell_is_told_by_its_cause() -> None:
    """A drill that failed put its whole traceback there, and what else was wrong with the host was lost in it."""
    log = f"{DRILL}\n{TRACEBACK}{REFUSED}\n\tIs it running?\nsay backup_drill_releases: false"
    told = told_status.tell({"web1": observed("aaa", log, "slot green runs too")})
    _, first, second = told.text.splitlines()
    assert first.endswith(f"  {DRILL} ... {REFUSED} ... say backup_drill_releases: false")
    assert second.strip() == "slot green runs too"
    assert told.rows[0]["drift"] == [log, "slot green runs too"]
    assert max(map(len, table([["a"], [log * 9]]).splitlines())) <= 600


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("word " * 100, ("word " * 100).strip()),
        ("word " * 200, f"{'word ' * 119}wo..."),
        (f"first\n{'x' * 900}\nlast", "first ... last"),
        (f"{DRILL} {'x ' * 900}{REFUSED}", f"{DRILL} {'x ' * 70}... {REFUSED}"),
        ("", ""),
    ],
)
def test_what_is_longer_than_a_cell(value: str, said: str) -> None:
    assert brief(value) == said


@pytest.mark.parametrize(
    ("sources", "name"),
    [
        (["/x/inventories/fleet"], "fleet"),
        (["/x/inventories/fleet/hosts.yml"], "fleet"),
        (["/x/my-app/inventory"], "my-app"),
        (["/x/my-app/inventory/hosts.yml"], "my-app"),
        (["inventory"], "inventory"),
        (["hosts.yml"], "hosts"),
        (["/x/production.yml"], "production"),
        ([], "inventory"),
    ],
)
def test_reports_are_sorted_by_the_name_of_the_inventory(sources: list[str], name: str) -> None:
    assert inventory_name(sources) == name


def test_hosts_that_told_nothing_are_named_with_the_reason() -> None:
    quiet = silent({"web1": {"records": []}, "web2": GONE, "web3": None, "web4": {"failed": True, "msg": "no root"}})
    assert list(quiet) == ["web2", "web3", "web4"]
    assert "web2: it cannot be reached: no route to host" in silence(quiet)
    assert "web3: it failed earlier" in silence(quiet)
    assert silence({}) == ""


def test_the_status_shows_every_difference() -> None:
    told = told_status.tell(
        {
            "web1": observed("aaa", certificate_days=80),
            "web2": observed("aaa", "one", "two"),
            "web3": observed("bbb", freeze={"who": "ada", "reason": "the sale"}),
            "web4": GONE,
        }
    )
    assert told.text.splitlines() == [
        "host  release  slot  health  since  free MiB  certificate  lock                     drift",
        "web1  aaa      blue  ok      now    2048      80 days      -                        none",
        "web2  aaa      blue  ok      now    2048      -            -                        one",
        "                                                                                    two",
        "web3  bbb      blue  ok      now    2048      -            frozen by ada: the sale  the fleet runs aaa",
        f"web4  -        -     -       -      -         -            -                        {GONE['cause']}",
    ]
    assert told.code == 3
    assert told.message == "drift on web2, web3; no answer from web4"


def test_the_status_tells_of_a_run_that_is_at_work() -> None:
    """Its hosts get their release one after the other, and on one that died on the way the host works on."""
    at_work = {"by": "release bbb by ada, pid 7", "since": "10:00"}
    held = {"what": "a deploy", "who": "ada"}
    hosts = {"web1": observed("bbb"), "web3": observed("aaa")}
    assert told_status.tell({**hosts, "web2": observed("aaa", holder=held)}).code == 0
    told = told_status.tell({**hosts, "web2": observed("aaa", under_way=at_work)})
    assert (told.code, [row["drift"] for row in told.rows]) == (0, [[], [], []])
    assert told.text.splitlines()[4:] == ["", "under way on web2 since 10:00: release bbb by ada, pid 7"]
    assert told.rows[2]["under_way"] == at_work


def test_the_status_shows_a_process_that_was_killed_for_memory() -> None:
    slots = {"blue": {"out_of_memory": True}, "green": {"out_of_memory": False}}
    told = told_status.tell({"web1": {**observed("aaa"), "slots": slots}})
    assert "blue  ok, ran out of memory  now" in told.text
    assert told.code == 0


def test_the_status_says_of_an_app_that_is_behind_which_number_to_set() -> None:
    found = {"slot": "blue", "ms": 4700, "usual_ms": 100, "rate": 47, "number": 10}
    told = told_status.tell({"web1": observed("aaa", overload=found), "web2": observed("aaa", overload={})})
    assert told.text.splitlines()[-1] == (
        "overloaded on web1: half of the answers take 4.7 s or more, where the app alone takes 0.1 s, so users may "
        "have left before. It does 47 requests a second: fastapi_app_max_connections: 10 and slipway.fleet.provision "
        "would have it answer as many in time, and the edge refuse the others"
    )
    assert told.code == 0


def test_the_status_names_a_maintenance_page_that_is_on() -> None:
    """The app is well behind it, and nobody gets it."""
    page = {"declared": False, "since": "2026-11-27T20:22:55+00:00", "who": "ada"}
    declared = {"declared": True, "since": "", "who": ""}
    told = told_status.tell(
        {
            "web1": observed("aaa", page=page),
            "web2": observed("aaa", page=page),
            "web3": observed("aaa", page=declared),
            "web4": observed("aaa", page={}),
        }
    )
    by_ada, by_nobody = told.text.splitlines()[-2:]
    assert by_ada == (
        "maintenance page on web1, web2 since 2026-11-27T20:22:55+00:00 by ada: users get that and not the app; "
        "slipway.fleet.maintenance -e slipway_maintenance=off takes it away"
    )
    assert by_nobody.startswith("maintenance page on web3: users get that and not the app; take the app out of")
    assert (told.code, told.rows[0]["page"], told.rows[3]["page"]) == (0, page, None)


def test_the_status_says_how_large_files_may_be_that_users_send() -> None:
    """One that does not fit is answered 400 by the app's framework, and no log says why."""
    room = {"takes": ["POST /files", "PUT /files/{id}"], "tmp_mib": 64}
    told = told_status.tell({"web1": observed("aaa", files=room), "web2": observed("aaa", files=room)})
    (said,) = (line for line in told.text.splitlines() if line.startswith("files on "))
    assert said.startswith(
        "files on web1, web2: POST /files and 1 more take files, which lie in /tmp while they come: 64"
    )
    assert "answered 400. Larger ones: fastapi_app_tmp_mib, or a volume's directory as TMPDIR" in said
    assert (told.code, told.rows[0]["files"]) == (0, room)


def test_the_status_has_a_table_of_the_names_with_their_certificates() -> None:
    name = {
        "name": "a.example",
        "days": 61,
        "issuer": "R11",
        "renewed": "2026-11-01T10:00:00Z",
        "tried": "",
        "error": "",
    }
    none = {**name, "name": "b.example", "days": None, "issuer": "", "renewed": "", "error": "it leads to the moon"}
    told = told_status.tell({"web1": observed("aaa", certificates=[name, none]), "web2": observed("aaa")})
    assert told.text.splitlines()[3:] == [
        "",
        "host  name       certificate  issuer  since                 hsts  trouble",
        "web1  a.example  61 days      R11     2026-11-01T10:00:00Z  -     none",
        "web1  b.example  -            -       -                     -     it leads to the moon",
    ]
    assert told.rows[0]["certificates"] == [name, none]


def test_the_status_counts_what_runs_beside_a_slot() -> None:
    worker = {"name": "worker", "running": 2, "wanted": 2, "restarts": 0, "ending": 1}
    beat = {"name": "beat", "running": 0, "wanted": 1, "restarts": 3, "ending": 0}
    told = told_status.tell({"web1": observed("aaa", "one", "two", processes=[worker, beat]), "web2": observed("aaa")})
    heads, *lines = told.text.splitlines()
    at, drift = heads.index("processes"), heads.index("drift")
    assert [(line[at:drift].strip(), line[drift:]) for line in lines] == [
        ("worker 2 of 2 (1 ending), beat 0 of 1 (3 restarts)", "one"),
        ("", "two"),
        ("-", "none"),
    ]
    assert told.rows[0]["processes"] == [worker, beat]


def test_the_status_tells_when_each_job_runs_and_how_it_went() -> None:
    job = {"schedule": "daily", "next": "Fri 2026-11-27 00:00:00 UTC", "running": ""}
    last = {"release": "aaa", "began": "03:00", "ended": "03:01", "seconds": 60.5}
    bad = {"rc": 4, "cause": "exit code 4", "log": "no room"}
    jobs = [
        {"name": "good", **job, **last, "rc": 0, "cause": "", "log": "counted 7\ncounted all"},
        {"name": "bad", **job, **last, "rc": 3, "cause": "exit code 3", "log": "no ledger"},
        {"name": "new", **job, "next": ""},
        {"name": "busy", **job, "running": "since 04:00", "release": "aaa", "began": "04:00"},
        {"name": "next", **job, **last, "running": "since 04:00"},
        {
            "name": "always",
            **job,
            "running": "since 04:00",
            "release": "b",
            "began": "04:00",
            "before": {**last, **bad},
        },
        {"name": "cut", **job, "release": "aaa", "began": "05:00", "cause": "it was cut before its end"},
    ]
    told = told_status.tell({"web1": observed("aaa", jobs=jobs)})
    due = "on web1, daily, next Fri 2026-11-27 00:00:00 UTC:"
    at = "at 03:01 after 60.5 s, in release aaa"
    assert told.text.splitlines()[5:] == [
        f"job good {due} ended with exit code 0 {at}",
        "    counted 7",
        "    counted all",
        f"job bad {due} failed with exit code 3 (exit code 3) {at}",
        "    no ledger",
        "job new on web1, daily, next not known: has not run yet",
        f"job busy {due} runs in release aaa since 04:00",
        f"job next {due} waits since 04:00; the run before ended {at}",
        f"job always {due} runs in release b since 04:00; the run before failed with exit code 4 (exit code 4) {at}",
        "    no room",
        f"job cut {due} failed (it was cut before its end) after 05:00, in release aaa",
    ]
    assert told.code == 3
    assert told.rows[0]["jobs"] == jobs
    assert told.rows[0]["drift"] == [
        "the job bad failed at 03:01: exit code 3",
        "the job always failed at 03:01: exit code 4",
        "the job cut failed at 05:00: it was cut before its end",
    ]


def test_the_status_tells_of_each_volume_and_who_uses_it_still() -> None:
    place = {"path": "/var/x", "bytes": 3 << 20}
    volumes = [
        {"name": "uploads", **place, "at": "/data", "releases": ["aaa"]},
        {"name": "old", **place, "at": "", "releases": ["bbb"]},
        {"name": "older", "path": "/var/y", "bytes": None, "at": "", "releases": []},
    ]
    told = told_status.tell({"web1": observed("aaa", volumes=volumes)})
    assert told.text.splitlines()[3:] == [
        "volume uploads on web1, 3.0 MiB in /var/x: the app has it as /data",
        "volume old on web1, 3.0 MiB in /var/x: what serves does not use it; to go back to bbb it is needed",
        (
            "volume older on web1, size unknown in /var/y: no release uses it any more; nothing deletes it "
            "(slipway.fleet.remove_volume does, when told its name)"
        ),
    ]
    assert (told.code, told.rows[0]["volumes"]) == (0, volumes)


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ({"web1": observed("aaa"), "web2": observed("aaa")}, 0),
        ({"web1": observed("aaa", freeze={"who": "ada", "reason": "the sale"})}, 0),
        ({"web1": observed("aaa", "one"), "web2": observed("aaa")}, 3),
        ({"web1": observed("aaa"), "web2": observed("bbb")}, 3),
        ({"web1": observed("aaa"), "web2": GONE}, 4),
        ({"web1": observed("aaa", "one"), "web2": GONE}, 3),
        ({"web1": None}, 4),
    ],
)
def test_drift_and_silence_end_the_run(results: dict[str, Any], code: int) -> None:
    assert told_status.tell(results).code == code


@pytest.mark.parametrize(
    ("asked", "others", "code"), [([], 0, 0), ([3], 0, 3), ([3, 4], 0, 4), ([3], 1, 0), ([], 2, 0)]
)
def test_another_failure_counts_more_than_an_exit_code_of_ours(asked: list[int], others: int, code: int) -> None:
    assert wanted(asked, others) == code


def released(release: str, run: str, start: str, **more: Any) -> dict[str, Any]:
    about = {"who": "ada", "from": "laptop", "image": "slipway/app:1", "config": "c" * 64, "migration": "0002"}
    times = {"start": f"2026-01-02T10:00:{start}+00:00", "end": f"2026-01-02T10:01:{start}+00:00"}
    return {**about, **times, "operation": "deploy", "release": release, "result": "good", "run": run, **more}


def test_what_a_run_did_alike_to_several_hosts_is_one_line() -> None:
    by = {"who": "ada", "from": "laptop", "run": "2"}
    frozen = {**by, "event": "frozen: the sale", "start": "2026-01-02T11:00:00+00:00"}
    told = told_history.tell(
        {
            "web1": {"records": [released("aaa", "1", "00"), frozen]},
            "web2": {"records": [released("aaa", "1", "20"), frozen]},
            "web3": {"records": [released("aaa", "1", "40", result="failed", cause="it ended"), frozen]},
        }
    )
    when, what = "2026-01-02", "slipway/app:1  cccccccc  0002       "
    assert told.text.splitlines() == [
        (
            "when                 operation  release  result  hosts      seconds  who  from    "
            "image          config    migration  cause"
        ),
        f"{when} 10:00:00  deploy     aaa      good    web1,web2  80       ada  laptop  {what}-",
        f"{when} 10:00:40  deploy     aaa      failed  web3       60       ada  laptop  {what}it ended",
        (
            f"{when} 11:00:00  lock       -        -       all 3      -        ada  laptop  "
            "-              -         -          frozen: the sale"
        ),
    ]
    assert [row["hosts"] for row in told.rows] == [["web1", "web2"], ["web3"], ["web1", "web2", "web3"]]
    assert told.code == 0


def test_the_set_before_a_migration_has_a_column_where_there_was_one() -> None:
    named = released("bbb", "2", "30", backup="4096af89 of db1")
    head, *lines = told_history.tell({"web1": {"records": [released("aaa", "1", "00"), named]}}).text.splitlines()
    assert head.split()[-2:] == ["backup", "cause"]
    assert [line.split()[-4:] for line in lines] == [["cccccccc", "0002", "-", "-"], ["4096af89", "of", "db1", "-"]]


def test_a_record_without_its_run_is_merged_with_nothing_but_its_own_moment() -> None:
    first, second = released("aaa", "", "00"), released("aaa", "", "20")
    told = told_history.tell({"web1": {"records": [first]}, "web2": {"records": [second]}, "web3": GONE})
    assert [row["hosts"] for row in told.rows] == [["web1"], ["web2"]]
    assert (told.code, "web3" in told.message) == (4, True)


def test_a_release_that_broke_the_api_is_seen_in_the_history() -> None:
    api = {"breaks": ["GET /a is gone", "GET /b is gone"], "more": 3, "note": ""}
    told = told_history.tell({"web1": {"records": [released("aaa", "1", "00", api=api)]}})
    assert told.rows[0]["breaks"] == api["breaks"]
    assert told.rows[0]["cause"] == "breaks the API: GET /a is gone; and 4 more"
    assert "breaks the API: GET /a is gone; and 4 more" in told.text


def test_the_history_has_what_the_canary_of_each_host_said() -> None:
    good, unknown = {"word": "good", "sentence": "0.1 %"}, {"word": "unknown", "sentence": "too few"}
    told = told_history.tell(
        {
            "web1": {"records": [released("aaa", "1", "00", canary=good)]},
            "web2": {"records": [released("aaa", "1", "10", canary=unknown)]},
            "web3": {"records": [released("aaa", "1", "20")]},
        }
    )
    assert [row["canary"] for row in told.rows] == [{"web1": good, "web2": unknown}]


def test_a_history_without_releases() -> None:
    assert told_history.tell({"web1": {"records": []}}).text == "Nothing is recorded yet."


def test_the_lock_of_every_host() -> None:
    by = {"who": "ada", "from": "laptop", "since": "ten"}
    told = told_lock.tell(
        {
            "web1": {"freeze": {**by, "reason": "the sale"}, "holder": {}},
            "web2": {"freeze": {}, "holder": {**by, "what": "a deploy", "age": 2.4}},
            "web3": {"freeze": {}, "holder": {}},
            "web4": GONE,
        }
    )
    assert told.text.splitlines() == [
        "host  lock     who  from    since  why",
        "web1  frozen   ada  laptop  ten    the sale",
        "web2  held     ada  laptop  ten    a deploy (free in 118 s unless it is seen again)",
        "web3  free     -    -       -      -",
        f"web4  unknown  -    -       -      {GONE['cause']}",
    ]
    assert told.code == 4


def test_every_problem_of_every_host() -> None:
    told = told_lock.tell_problems(
        {
            "web1": None,
            "web2": {"msg": ["one", "two"]},
            "web3": {"msg": ["nothing was changed; web3 cannot be reached"]},
        }
    )
    assert told.text.splitlines() == [
        "host  problem",
        "web1  none",
        "web2  one",
        "      two",
        "web3  cannot be reached",
    ]
    assert (told.code, told.message) == (2, "a deploy would stop before any change, because of web2, web3")
    assert told_lock.tell_problems({"web1": None}).code == 0


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ('{"time": "1970-01-01T00:00:05.250Z", "message": "x"}', 5.25),
        ('{"timestamp": "1970-01-01T01:00:05+01:00"}', 5.0),
        ('{"ts": 5}', 5.0),
        ('{"ts": 1700000000000}', 1.7e9),
        ("[1970-01-01 00:00:05 +0000] [7] [INFO] Booting", 5.0),
        ("1970-01-01 00:00:05,500 INFO x", 5.5),
        ("1970-13-01 00:00:05 no month", None),
        ("Traceback (most recent call last):", None),
        ('{"message": "no time"}', None),
        ("{not json", None),
        ("", None),
    ],
)
def test_the_time_of_a_line(line: str, seconds: float | None) -> None:
    assert told_logs.moment(line) == (None if seconds is None else pytest.approx(seconds))


def test_logs_are_in_the_order_of_time_and_keep_what_belongs_together() -> None:
    first = "2026-01-01 10:00:00 a\n2026-01-01 10:00:02 b\n  File x\n2026-01-01 10:00:01 late"
    told = told_logs.tell({"web1": {"log": first}, "web10": {"log": "2026-01-01 10:00:01 c\n"}, "web2": {"log": ""}})
    assert told.text.splitlines() == [
        "web1  | 2026-01-01 10:00:00 a",
        "web10 | 2026-01-01 10:00:01 c",
        "web1  | 2026-01-01 10:00:02 b",
        "web1  |   File x",
        "web1  | 2026-01-01 10:00:01 late",
        "web2  | (it has printed nothing)",
    ]
    assert told_logs.tell({"web1": GONE}).code == 4


def test_a_process_is_told_apart_from_the_slot_beside_it() -> None:
    beside = [{"name": "beat", "log": "2026-01-01 10:00:00 tick\n"}, {"name": "worker 2", "log": ""}]
    told = told_logs.tell({"web1": {"log": "2026-01-01 10:00:01 GET\n", "processes": beside}, "web2": GONE})
    assert told.text.splitlines() == [
        "web1 beat     | 2026-01-01 10:00:00 tick",
        "web1          | 2026-01-01 10:00:01 GET",
        "web1 worker 2 | (it has printed nothing)",
    ]


def test_the_output_of_a_command_is_shown_once() -> None:
    ran = {"rc": 0, "release": "aaa", "stdout": "one\n", "stderr": "two\n"}
    assert told_logs.tell_output({"web1": ran, "web2": ran}).text == "--- web1, release aaa ---\none\ntwo"
    assert told_logs.tell_output({"web1": {"skipped": True}}).text == "Nothing was run."


def test_a_command_is_split_as_a_shell_does() -> None:
    assert command_words("python -c 'print(1); x'  $HOME") == ["python", "-c", "print(1); x", "$HOME"]
    with pytest.raises(AnsibleFilterError, match=r"slipway_command .*close its quotes"):
        command_words("echo 'x", "slipway_command")


@pytest.mark.parametrize(
    ("said", "cut", "whole"),
    [
        (["x=python -c 'print(1)' --lines=5"], "python", "python -c 'print(1)' --lines=5"),
        (["x='two words' y=1"], "two words", "two words"),
        (["x=first word", "x=second word"], "second", "second word"),
        (['{"x": "two words"}'], "two words", "two words"),
        (["@file.yml", "xy=1"], "two words", "two words"),
        ([], "word", "word"),
    ],
)
def test_a_text_on_the_command_line_is_whole(
    monkeypatch: pytest.MonkeyPatch, said: list[str], cut: str, whole: str
) -> None:
    monkeypatch.setattr(context, "CLIARGS", {"extra_vars": said})
    assert whole_text(cut, "x") == whole


def test_an_operation_has_what_it_was_done_to_and_how_it_ended() -> None:
    by = {"who": "ada", "from": "ci", "run": "3", "start": "2026-01-02T10:00:00+00:00"}
    ended = {**by, "end": "2026-01-02T10:00:07+00:00"}
    run = {**ended, "operation": "run", "what": "migrate", "result": "failed", "cause": "exit code 3", "rc": 3}
    run |= {"serving": "aaa", "start": "2026-01-02T10:00:05+00:00"}
    provision = {"operation": "provision", "what": ""}
    done, begun = {**ended, **provision, "result": "done"}, {**by, **provision, "result": "begun"}
    told = told_history.tell(
        {
            "web1": {"records": [released("aaa", "1", "00"), done]},
            "web2": {"records": [released("aaa", "1", "00"), run, begun]},
            "db1": {"records": [done]},
        }
    )
    shown = [line[21:].split()[:4] for line in told.text.splitlines()[1:]]
    assert shown == [
        ["deploy", "aaa", "good", "all"],
        ["provision", "-", "done", "web1,db1"],
        ["provision", "-", "not", "ended"],
        ["run", "aaa", "failed", "web2"],
    ]
    assert told.text.splitlines()[4].endswith("  migrate: exit code 3")
    assert told.rows[3]["rc"] == 3


def test_the_status_ends_with_what_was_done_last() -> None:
    by = {"who": "ada", "from": "ci", "what": "web2"}
    first = {**by, "operation": "drain", "result": "done", "start": "2026-01-02T10:00:00+00:00"}
    last = {**by, "operation": "run", "result": "begun", "start": "2026-01-02T11:00:00+00:00", "what": "migrate"}
    told = told_status.tell({"web1": observed("aaa", last=last), "web2": observed("aaa", last=first)})
    assert told.text.splitlines()[3:] == [
        "",
        "last: 2026-01-02T11:00:00+00:00 run on web1 by ada from ci; not ended; migrate",
    ]
    assert (told.code, told.rows[0]["last"]) == (0, last)
