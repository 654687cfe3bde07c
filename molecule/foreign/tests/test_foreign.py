"""Five apps on one host, none of them changed for it: they come, are released, refused, taken back, boot and go.

The tests are a story, and run in the order of the file.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

from contract import PATIENCE, SELDOM, until
from fleet import on
from foreign import ADDRESS, AT_A_TIME, HOST, App, nothing_lost, side_by_side
from redis import Redis

Told = Callable[[], Any]


def processes(release: str) -> list[str]:
    """The containers of a release's processes that run."""
    filters = f"--filter label=slipway.process --filter label=slipway.release={release}"
    return sorted(on(HOST, f"docker ps --quiet {filters}").split())


def one_after_another(beats: dict[str, list[float]]) -> bool:
    """Whether each beat began when the one before it had ended."""
    times = sorted(beats.values())
    return all(before[1] < after[0] for before, after in pairwise(times))


def test_a_host_whose_port_another_one_has_is_refused_by_its_name(tiles: App) -> None:
    on(HOST, "systemd-run --unit=another python3 -m http.server 80")
    try:
        until(lambda: "http.server" in on(HOST, "ps axww"), "the other one runs")
        outcome = tiles.play("site")
    finally:
        on(HOST, "systemctl stop another")
    assert outcome.code != 0
    assert "port 80 of this host, on which the edge is to listen, belongs to python3 (pid " in outcome.failure()
    assert on(HOST, "ls /etc/haproxy/apps 2>/dev/null || true") == ""


def test_the_simplest_app_is_five_lines(tiles: App) -> None:
    """`fastapi run` on port 80 as root, in an image that a registry has."""
    outcome = tiles.play("site")
    assert outcome.code == 0, outcome.output
    assert tiles.json() == {"app": "tiles"}
    assert tiles.json("/tiles/1/2/3") == {"tile": [1, 2, 3]}
    assert on(HOST, "ss -Hltn 'sport = :80'").split()[3].endswith(":80"), "the edge alone is public"


def test_a_second_app_comes_and_the_first_one_serves_on(tiles: App, shop: App, broker: Told) -> None:
    """It has two workers and a beat, as its project has them."""
    with tiles.asked() as asked:
        outcome = shop.play("site")
        assert outcome.code == 0, outcome.output
    nothing_lost(asked)
    assert shop.json() == {"app": "shop"}
    assert tiles.json() == {"app": "tiles"}
    until(lambda: len(broker()["done"]) >= 2, "its workers have ended tasks")
    assert len(broker()["beats"]) == 1


def test_a_task_in_hand_survives_a_release_and_no_two_beats_are_there(shop: App, broker: Told) -> None:
    """The old workers have tasks in hand when they are told to end, and nobody waits for them."""
    release = shop.release
    until(lambda: any(who.endswith(f"/{release}") for who in broker()["runs"]), "its job has run in it")
    before = broker()
    outcome = shop.play("deploy", fastapi_app_environment=shop.variables["fastapi_app_environment"] | {"AGAIN": "1"})
    assert outcome.code == 0, outcome.output
    assert shop.release != release
    until(lambda: len(broker()["beats"]) > len(before["beats"]), "the new beat is there")
    assert one_after_another(broker()["beats"])
    until(lambda: processes(release) == [], "the old workers have ended", every=SELDOM)
    lost = set(broker()["given"]) - set(broker()["done"])
    until(lambda: lost <= set(broker()["done"]), "what they had in hand is done")
    assert len(processes(shop.release)) == 3


def test_a_worker_that_does_not_stay_up_refuses_the_release(shop: App, broker: Told) -> None:
    before, running = shop.release, processes(shop.release)
    broken = {"command": ["python", "-m", "src.wrker"]}
    with shop.asked() as asked:
        declared = shop.variables["fastapi_app_processes"] | {"worker": broken}
        outcome = shop.play("deploy", fastapi_app_processes=declared)
    assert outcome.code != 0
    assert "the process worker of the new release ended" in outcome.failure()
    assert "No module named src.wrker" in outcome.failure()
    nothing_lost(asked)
    assert shop.release == before
    assert processes(before) == running, "the old ones were left alone"
    assert one_after_another(broker()["beats"])


def test_logs_name_the_processes(shop: App) -> None:
    assert "worker ready" in shop.play("logs").output


def test_a_large_file_passes_the_edge_and_no_larger_one_than_the_app_has_room_for(shop: App) -> None:
    """FastAPI keeps it in /tmp, and where that is full says that the body is wrong."""
    assert (shop.send(48), shop.send(80)) == (200, 400)


def test_a_job_runs_in_what_serves_once_and_never_beside_itself(shop: App, broker: Told) -> None:
    """It takes longer than its timer waits, so each start has to wait for the end of the one before."""

    def ran(release: str) -> dict[str, list[float]]:
        return {who: times for who, times in broker()["runs"].items() if who.endswith(f"/{release}")}

    known = set(ran(shop.release))
    until(lambda: len(set(ran(shop.release)) - known) >= 2, "two more have begun in what serves")
    runs = broker()["runs"]
    assert one_after_another(runs)
    assert len({who.partition("/")[2] for who in runs}) > 1, "those before the release ran in the one before"
    until(lambda: "counted all" in shop.play("status").output, "status says what it printed last")


def test_a_job_that_fails_is_in_status(shop: App) -> None:
    outcome = shop.play("run", slipway_job="ledger")
    assert outcome.code != 0
    assert f"the job ledger of release {shop.release} failed: exit code 3" in outcome.failure()
    outcome = shop.play("status")
    assert outcome.code == 3
    assert "worker 2 of 2" in outcome.output
    assert "beat 1 of 1" in outcome.output
    assert f"job ledger on {HOST}, *-01-01, next " in outcome.output
    assert "failed with exit code 3" in outcome.output
    assert "no ledger of shop today" in outcome.output


def test_a_schedule_that_systemd_does_not_know_is_refused_before_anything_is_changed(shop: App) -> None:
    """And an app that would take the place of another one that is named as it is, with that one's name."""
    before = on(HOST, "ls /opt/slipway/shop/releases")
    jobs = {"nightly": {"command": ["true"], "schedule": "25:00"}}
    outcome = shop.play("deploy", fastapi_app_jobs=jobs, fastapi_app_host_names=["other.example.org"])
    assert outcome.code != 0
    assert "fastapi_app_jobs: nightly: schedule is '25:00'; systemd does not understand it" in outcome.failure()
    assert (
        "shop is behind this edge as shop.example.org already, and here shop is other.example.org" in outcome.failure()
    )
    assert on(HOST, "ls /opt/slipway/shop/releases") == before


def test_a_job_that_a_release_does_not_have_any_more_loses_its_timer(shop: App) -> None:
    """The other one, which failed, holds up no release."""
    names = "ls /etc/systemd/system | grep 'slipway-shop@job-.*timer$' || true"
    assert len(on(HOST, names).split()) == 2
    outcome = shop.play("deploy", fastapi_app_jobs={"ledger": shop.variables["fastapi_app_jobs"]["ledger"]})
    assert outcome.code == 0, outcome.output
    assert on(HOST, names).split() == ["slipway-shop@job-ledger.timer"]
    outcome = shop.play("rollback")
    assert outcome.code == 0, outcome.output
    assert len(on(HOST, names).split()) == 2


def test_the_app_is_told_what_was_written(shop: App) -> None:
    assert shop.json("/settings") == {
        "price_format": '$ {price} 100% "net"\n',
        "origins": ["https://shop.example.org", "https://www.example.org"],
        "beta": True,
        "payment_key_is_there": len("planted-$payment-key"),
        "prepared": "yes",
    }


def other(slot: str) -> str:
    return "green" if slot == "blue" else "blue"


def uploaded(shop: App) -> tuple[str, list[str]]:
    """The slot that answers, and the files that the shop has in its volume."""
    found = shop.json("/uploads")
    return found["slot"], found["files"]


def test_a_volume_begins_with_what_the_image_has_and_is_the_app_s(shop: App) -> None:
    assert uploaded(shop)[1] == ["sample.txt"]
    assert shop.json("/uploads/first/new") == {"uid": 1000}
    owners = on(HOST, "stat --format '%u:%g %a' /var/lib/slipway/shop/volumes/uploads")
    assert owners == "1000:1000 750\n"


def test_apps_of_other_shapes_come_and_the_others_serve_on(
    tiles: App, shop: App, board: App, feed: App, depot: App, shop_staging: App
) -> None:
    """Gunicorn with a file of its own, Hypercorn, an image without a shell, and a staging of one that serves."""
    apps = (board, feed, depot, shop_staging)
    with tiles.asked() as of_tiles, shop.asked() as of_shop, ThreadPoolExecutor(AT_A_TIME) as pool:
        outcomes = list(pool.map(lambda app: app.play("site"), apps))
    assert [outcome.output for outcome in outcomes if outcome.code] == []
    nothing_lost(of_tiles, of_shop)
    said = "the app listens on port 8080, by EXPOSE of its image"
    assert [said in outcome.output for outcome in outcomes] == [False, True, False, False]
    assert [app.json()["app"] for app in apps] == ["board", "feed", "depot", "shop"]
    assert feed.get("/news") == (200, "0\n1\n2\n")
    assert depot.json("/ready") == {"key": len("planted-key")}
    other_name = subprocess.run(
        ["curl", "--silent", "--header", "Host: forum.example.org", f"http://{ADDRESS}/"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(other_name.stdout) == {"app": "board"}


def test_staging_has_nothing_of_production(shop: App, shop_staging: App) -> None:
    assert shop_staging.json("/settings")["payment_key_is_there"] == len("planted-key-of-staging")
    assert uploaded(shop_staging)[1] == ["sample.txt"]
    shop_staging.json("/uploads/of-staging/new")
    assert uploaded(shop)[1] == ["first", "sample.txt"]
    assert shop_staging.release != shop.release
    shown = on(HOST, "docker ps --filter label=slipway.app --format '{{.Label \"slipway.app\"}} {{.Ports}}'")
    ports = {name: places for name, _, places in (line.partition(" ") for line in shown.splitlines()) if places}
    assert ports["shop"] != ports["shop-staging"]


def door(app: App) -> int:
    """The port on which the release that serves listens, 0 for the socket of its slot."""
    gate = on(HOST, f"cat /opt/slipway/{app.name}/releases/{app.release}/gate.json")
    return int(json.loads(gate)["port"])


def tasks(queue: Redis, what: str) -> list[str]:
    """Tasks of Celery that were begun, or are done, in that order."""
    return [str(task) for task in queue.lrange(what, 0, -1)]


def test_a_release_of_each_beside_those_of_the_others(
    tiles: App, shop: App, board: App, feed: App, depot: App, queue: Redis
) -> None:
    """By another server, other values, another kind of worker, another secret; a host's records are each app's own."""
    apps = (tiles, shop, board, feed, depot)
    until(lambda: len(tasks(queue, "begun")) > len(tasks(queue, "done")), "a task of Celery is in hand")
    assert door(feed) == 8080
    before, slot = {app.name: app.release for app in apps}, uploaded(shop)[0]
    threads = ["gunicorn", "--worker-class", "gthread", "--threads", "4", "board:wsgi"]
    built = {**board.variables["fastapi_image_build_args"], "BUILD": "2"}
    elsewhere = shop.variables["fastapi_app_environment"] | {"TMPDIR": "/home/shop/uploads"}
    with board.asked("/static/main-1.js", "build 1", rate=5.0) as script:
        outcomes = side_by_side(
            {
                # Plain Uvicorn on port 80, as root as far as the image says.
                "tiles": {"fastapi_app_command": ["uvicorn", "app.main:app", "--port", "80"]},
                "shop": {"fastapi_app_environment": elsewhere},
                # A page that is open still wants its script.
                "board": {"fastapi_app_command": threads, "fastapi_image_build_args": built},
                # Where it is to listen it is told by the environment alone, and that says the socket of its slot.
                "feed": {
                    "fastapi_app_command": ["granian", "--interface", "asgi", "feed:app"],
                    "fastapi_app_port_by_image": False,
                },
                "depot": {"fastapi_app_secrets": {"DEPOT_KEY": "another-planted-key"}},
            },
            apps,
        )
    nothing_lost(script)
    failed = {name: outcome.failure() for name, outcome in outcomes.items() if outcome.code}
    assert failed == {}
    assert [app.name for app in apps if app.release == before[app.name]] == []
    assert [app.json() for app in apps] == [{"app": app.name} for app in apps]
    assert uploaded(shop) == (other(slot), ["first", "sample.txt"])
    assert shop.json("/uploads/second/new") == {"uid": 1000}
    assert shop.send(80) == 200
    assert (door(feed), feed.get("/news")) == (0, (200, "0\n1\n2\n"))
    assert depot.json("/ready") == {"key": len("another-planted-key")}
    # At SIGTERM Celery ends what it has in hand; of one that was killed the task would be missing here.
    until(lambda: processes(before["board"]) == [], "the old worker has ended", every=SELDOM)
    begun = tasks(queue, "begun")
    until(lambda: set(begun) <= set(tasks(queue, "done")), "what the old worker had in hand is done")
    assert len(set(begun)) == len(begun), "and done once"
    scripts = ["main-1.js", "main-2.js"]
    assert [board.get(f"/static/{script}")[0] for script in scripts] == [200, 200]
    served = f"/opt/slipway/board/releases/{before['board']}/assets/served/srv/board/static"
    assert on(HOST, f"ls {served}").split() == scripts, "those that it served before anybody had the new page"


def test_a_secret_is_in_its_file_and_its_process_alone(shop: App, shop_staging: App, depot: App) -> None:
    """Of production, of staging, and of an app without a shell."""
    shown = on(HOST, "docker inspect $(docker ps --quiet)")
    assert [app.name for app in (shop, shop_staging, depot) if f"/opt/slipway/{app.name}/releases/" not in shown] == []
    assert "planted" not in shown
    assert "planted" not in on(HOST, "ps axww")


def test_a_release_that_does_not_serve_is_refused_in_each_shape(
    tiles: App, shop: App, board: App, feed: App, depot: App
) -> None:
    """And one whose image has a secret of it: here what stands in its entry point."""
    apps = (tiles, shop, board, feed, depot)
    before = {app.name: app.release for app in apps}
    outcomes = side_by_side(
        {
            "tiles": {"fastapi_app_health_path": "/not-there"},
            # It reads PORT; another one that it is told to listen on, beside the variable, is found.
            "board": {"fastapi_app_environment": {"PORT": "5001"}},
            "feed": {"fastapi_app_command": ["hypercorn", "--config", "hypercorn.toml", "feed:ap"]},
            "depot": {"fastapi_app_secrets": {}},
            "shop": {"fastapi_app_secrets": {"PAYMENT_KEY": "PREPARED_BY_ENTRYPOINT=yes"}},
        },
        apps,
    )
    said = {
        "tiles": ("/not-there", "404"),
        "board": ("5001", "fastapi_app_port"),
        "feed": ("Cannot load application from 'feed:ap'",),
        "depot": ("KeyError: 'DEPOT_KEY'; set DEPOT_KEY in fastapi_app_secrets",),
        "shop": ("has secrets of fastapi_app_secrets in it", "PAYMENT_KEY (file /home/shop/entrypoint.sh)"),
    }
    for app in apps:
        outcome = outcomes[app.name]
        assert outcome.code != 0, app.name
        assert [words for words in said[app.name] if words not in outcome.failure()] == [], outcome.failure()
        assert app.release == before[app.name]
        assert app.json() == {"app": app.name}


def test_rollbacks_beside_each_other(shop: App, feed: App) -> None:
    """The one goes back from the socket of its slot to the port that its image names."""
    apps = (shop, feed)
    before, slot = [app.release for app in apps], uploaded(shop)[0]
    with shop.asked() as of_shop, feed.asked() as of_feed, ThreadPoolExecutor(AT_A_TIME) as pool:
        outcomes = list(pool.map(lambda app: app.play("rollback"), apps))
    assert [outcome.output for outcome in outcomes if outcome.code] == []
    nothing_lost(of_shop, of_feed)
    assert [app.name for app, release in zip(apps, before, strict=True) if app.release == release] == []
    assert uploaded(shop) == (other(slot), ["first", "sample.txt", "second"])
    assert (door(feed), feed.get("/news")) == (8080, (200, "0\n1\n2\n"))


def test_all_are_back_after_a_boot(tiles: App, shop: App, board: App, feed: App, depot: App, broker: Told) -> None:
    running, before = processes(shop.release), uploaded(shop)
    subprocess.run(["docker", "restart", "--time", "1", HOST], check=True, capture_output=True, timeout=PATIENCE)
    for app in (tiles, shop, board, feed, depot):
        until(lambda app=app: app.get()[0] == 200, f"{app.name} serves after the boot")  # type: ignore[misc]
        assert app.json() == {"app": app.name}
    until(lambda: processes(shop.release) == running, "the processes of shop are back", every=SELDOM)
    assert uploaded(shop) == before
    until(lambda: bool(broker()["done"]) and bool(broker()["beats"]), "and at work")


def test_two_apps_cannot_have_one_name(shop: App, board: App) -> None:
    """Neither a host name nor, with other host names, the name of an app."""
    with shop.asked() as of_shop, board.asked() as of_board:
        outcome = board.play("provision", fastapi_app_host_names=["other.example.org", "shop.example.org"])
    assert outcome.code != 0
    assert "shop.example.org is a host name of shop" in outcome.failure()
    assert "board is behind this edge as board.example.org, forum.example.org already" in outcome.failure()
    assert "fastapi_app_former_names: [board.example.org, forum.example.org]" in outcome.failure()
    nothing_lost(of_shop, of_board)


def test_some_go_and_the_others_serve_on(tiles: App, shop: App, board: App, shop_staging: App) -> None:
    before, gone = uploaded(shop), (board, shop_staging)
    with tiles.asked() as of_tiles, shop.asked() as of_shop, ThreadPoolExecutor(AT_A_TIME) as pool:
        outcomes = list(pool.map(lambda app: app.play("remove", slipway_remove=app.name), gone))
    assert [outcome.output for outcome in outcomes if outcome.code] == []
    nothing_lost(of_tiles, of_shop)
    assert [app.get()[0] for app in gone if app.get()[0] not in (421, 503)] == []
    assert uploaded(shop) == before
    assert on(HOST, "systemctl list-timers --all --no-legend 'slipway-board*'") == ""
    assert on(HOST, "ls /etc/systemd/system | grep slipway-board || true") == ""
