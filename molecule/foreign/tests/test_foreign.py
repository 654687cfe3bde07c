"""Three apps on one host, none of them changed for it: they come, are released, refused, taken back, boot and go.

The tests are a story, and run in the order of the file.
"""

from __future__ import annotations

import json
import subprocess

from contract import until
from fleet import on
from foreign import ADDRESS, HOST, App, Asking


def nothing_lost(*askings: Asking) -> None:
    for asking in askings:
        assert asking.wrong == [], f"{len(asking.wrong)} of {asking.asked}"
        assert asking.asked > 20


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
    """`fastapi run` on port 80 as root."""
    outcome = tiles.play("site")
    assert outcome.code == 0, outcome.output
    assert tiles.json() == {"app": "tiles"}
    assert tiles.json("/tiles/1/2/3") == {"tile": [1, 2, 3]}
    assert on(HOST, "ss -Hltn 'sport = :80'").split()[3].endswith(":80"), "the edge alone is public"


def test_a_second_app_comes_and_the_first_one_serves_on(tiles: App, shop: App) -> None:
    with tiles.asked() as asked:
        outcome = shop.play("site")
        assert outcome.code == 0, outcome.output
    nothing_lost(asked)
    assert shop.json() == {"app": "shop"}
    assert tiles.json() == {"app": "tiles"}


def test_the_app_is_told_what_was_written(shop: App) -> None:
    assert shop.json("/settings") == {
        "price_format": '$ {price} 100% "net"',
        "origins": ["https://shop.example.org", "https://www.example.org"],
        "beta": True,
        "payment_key_is_there": len("planted-$payment-key"),
        "prepared": "yes",
    }


def test_a_secret_is_in_its_file_and_its_process_alone(shop: App) -> None:
    containers = on(HOST, "docker ps --quiet").split()
    assert "planted" not in on(HOST, f"docker inspect {' '.join(containers)}")
    assert "planted" not in on(HOST, "ps axww")


def uploaded(shop: App) -> tuple[str, list[str]]:
    """The slot that answers, and the files that the shop has in its volume."""
    found = shop.json("/uploads")
    return found["slot"], found["files"]


def test_a_volume_begins_with_what_the_image_has_and_is_the_app_s(shop: App) -> None:
    assert uploaded(shop) == ("blue", ["sample.txt"])
    assert shop.json("/uploads/first/new") == {"uid": 1000}
    owners = on(HOST, "stat --format '%u:%g %a' /var/lib/slipway/shop/volumes/uploads")
    assert owners == "1000:1000 750\n"


def test_a_third_app_and_a_release_of_the_first(tiles: App, shop: App, board: App) -> None:
    """The new release differs by a variable of its environment."""
    before = tiles.release
    with tiles.asked() as of_tiles, shop.asked() as of_shop:
        outcome = board.play("site")
        assert outcome.code == 0, outcome.output
        outcome = tiles.play("deploy", fastapi_app_environment={"ANOTHER": "value"})
        assert outcome.code == 0, outcome.output
        outcome = shop.play("deploy", fastapi_app_revision="2")
        assert outcome.code == 0, outcome.output
    nothing_lost(of_tiles, of_shop)
    assert uploaded(shop) == ("green", ["first", "sample.txt"])
    assert shop.json("/uploads/second/new") == {"uid": 1000}
    assert tiles.release != before
    assert board.json() == {"app": "board"}
    other_name = subprocess.run(
        ["curl", "--silent", "--header", "Host: forum.example.org", f"http://{ADDRESS}/"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(other_name.stdout) == {"app": "board"}


def test_a_release_that_does_not_answer_is_refused(tiles: App) -> None:
    before = tiles.release
    with tiles.asked() as asked:
        outcome = tiles.play("deploy", fastapi_app_health_path="/not-there", fastapi_app_gate_deadline=15)
    assert outcome.code != 0
    assert "/not-there" in outcome.failure()
    assert "404" in outcome.output
    assert tiles.release == before
    nothing_lost(asked)


def test_an_app_that_listens_elsewhere_is_told_where(board: App) -> None:
    """It reads PORT; another one that it is told to listen on, beside the variable, is found."""
    before = board.release
    outcome = board.play("deploy", fastapi_app_environment={"PORT": "5001"}, fastapi_app_gate_deadline=15)
    assert outcome.code != 0
    assert "5001" in outcome.output
    assert "fastapi_app_port" in outcome.output
    assert board.release == before
    assert board.json() == {"app": "board"}


def test_a_rollback(shop: App) -> None:
    before = shop.release
    with shop.asked() as asked:
        outcome = shop.play("rollback")
        assert outcome.code == 0, outcome.output
    nothing_lost(asked)
    assert shop.release != before
    assert uploaded(shop) == ("blue", ["first", "sample.txt", "second"])


def test_all_are_back_after_a_boot(tiles: App, shop: App, board: App) -> None:
    subprocess.run(["docker", "restart", "--time", "1", HOST], check=True, capture_output=True, timeout=120)
    for app in (tiles, shop, board):
        until(lambda app=app: app.get()[0] == 200, f"{app.name} serves after the boot")  # type: ignore[misc]
        assert app.json() == {"app": app.name}
    assert uploaded(shop) == ("blue", ["first", "sample.txt", "second"])


def test_two_apps_cannot_have_one_name(shop: App, board: App) -> None:
    with shop.asked() as asked:
        outcome = board.play("provision", fastapi_app_host_names=["board.example.org", "shop.example.org"])
    assert outcome.code != 0
    assert "shop.example.org" in outcome.failure()
    nothing_lost(asked)


def test_one_goes_and_the_others_serve_on(tiles: App, shop: App, board: App) -> None:
    with tiles.asked() as of_tiles, shop.asked() as of_shop:
        outcome = board.play("remove", slipway_remove="board")
        assert outcome.code == 0, outcome.output
    nothing_lost(of_tiles, of_shop)
    assert board.get()[0] in (421, 503)
