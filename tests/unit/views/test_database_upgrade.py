"""What an operator reads before and after an upgrade of a database."""

from __future__ import annotations

from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.views.database_upgrade import done, plan, refused

GIB = 1 << 30
UPGRADE: dict[str, Any] = {
    "verb": "upgrade",
    "cut": False,
    "needed": True,
    "from": 15,
    "to": 17,
    "version": "17.6",
    "databases": {"links": GIB, "postgres": 7 << 20},
    "names": ["maps", "links"],
    "sorted": ["C.UTF-8"],
    "bytes": GIB,
    "disk": {"path": "/var/lib/docker", "needed": 2 * GIB, "free": 9 * GIB},
    "left": ["slipway_before_x"],
    "slots": [],
    "apps": ["links", "maps"],
    "took": {"what": "drill", "seconds": 75.0},
    "aside": "",
    "problems": [],
}
BACK = {**UPGRADE, "verb": "back", "from": 17, "to": 15, "since": "2026-11-26T20:10:41Z", "kept": "volume-17"}


def test_the_plan_says_what_it_takes() -> None:
    assert plan(UPGRADE, set_before=True) == [
        "PostgreSQL 15 to 17, 17.6: links (1.0 GiB), postgres (7.0 MiB)",
        "sorted by C.UTF-8; 17.6 has all extensions and locales that they need",
        "the new data needs 2.0 GiB on the disk of /var/lib/docker, and 9.0 GiB are free",
        (
            "nobody is let into the database for about 1 min 15 s, which the last drill took; "
            "a set of the host is made first"
        ),
        "what serves now is kept as it is, to go back to",
        "not in the new server: slipway_before_x: a template, closed to all, or left by a restore that was cut",
        "the server is that of links and maps: show the page of each (slipway.fleet.maintenance)",
    ]
    unknown = plan({**UPGRADE, "version": "", "took": None}, set_before=False)
    assert "is seen once it is on the host" in unknown[1]
    assert unknown[3].endswith("which nobody has measured here; no set of the host is made first")
    renamed = "the cluster 17/main, which is there, is stopped and gets another name"
    assert renamed in plan({**UPGRADE, "aside": "17/main"}, set_before=False)


def test_a_way_back_says_what_is_lost() -> None:
    assert plan(BACK, set_before=False)[:2] == [
        "back from PostgreSQL 17 to 15, with its data as it was at 2026-11-26T20:10:41Z",
        "what was written since then is not in it; it stays in volume-17",
    ]
    assert "what was written since 2026-11-26T20:10:41Z is lost" in refused(BACK, "", "db1")


def test_names_are_to_be_typed_out() -> None:
    assert refused(UPGRADE, "links, maps", "db1") == refused(UPGRADE, "db1", "db1") == ""
    assert refused(UPGRADE, "links", "db1") == (
        "Nothing was done: slipway_confirm is links; to have it done, type whose it is: "
        "-e slipway_confirm=links,maps or -e slipway_confirm=db1."
    )
    assert refused({**UPGRADE, "problems": ["no disk"]}, "db1", "db1") == "Nothing was done: no disk."
    assert refused({**UPGRADE, "needed": False}, "", "db1") == ""


def test_the_end_says_how_long_and_what_is_kept() -> None:
    kept = {"major": 15, "name": "volume", "image": "postgres:15", "remove": "docker volume rm volume"}
    told = {"settled": "", "done": True, "from": 15, "to": 17, "down": 42.0, "kept": kept}
    assert done({**told, "databases": ["links"], "tables": 3, "rows": 9}) == [
        "PostgreSQL 17 serves instead of 15: links, 3 tables with 9 rows, each compared",
        "nobody was let into the database for 42 s",
        (
            "PostgreSQL 15 is kept as it was: -e slipway_back=true goes back to it, and when you are sure "
            "remove it on the host: docker volume rm volume"
        ),
    ]
    aside = {"name": "17/kept_1", "remove": "pg_dropcluster 17 kept_1"}
    assert "is kept, stopped, as 17/kept_1" in done({**told, "aside": aside})[-2]
    assert done({**told, "done": False}) == ["PostgreSQL 17 serves already"]
