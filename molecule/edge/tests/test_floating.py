"""Two balancers with one address: whatever becomes of the one that has it, the other one answers.

The tests are a story, and run in the order of the file, after that of the authority.
"""

from __future__ import annotations

import subprocess

import pytest
from authority import Authority
from balancers import ADDRESSES, CUT, DEAF, FLOATING, FLOATING_6, HEARS, MENDED, A, B, Pair
from contract import until
from fleet import on
from served import ADDRESS, HOST

# Python leaves a socket open where the other side is gone between the connection and the first byte of TLS.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")

UNIT = "/etc/systemd/system/haproxy.service.d/slipway.conf"
# Killed, and systemd starts it no more.
STAYS = "/run/systemd/system/haproxy.service.d/stays.conf"
BROKEN = (
    f"mkdir -p $(dirname {STAYS}) && printf '[Service]\\nRestart=no\\n' > {STAYS} && systemctl daemon-reload"
    " && systemctl kill --signal=KILL haproxy"
)
WHOLE = f"rm {STAYS} && systemctl daemon-reload && systemctl start haproxy"
SAYS = "cat /run/slipway-haproxy"
PAGES = "/var/lib/haproxy/maintenance.map"


# As it is where the timer was stopped two days ago.
FORGOTTEN = """systemctl stop slipway-certificates.timer && python3 - <<'END'
import json, pathlib, time
path = pathlib.Path("/var/lib/slipway/acme/names.json")
records = json.loads(path.read_text())
records["shop.example.org"] |= {"begins": time.time() - 62 * 86400, "ends": time.time() + 28.5 * 86400}
path.write_text(json.dumps(records))
END"""


def workers(host: str) -> str:
    return " ".join(on(host, "pgrep haproxy").split())


def test_an_address_that_no_host_can_have_is_refused_before_anything_is_changed(pair: Pair) -> None:
    outcome = pair.play("provision", "--limit", f"localhost,{A}", haproxy_floating_addresses=["172.29.89.20/24"])
    assert outcome.code != 0
    assert "172.29.89.20 is in use already, by a machine with the link address " in outcome.failure()
    assert on(A, "ls /etc/haproxy/apps /etc/keepalived/keepalived.conf 2>/dev/null; true") == ""


def test_both_order_the_certificate_of_a_name_that_leads_to_their_address(pair: Pair) -> None:
    outcome = pair.play("provision")
    assert outcome.code == 0, outcome.output
    assert pair.page() == {"app": "shop", "scheme": "https"}
    pems = [on(host, "cat /etc/haproxy/certificates/names/shop.example.org.pem") for host in ADDRESSES]
    assert len(set(pems)) == 2, "each has its own"
    has = pair.holder()
    assert FLOATING_6 in on(has, "ip -brief -6 address show dev eth0"), "that of IPv6 goes along"
    pair.stands_by(pair.other())
    for host in ADDRESSES:
        piece = on(host, "cat /etc/haproxy/apps/shop.cfg")
        assert f"server {HOST} {ADDRESS}:4443 ssl verify required" in piece, "by TLS"


def test_a_renewal_that_nobody_tried_at_a_balancer_is_told_by_the_status(pair: Pair) -> None:
    on(B, FORGOTTEN)
    # And what `maintenance.yml --limit` left there alone.
    on(B, f"echo 'shop on' >> {PAGES}")
    status, doctor = pair.play("status"), pair.play("doctor")
    on(B, f"sed -i '/^shop on$/d' {PAGES}")
    on(B, "systemctl start slipway-certificates.timer slipway-certificates.service")
    assert status.code == 3, status.output
    said = " ".join(status.output.split())
    late = "the certificate of shop.example.org ends in 28 days and was not renewed: its renewal is overdue since "
    assert f"{B}: {late}" in said
    assert "`systemctl status slipway-certificates.timer`" in said
    assert f"{A}: the certificate" not in said
    assert [said.count(f"{host} shop {HOST} {ADDRESS}:4443 TLS 20") for host in ADDRESSES] == [1, 1]
    for outcome in (status, doctor):
        said = " ".join(outcome.output.split())
        assert f"maintenance page on {B} (shop): users get that and not the app" in said, said
        assert f"maintenance page on {A}" not in said
        assert "slipway.fleet.maintenance -e slipway_maintenance=off takes it away" in said
    assert f"{B} asks {HOST} by TLS, with certificates until 20" in said


def test_one_whose_haproxy_restarts_hands_the_address_over_before_and_loses_nothing(
    pair: Pair, authority: Authority
) -> None:
    before = pair.holder()
    after = B if before == A else A
    orders = authority.orders()
    processes = workers(before)
    on(before, f"echo '# an earlier version' >> {UNIT}")
    with pair.asked() as asked:
        # The other one is no host of the run, and takes over nevertheless.
        outcome = pair.play("provision", "--limit", f"localhost,{before}")
    pair.tell("restarted by provision", asked)
    assert outcome.code == 0, outcome.output
    assert outcome.changed == 4, "the unit, the hand-over, the restart and the way back; nothing else in a second run"
    assert authority.orders() == orders
    assert workers(before) != processes
    assert asked.wrong == []
    assert asked.asked > 50
    assert pair.holder() == after
    pair.stands_by(before)


def test_the_active_one_killed(pair: Pair) -> None:
    with pair.moved("killed") as active:
        on(active, BROKEN)
    assert on(active, SAYS) == "-254\n", "it was said in the moment, and not found out by asking"
    on(active, WHOLE)
    assert on(active, SAYS) == "0\n"
    pair.stands_by(active)
    assert pair.holder() != active, "it comes back, and takes nothing"


def test_the_active_one_restarted_by_hand(pair: Pair) -> None:
    with pair.moved("restarted by hand") as active:
        on(active, "systemctl restart haproxy")
    pair.stands_by(active)


def test_the_active_one_frozen(pair: Pair) -> None:
    with pair.moved("frozen") as active:
        on(active, "pkill -STOP haproxy")
    on(active, "pkill -CONT haproxy")
    pair.stands_by(active)


def test_the_active_one_cut_off(pair: Pair) -> None:
    with pair.moved("cut off") as active:
        on(active, CUT)
    on(active, MENDED)
    # Whoever has the higher priority goes on.
    until(lambda: pair.holders() == [A], "one of the two gives the address up")
    pair.stands_by(B)


def test_the_active_one_switched_off(pair: Pair) -> None:
    try:
        with pair.moved("switched off") as active:
            subprocess.run(["docker", "kill", active], check=True, capture_output=True)
    finally:
        subprocess.run(["docker", "start", *ADDRESSES], check=True, capture_output=True)
    pair.stands_by(active)


def test_a_split_brain_is_seen(pair: Pair) -> None:
    said = []

    def seen() -> bool:
        # One that is slow may give the address up for a moment, and is alone then.
        until(lambda: len(pair.holders()) == 2, "both believe that they are alone")
        said.append(pair.play("status"))
        return f"split brain: {A} and {B} have {FLOATING} at the same time" in said[-1].output

    on(A, DEAF)
    on(B, DEAF)
    try:
        until(seen, "status names both")
    finally:
        on(A, HEARS)
        on(B, HEARS)
    assert said[-1].code == 3, said[-1].output
    until(lambda: pair.holders() == [A], "one of the two gives the address up")
    pair.stands_by(B)


def test_one_for_which_nobody_stands_by_is_not_taken_out(pair: Pair) -> None:
    on(B, "systemctl stop keepalived")
    outcome = pair.play("drain", haproxy_server=A)
    on(B, "systemctl start keepalived")
    assert outcome.code != 0
    assert "no other balancer stands by" in outcome.failure()
    # One that has just begun to listen may believe for a moment that it is alone.
    until(lambda: pair.holders() == [A], "it has the address still, and alone")
    pair.stands_by(B)


def test_one_that_leaves_for_good_gives_the_address_up(pair: Pair) -> None:
    # Its part of a provision without haproxy_floating_addresses.
    outcome = pair.does(A, "floating_leave")
    assert outcome.returncode == 0, outcome.stdout
    assert pair.holder() == B
    assert on(A, "ls /etc/keepalived/keepalived.conf 2>/dev/null; systemctl is-active keepalived; true").split() == [
        "inactive"
    ]
