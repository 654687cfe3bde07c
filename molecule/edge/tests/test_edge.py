"""HTTPS from the first deploy, by an authority that really looks: it comes, for a second app too, is renewed and lasts.

The tests are a story, and run in the order of the file.
"""

from __future__ import annotations

import json
import re
import ssl
import subprocess
from typing import Any

import pytest
from authority import AT, Authority
from contract import until
from fleet import on
from served import ADDRESS, HOST, Asking, Site

SETTINGS = "/etc/haproxy/acme.json"
ORDER = "PYTHONPATH=/usr/local/lib/slipway python3 -m slipway_edge.edge.acme"


def nothing_lost(asking: Asking) -> None:
    assert asking.wrong == [], f"{len(asking.wrong)} of {asking.asked}"
    assert asking.asked > 50


def records() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(on(HOST, "cat /var/lib/slipway/acme/names.json"))
    return found


def test_a_name_that_leads_elsewhere_is_told_by_name_and_not_ordered(shop: Site, authority: Authority) -> None:
    authority.says("shop.example.org", ADDRESS)
    authority.says("www.shop.example.org", AT)
    outcome = shop.play("provision", haproxy_acme_wait=60)
    assert outcome.code != 0
    failure = outcome.failure()
    assert f"www.shop.example.org leads to {AT}, which is not this edge" in failure, failure
    assert "haproxy_acme_missing: tell" in failure
    assert (
        "shop.example.org has no certificate yet: it was tried where nothing counts, so nothing was ordered" in failure
    )
    assert (authority.rehearsals(), authority.orders()) == (1, 0), "for the name that leads here alone, and for nobody"
    assert shop.by_http(name="www.shop.example.org")[0] == 503, "HTTP is there, and no release yet"
    with pytest.raises(ssl.SSLCertVerificationError):
        shop.page("www.shop.example.org")


def test_the_first_deploy_ends_with_https_that_a_browser_trusts(shop: Site, authority: Authority) -> None:
    authority.says("www.shop.example.org", ADDRESS)
    authority.lets_rehearse()
    outcome = shop.play("site")
    assert outcome.code == 0, outcome.output
    assert shop.page() == shop.page("www.shop.example.org") == {"app": "shop", "scheme": "https"}
    assert shop.by_http("/x?y=1")[:2] == (308, "https://shop.example.org/x?y=1")
    assert (authority.rehearsals(), authority.orders()) == (3, 2), "one for each name"
    assert "gives no answer" not in outcome.output, "the run's own probe asked by HTTPS"
    answered = re.search(r"requests through the edge failed meanwhile; answered by the app: (\d+)", outcome.output)
    assert answered
    assert int(answered[1]) > 0
    key = on(HOST, "stat -c '%a %U %G' /etc/haproxy/certificates/names/shop.example.org.pem").strip()
    assert key == "640 root haproxy"
    assert on(HOST, "find /var/lib/slipway/acme/lego -path '*certificates/*'") == "", "the key is in one place"
    bound = authority.binding()["hmac"]
    # Not all of it can be read, of which grep makes an error.
    holds = on(HOST, f"grep -rls {bound} /etc /var/lib/slipway /var/log /usr/local /run /tmp; true")
    assert holds.split() == [SETTINGS]


def test_an_app_of_another_inventory_gets_its_certificate_and_takes_nothing(shop: Site, board: Site) -> None:
    serial = shop.serial()
    with shop.asked(rate=5) as asked:
        outcome = board.play("site")
        assert outcome.code == 0, outcome.output
    nothing_lost(asked)
    assert board.page() == {"app": "board", "scheme": "https"}
    assert board.by_http("/x", "boards.example.org")[:2] == (308, "https://boards.example.org/x"), "it has one, too"
    assert shop.serial() == serial
    assert board.page("a.board.example.org") == {"app": "board", "scheme": "https"}, "by DNS there is one for a star"
    assert board.by_http("/x", "a.board.example.org")[:2] == (308, "https://a.board.example.org/x")
    assert board.serial("a.board.example.org") != board.serial() == board.serial("board.example.org")
    assert on("slipway-authority", "dig +short @127.0.0.1 TXT _acme-challenge.board.example.org") == "", "cleaned up"


def test_one_whose_key_leaked_is_replaced_and_costs_no_request_and_no_handshake(
    shop: Site, authority: Authority
) -> None:
    process = on(
        HOST, "systemctl show --value -p MainPID haproxy; pgrep -P $(systemctl show --value -p MainPID haproxy)"
    )
    before = shop.serial()
    with shop.asked() as asked:
        until(lambda: asked.asked > 50 and before in asked.serials, "the load is there")
        on(HOST, f"{ORDER} --revoke shop.example.org")
        after = shop.serial()
        asked_then = asked.asked
        until(lambda: asked.asked > asked_then + 50 and after in asked.serials, "the load saw the new one")
    nothing_lost(asked)
    assert after != before
    assert {before, after} <= asked.serials
    assert [authority.says_of(serial) for serial in (before, after)] == ["Revoked", "Valid"]
    assert on(
        HOST, "systemctl show --value -p MainPID haproxy; pgrep -P $(systemctl show --value -p MainPID haproxy)"
    ) == (process), "no reload"
    on(HOST, "systemctl restart haproxy")
    assert shop.serial() == after, "it is in its file, too"


def test_one_that_is_old_is_renewed_under_load_by_what_the_timer_starts_in_its_sandbox(
    board: Site, authority: Authority
) -> None:
    given = board.serial()
    path = "/etc/haproxy/certificates/names/board.example.org.pem"
    on(HOST, f"cat > {path} <<'END'\n{authority.old('board.example.org')}END\nsystemctl reload haproxy")
    until(lambda: board.serial() != given, "the old one is shown")
    before = board.serial()
    with board.asked() as asked:
        until(lambda: asked.asked > 50 and before in asked.serials, "the load is there")
        on(HOST, "systemctl start slipway-certificates.service")
        after, asked_then = board.serial(), asked.asked
        until(lambda: asked.asked > asked_then + 50 and after in asked.serials, "the load saw the new one")
    nothing_lost(asked)
    assert after not in {before, given}
    assert {before, after} <= asked.serials
    assert "slipway-certificates.timer" in on(HOST, "systemctl list-timers --no-pager")
    moment = on(
        HOST, "systemctl show slipway-certificates.timer -p RandomizedDelayUSec -p FixedRandomDelay -p Persistent"
    )
    assert set(moment.split()) == {"RandomizedDelayUSec=50min", "FixedRandomDelay=yes", "Persistent=yes"}
    rated = on(HOST, "systemd-analyze security slipway-certificates.service --no-pager | tail -1")
    assert " OK " in rated, rated


def test_without_the_authority_what_is_valid_stays_and_the_status_tells(shop: Site, authority: Authority) -> None:
    serial = shop.serial()
    on(HOST, "systemctl stop slipway-certificates.timer")  # its next look would find nothing due
    authority.stop()
    failed = subprocess.run(
        ["docker", "exec", HOST, "sh", "-c", f"{ORDER} --force shop.example.org"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert failed.returncode == 1
    assert "the certificate of shop.example.org ends in " in failed.stderr
    assert shop.serial() == serial
    status = shop.play("status")
    assert status.code == 3, status.output
    assert "was not renewed: https://172.29.89.20:14000/dir gave none" in " ".join(status.output.split())
    assert "Pebble" in status.output, "who issued"


def test_an_app_that_goes_has_nothing_renewed(board: Site) -> None:
    assert "board.example.org" in records()
    outcome = board.play("remove", slipway_remove="board")
    assert outcome.code == 0, outcome.output
    subprocess.run(["docker", "exec", HOST, "systemctl", "start", "slipway-certificates.service"], check=False)
    assert "board.example.org" not in records()
