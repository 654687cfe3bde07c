"""Connections of all apps to the database server of a host, against what it takes."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.postgres.access import UNNAMED, Access, Login
from ansible_collections.slipway.fleet.plugins.module_utils.postgres.server import Server
from ansible_collections.slipway.fleet.plugins.module_utils.release.connections import Seen, connections_lack, seen
from ansible_collections.slipway.fleet.plugins.module_utils.release.neighbours import App

from tests import real_postgres
from tests.app.conftest import binary, until

SHOP, TILES = Login("shop", "shop"), Login("tiles", "tiles")
BOTH = Access({"shop": (SHOP,), "tiles": (TILES,)})


@pytest.mark.parametrize(
    ("limit", "open_now", "workers", "hosts", "overlap", "said"),
    [
        (97, {"shop": 40, "tiles": 10}, 2, 1, True, None),
        (97, {"shop": 40, "tiles": 30}, 2, 1, True, "takes 97 from apps, and 110 may be open while this is released"),
        (97, {"shop": 40, "tiles": 30}, 2, 1, True, "(80 of shop, 40 for a slot, 30 of tiles)"),
        (97, {"shop": 40, "tiles": 30}, 2, 1, False, None),
        (97, {"shop": 40, "tiles": 30}, 2, 2, True, None),
        (97, {}, 40, 1, True, None),
        (97, {}, 49, 1, True, "(98 of shop, 49 for a slot, 4 of tiles)"),
        (
            97,
            {},
            49,
            1,
            True,
            "Lower fastapi_app_workers or the pool of each worker, or raise postgres_max_conn",
        ),
        (97, {"shop": 90}, 0, 1, True, None),
    ],
)
def test_connections(
    limit: int, open_now: dict[str, int], workers: int, hosts: int, overlap: bool, said: str | None
) -> None:
    found = connections_lack(Seen(limit, open_now, BOTH), "shop", workers, hosts, overlap, {"tiles": App(0, 4)})
    assert (found is None) if said is None else (found is not None and said in found)


def test_an_app_whose_database_is_elsewhere_has_none_here() -> None:
    assert connections_lack(Seen(10, {"tiles": 9}, BOTH), "links", 90, 1, True, {}) is None
    assert connections_lack(None, "shop", 90, 1, True, {}) is None


def test_a_line_for_members_counts_nothing_twice() -> None:
    members = Access({"shop": (SHOP, Login("shop", "+shop")), "tiles": (TILES, Login("tiles", "+tiles"))})
    assert connections_lack(Seen(97, {"shop": 40, "tiles": 10}, members), "shop", 2, 1, True, {}) is None


def test_the_one_app_of_a_server_from_before_apps_had_names() -> None:
    assert connections_lack(Seen(10, {}, Access({UNNAMED: (SHOP,)})), "shop", 9, 1, True, {}) is not None


def test_a_real_server_says_what_is_open(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    assert seen(tmp_path) is None, "there is no server"
    (tmp_path / "config/pg_hba.conf").write_text("# app shop\nlocal shop shop scram-sha-256\n")
    assert seen(tmp_path, lambda *_, **__: Server(("false",))) is None, "it does not answer"
    with tempfile.TemporaryDirectory(prefix="pg") as directory:
        Path(directory).chmod(0o755)
        real = real_postgres.Server(Path(directory) / "server", "superuser_reserved_connections=5")
        try:
            real.sql("CREATE ROLE shop LOGIN")
            real.sql("CREATE DATABASE shop OWNER shop")
            words = [binary("psql"), "-Xq", "-h", str(real.directory), "-U", "shop", "shop"]
            with subprocess.Popen(words, stdin=subprocess.PIPE, text=True) as session:

                def looked(*_: Any, **more: Any) -> Server:
                    return Server(real.superuser, **more)

                def there() -> Seen | None:
                    return seen(tmp_path, looked)

                until(lambda: there() == Seen(15, {"shop": 1}, Access({"shop": (SHOP,)}, ("local",))), "it is counted")
                session.communicate("")
        finally:
            real.stop()
