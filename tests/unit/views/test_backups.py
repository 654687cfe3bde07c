"""What operators are told of the backups of a fleet, and of a restore."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.report import amounts
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import backups

KNOWN: dict[str, Any] = {
    "set_up": True,
    "told": {
        "newest": {"set": "4096af89", "bytes": 3 << 20},
        "proven": {"set": "11aa22bb", "seconds": 75.2},
        "ages": {"newest": 7300.0, "proven": 200000.0},
        "next": "Fri 2026-11-27 02:30:10 UTC",
        "problems": [],
    },
}
PLAN: dict[str, Any] = {
    "set": "4096af89",
    "time": "2026-11-26T02:30:00Z",
    "databases": ["links"],
    "directories": ["/srv/uploads"],
    "rows": 12,
    "bytes": 2048,
    "seconds": 75.0,
    "proven": False,
    "unfit": "",
    "names": ["links"],
    "absent": [],
    "impossible": "",
}


def test_a_host_is_a_line() -> None:
    told = backups.tell({"db1": KNOWN, "web1": {"set_up": False, "told": {}}})
    assert "web1" not in told.text
    line = told.text.splitlines()[1]
    for word in (
        "4096af89",
        "2 h 1 min",
        "3.0 MiB",
        "11aa22bb",
        "2 d 7 h",
        "1 min 15 s",
        "2026-11-27 02:30:10",
        "none",
    ):
        assert word in line
    assert told.code == 0
    assert told.rows[1]["set_up"] is False


def proven(**more: Any) -> str:
    known = {**KNOWN["told"], "proven": {"set": "11aa22bb", "seconds": 75.2, **more}}
    return backups.tell({"db1": {"set_up": True, "told": known}}).text


def test_with_which_release_a_set_was_proven() -> None:
    shop = {"app": "shop", "release": "3f1c09d2a7be", "unproven": ""}
    other = {"app": "other", "release": "", "unproven": "it serves no release"}
    assert "1 min 15 s   3f1c09d2a7be" in proven(releases=[shop], unproven="").splitlines()[1]
    lines = proven(releases=[shop, other], unproven="").splitlines()
    assert lines[2:] == ["db1: no release of other was started against set 11aa22bb: it serves no release"]
    lines = proven(releases=[], unproven="no app runs on this host").splitlines()
    assert lines[2:] == ["db1: no release was started against set 11aa22bb: no app runs on this host"]
    assert "1 min 15 s   none" in lines[1]
    assert len(proven().splitlines()) == 2, "a proof of an earlier version says nothing of it"


def test_a_database_elsewhere_is_told_as_in_no_set() -> None:
    told = backups.tell({"db1": {"set_up": True, "told": {**KNOWN["told"], "database": "elsewhere"}}})
    assert "db1: its sets have no database, since that is elsewhere (postgres_provider: none)" in told.text
    assert told.rows[0]["database"] == "elsewhere"
    dumped = {**KNOWN["told"], "database": "elsewhere", "elsewhere": ["links"]}
    said = backups.tell({"db1": {"set_up": True, "told": dumped}}).text
    assert "db1: its sets have links, which is elsewhere and has no points in time" in said
    assert "no database" not in backups.tell({"web1": {"set_up": True, "told": {"database": "none"}}}).text


def test_a_repository_that_keeps_everything_is_told() -> None:
    known = {**KNOWN["told"], "append_only": True, "repository": "rest:https://backups.example.com/"}
    said = backups.tell({"db1": {"set_up": True, "told": known}}).text
    assert "db1: nothing is removed from rest:https://backups.example.com/ (backup_append_only)" in said
    assert "backup_wal_every" not in said
    points: dict[str, Any] = {"reach": [], "gaps": [], "behind": None}
    said = backups.tell({"db1": {"set_up": True, "told": known | {"points": points}}}).text
    assert "(backup_append_only); each copy of the log adds snapshots to it, so raise backup_wal_every" in said
    assert "removed" not in backups.tell({"db1": KNOWN}).text


def test_where_the_sets_are_that_a_lost_fleet_needs() -> None:
    known = {"repository": "sftp:b@h:/s", "newest": {"time": "2026-11-27T02:31:07Z"}}
    own = {"repository": "/srv/repository", "own_disk": True}
    told = backups.tell_outside(
        {
            "db1": {"told": known},
            "db2": {"told": own},
            "db3": {"skipped": True},
            "db4": {"failed": True, "msg": "no sudo"},
            "web1": {"skipped": True},
        },
        ["inventory /i: in Git, and pushed"],
    )
    assert told.text.splitlines()[1:] == [
        "db1: its sets are in sftp:b@h:/s, the newest of 2026-11-27T02:31:07Z",
        "db2: its sets are in /srv/repository, on the disk that they are to outlive; name another place",
        "db3, web1: nothing is backed up here (backup_repository)",
        "db4: no sudo",
        "inventory /i: in Git, and pushed",
    ]
    assert told.code == 0


def test_a_fleet_without_backups_is_told_where_to_read() -> None:
    assert "docs/backup.md" in backups.tell({"web1": {"set_up": False}}).text


@pytest.mark.parametrize(
    ("result", "code", "said"),
    [
        (KNOWN, 0, ""),
        ({"set_up": True, "told": {"problems": ["too old", "not proven"]}}, 3, "backups of h: too old, not proven"),
        ({"set_up": False, "told": {}}, 0, ""),
        ({"failed": True, "msg": "no sudo"}, 0, ""),
    ],
)
def test_a_problem_of_a_host_that_is_backed_up_is_drift(result: dict[str, Any], code: int, said: str) -> None:
    told = backups.tell_problems({"h": result})
    assert (told.code, told.message) == (code, said)


def test_a_host_that_could_not_look_is_a_line() -> None:
    assert "no sudo" in backups.tell({"h": {"failed": True, "msg": "no sudo"}}).text


def test_a_plan() -> None:
    assert backups.plan(PLAN, safety=True) == [
        "set 4096af89 of 2026-11-26T02:30:00Z, not proven by a drill",
        "in place of what is there: database links, directory /srv/uploads (12 rows, 2.0 KiB)",
        "takes about 1 min 15 s, as the last drill took, and a set of what is there is made before",
    ]
    assert "nobody knows how long" in backups.plan(PLAN | {"seconds": None}, safety=True)[2]
    assert backups.plan(PLAN, safety=False)[2].endswith("and no set of what is there is made before")
    part = backups.plan(PLAN | {"whole": False}, safety=True)[2]
    assert part.startswith("takes nobody knows how long; the last drill took 1 min 15 s for all of a set, and a set")
    other = backups.plan(PLAN | {"of": "db-old"}, safety=True)[0]
    assert other == "set 4096af89 of db-old of 2026-11-26T02:30:00Z, not proven by a drill"
    lost = backups.plan(PLAN | {"absent": ["/srv/uploads"]}, safety=True)[2]
    assert lost.endswith("is made before, without /srv/uploads (not there)")


def test_a_plan_names_what_is_another_app_s() -> None:
    own, others = "/var/lib/slipway/links/volumes/media", "/var/lib/slipway/parcel/volumes/media"
    told = PLAN | {"databases": ["links", "parcel"], "directories": ["/srv/uploads", own, others]}
    found = backups.plan(told, True, "links", ["links"])
    assert len(found) == 4
    assert found[3].startswith(f"not of links: database parcel, directory {others}; who has that serves on meanwhile")
    assert len(backups.plan(told, True, "links", ["links", "parcel"])) == 4, "the directory"
    assert len(backups.plan(PLAN, True, "links", ["links"])) == 3
    assert len(backups.plan(told, True)) == 3, "nobody said what is whose"


@pytest.mark.parametrize(
    ("changed", "typed", "any_schema", "said"),
    [
        ({}, "links", False, ""),
        ({}, "", False, "slipway_confirm is empty"),
        ({}, "link", False, "type what is replaced: -e slipway_confirm=links"),
        ({"unfit": "the schema differs"}, "links", False, "the schema differs"),
        ({"unfit": "the schema differs"}, "links", True, ""),
        ({"impossible": "something is mounted"}, "links", True, "Nothing was done: something is mounted"),
        ({"databases": [], "directories": []}, "links", False, "has nothing that could be restored"),
    ],
)
def test_what_is_refused(changed: dict[str, Any], typed: str, any_schema: bool, said: str) -> None:
    found = backups.refused(PLAN | changed, typed, any_schema)
    assert said in found
    assert bool(found) == bool(said)


def test_what_was_restored() -> None:
    done = [{"name": "database:links", "kept": "slipway_before_x"}, {"name": "directory:/srv/uploads", "kept": None}]
    told = {
        "set": "a",
        "time": "t",
        "seconds": 5.0,
        "restored": done,
        "safety": "b",
        "restart": True,
        "absent": ["/srv/a"],
    }
    said = backups.restored(told)
    assert said[0] == "restored set a of t in 5 s"
    assert said[1] == "database:links; what was there is kept as slipway_before_x"
    assert said[2] == "directory:/srv/uploads"
    assert said[3] == "the set made before it: b, without /srv/a (was not there)"
    assert backups.restored(told | {"safety": None, "absent": []})[3] == "the set made before it: none"
    assert "slipway.fleet.restart" in said[-1]
    assert backups.restored({}) == ["nothing was restored"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, None), (0.4, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (90061, "1 d 1 h"), (3725, "1 h 2 min")],
)
def test_times(seconds: float | None, words: str | None) -> None:
    assert amounts.span(seconds) == words


@pytest.mark.parametrize(("count", "words"), [(None, None), (5, "5 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")])
def test_sizes(count: int | None, words: str | None) -> None:
    assert amounts.size(count) == words


SINCE, LOST, AGAIN, UNTIL = (f"2026-11-26T1{hour}:00:00Z" for hour in (0, 1, 2, 3))
POINT = {
    **PLAN,
    "set": "",
    "point": UNTIL,
    "base": AGAIN,
    "segments": 40,
    "directories": [],
    "rows": None,
    "seconds": None,
}


def test_which_points_in_time_can_be_reached_and_which_cannot() -> None:
    points = {"reach": [[SINCE, LOST], [AGAIN, UNTIL]], "gaps": [[LOST, AGAIN]], "behind": 12.0}
    told = backups.tell({"db1": {"set_up": True, "told": {**KNOWN["told"], "points": points}}})
    assert told.text.splitlines()[-2:] == [
        f"db1: any point in time from {SINCE} to {LOST} and from {AGAIN} to {UNTIL}, 12 s behind",
        f"db1: no point in time from {LOST} to {AGAIN}",
    ]
    assert told.rows[0]["points"] == points
    proven = {**points, "proven": {"time": UNTIL, "rows": 7, "seconds": 31.0}}
    told = backups.tell({"db1": {"set_up": True, "told": {**KNOWN["told"], "points": proven}}})
    assert told.text.splitlines()[-2].endswith(f"12 s behind; a drill recovered {UNTIL} in 31 s")


def test_the_plan_of_a_point_in_time() -> None:
    assert backups.plan(POINT, safety=True) == [
        f"the point in time {UNTIL}: the base of {AGAIN}, and 40 segments of the write-ahead log after it",
        "in place of what is there: database links (2.0 KiB); all else stays as it is",
        "takes as long as it takes to replay it and restore what it has, and a set of what is there is made before",
        "whether its schema fits the release that serves is seen then; where it does not, nothing is replaced",
    ]
    assert backups.refused(POINT, "links", any_schema=False) == ""
    assert f"to have the point in time {UNTIL} in place" in backups.refused(POINT, "other", any_schema=False)


def test_what_a_restore_to_a_point_in_time_did() -> None:
    done = {"set": "", "point": UNTIL, "time": UNTIL, "seconds": 3.0, "restored": [], "absent": [], "safety": "ab"}
    assert backups.restored({**done, "restart": False})[0] == f"restored the point in time {UNTIL} in 3 s"


def test_a_release_that_another_host_proved_is_told_of_that_of_the_database() -> None:
    of = {"host": "db1", "set": "5eed5eed", "time": "2026-01-01T00:00:00Z", "rows": 12}
    passed = {"app": "shop", "release": "3f1c09d2a7be", "unproven": ""}
    on_web = {"set": "11111111", "releases": [passed], "unproven": "", "of": of}
    on_data = {"set": "5eed5eed", "releases": [], "unproven": "no app runs on this host"}
    results = {
        host: {"set_up": True, "told": {"proven": proven}} for host, proven in (("web1", on_web), ("db1", on_data))
    }
    text = backups.tell(results).text
    said = "db1: release 3f1c09d2a7be passed its gate on set 5eed5eed (12 rows) in the drill of web1"
    assert said in text.splitlines()
    assert "no app runs" not in text
    on_web["releases"] = [{**passed, "release": "", "unproven": "the image is not on this host"}]
    text = backups.tell(results).text
    assert "db1: no release was started against set 5eed5eed: no app runs on this host" in text
    assert said not in text


def test_the_images_of_another_host_s_servers() -> None:
    images = {"postgres_image": "postgres:17.6", "postgres_image_source": "ship", "redis_image": "redis:8"}
    named = [{"name": "postgres:17.6", "source": "ship"}, {"name": "redis:8", "source": "pull"}]
    assert backups.stand_in_images(images) == named
    assert backups.stand_in_images({**images, "postgres_provider": "native"}) == named[1:]
    assert backups.stand_in_images({}) == [], "what nobody names is that of the set"
