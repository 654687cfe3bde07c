"""Which hosts a balancer asks by TLS, and what edges know of each other's certificates."""

from __future__ import annotations

import grp
import ipaddress
import os
import pwd
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.filter.balancers import peers_of, peers_seen
from ansible_collections.slipway.fleet.plugins.module_utils.edge.peers import (
    DAY,
    REPLACED_DAYS,
    Peers,
    Server,
    asks_by_tls,
    at_the_door,
    certificates_of,
    ends,
    fingerprint,
    make,
    split,
    troubles,
    wrong_servers,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.views.peers import tell, tell_between, tell_problems

HERE = tuple(map(ipaddress.ip_network, ("10.0.1.0/24", "203.0.113.0/24", "2001:db8::/64", "fd00:1::/64")))


@pytest.mark.parametrize(
    ("setting", "addresses", "by_tls"),
    [
        ("auto", ["10.0.1.7"], False),
        ("auto", ["fd00:1::7"], False),
        ("auto", ["127.0.0.1"], False),
        ("auto", ["fe80::1"], False),
        ("auto", ["169.254.3.4"], False),
        # Private, but behind a router; public, if in the same network; of a carrier, or of documentation.
        ("auto", ["10.0.2.7"], True),
        ("auto", ["fd00:2::7"], True),
        ("auto", ["203.0.113.7"], True),
        ("auto", ["2001:db8::7"], True),
        ("auto", ["100.64.0.1"], True),
        ("auto", ["8.8.8.8"], True),
        # A name that leads to several, or to none that is known.
        ("auto", ["10.0.1.7", "8.8.8.8"], True),
        ("auto", [], True),
        ("true", ["10.0.1.7"], True),
        ("false", ["8.8.8.8"], False),
    ],
)
def test_a_way_on_which_others_may_listen_is_by_tls(setting: str, addresses: list[str], by_tls: bool) -> None:
    assert asks_by_tls(setting, [*map(ipaddress.ip_address, addresses)], HERE) is by_tls


def test_the_door_is_another_port_of_the_same_address() -> None:
    assert at_the_door("[2001:db8::1]:80", 4443) == "[2001:db8::1]:4443"
    assert split("[2001:db8::1]:4443") == ("2001:db8::1", "4443")


def said(peers: Peers, **more: Any) -> dict[str, Any]:
    return {**peers.look(), **more}


def test_the_next_certificate_waits_for_all_that_have_to_do_with_this_edge(tmp_path: Path) -> None:
    peers, now = edge(tmp_path, "web1"), time.time()
    assert peers.make_due(now, check=True)
    assert peers.certificates() == []
    assert peers.make_due(now)
    assert not peers.make_due(now)
    (first,) = peers.certificates()
    assert ends(first) > now + 9 * 365 * DAY
    assert peers.make_due(now + REPLACED_DAYS * DAY + 1)
    _, following = peers.certificates()
    of_both, of_old = [fingerprint(first), fingerprint(following)], [fingerprint(first)]
    knows = {"asks": {"links": ["web1"]}, "certificates": [], "knows": {"links": {"web1": of_both}}}
    later, behind = now + 2 * DAY, {**knows, "knows": {"links": {"web1": of_old}, "other": {"web1": of_both}}}
    assert not peers.use_next({"lb1": knows}, now), "a clock may be behind"
    assert not peers.use_next({"lb1": knows, "lb2": behind}, later), "what counts is what it knows of the app"
    assert peers.use_next({"lb1": knows, "lb2": None}, later), "one that never asked this host by TLS"
    path = tmp_path / "peers/balancers/links/lb2.pem"
    path.parent.mkdir(parents=True)
    path.write_text(first)
    assert not peers.use_next({"lb1": knows, "lb2": None}, later), "one that does, and is away"
    assert not peers.use_next({"lb1": knows}, later), "one of another inventory"
    path.unlink()
    peers.turn_over()
    assert peers.certificates() == [following, first]
    assert "PRIVATE" not in (tmp_path / "peers/former.pem").read_text()
    assert peers.own.stat().st_mode & 0o777 == 0o640


def edge(directory: Path, name: str) -> Peers:
    return Peers(directory, name, pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name)


def test_a_host_listens_for_the_balancers_that_ask_it_by_tls_and_forgets_who_left(tmp_path: Path) -> None:
    host, balancer = edge(tmp_path / "web1", "web1"), edge(tmp_path / "lb1", "lb1")
    for one in (host, balancer):
        assert one.make_due(time.time())
    path = host.home / "balancers/links/lb1.pem"
    own = "".join(balancer.certificates())
    assert host.balancers(["links"], {"lb1": said(balancer, wants={"links": ["web1"]})}) == {path: own}
    assert host.balancers(["links"], {"lb1": said(balancer, wants={"links": ["web2"], "shop": ["web1"]})}) == {}
    # It does still, though that is to change.
    assert host.balancers(["links"], {"lb1": said(balancer, asks={"links": ["web1"]}, wants={})}) == {path: own}
    assert host.balancers(["links"], {"lb1": None}) == {}, "one that never was known"
    path.parent.mkdir(parents=True)
    path.write_text(own)
    assert host.balancers(["links"], {"lb1": None}) == {path: own}
    assert host.concerned({"lb1": None}) == {("links", "lb1")}
    # A balancer of another inventory's app is none of this run's, and stays.
    assert host.all_balancers({}, ["links"]) == []
    assert host.all_balancers({}, ["shop"]) == balancer.certificates()
    assert host.given(["links"]) == {path}


@pytest.mark.parametrize(
    ("piece", "works", "known", "tls"),
    [
        ("", True, True, True),
        ("    server web1 192.0.2.1:80\n", True, True, True),
        ("    server web1 192.0.2.1:80\n", False, True, False),
        ("    server web1 192.0.2.1:80\n", True, False, False),
        ("    server web1 192.0.2.1:4443 ssl verify required ca-file /x\n", False, True, True),
        ("    server web1 192.0.2.1:4443 ssl verify required ca-file /x\n", True, False, True),
        ("    server web2 192.0.2.2:80\n", False, True, True),
    ],
    ids=["new", "over", "not yet", "unknown", "stays", "forgotten", "new and away"],
)
def test_a_balancer_goes_over_where_tls_works_and_never_back(
    tmp_path: Path, piece: str, works: bool, known: bool, tls: bool
) -> None:
    balancer = edge(tmp_path, "lb1")
    balancer.make_due(time.time())
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps/links.cfg").write_text(piece)
    certificate = certificates_of(make("web1"))
    found = balancer.server(
        "links", "web1", "192.0.2.1:4443", {"certificates": certificate} if known else None,
        lambda where, certificates, own: "" if works else "no connection",
    )  # fmt: skip
    assert found.tls is tls
    assert bool(found.trouble) is not (works and known)
    # What HAProxy is to believe: this host, or nobody; it does not start without any.
    (text,) = balancer.hosts([found]).values() or ("",)
    assert text == ("" if not tls else "".join(certificate if known else balancer.certificates()))


def test_what_is_wrong_is_said_with_what_follows_from_it() -> None:
    servers = [
        Server("links", "web1", "192.0.2.1:4443", True, trouble="no connection"),
        Server("links", "web2", "192.0.2.2:4443", False, trouble="no connection"),
        Server("links", "web3", "192.0.2.3:4443", True),
    ]
    first, second = troubles(servers, "lb1")
    assert first.endswith("192.0.2.1:4443: no connection. Nothing is sent to web1 from there")
    assert second.endswith("It is asked by plain HTTP meanwhile")
    apps = {"links": {"web1": "192.0.2.1:80", "elsewhere": "192.0.2.9:80"}}
    (said,) = wrong_servers("true", apps, ["web1"])
    assert "the server elsewhere of app links" in said
    assert wrong_servers("auto", apps, ["web1"]) == []


def test_on_the_other_side_of_a_balancer_are_hosts_and_of_a_host_balancers() -> None:
    groups = {"web": ["web1", "both"], "load_balancer": ["lb1", "both"], "data": ["data1"]}
    asked = [peers_of(groups, name) for name in ("web1", "lb1", "both", "data1")]
    assert asked == [["lb1", "both"], ["web1", "both"], ["lb1", "web1"], []]
    assert peers_of({"web": ["web1"]}, "web1") == []


def test_what_this_run_saw_and_what_it_asked_others_for() -> None:
    hosts: list[dict[str, Any]] = [
        {"inventory_hostname": "lb1", "haproxy_peer_result": {"told": {"asks": {}}}},
        {"inventory_hostname": "lb2"},
        {"inventory_hostname": "lb3"},
    ]
    asked = {"results": [{"item": "lb2", "told": {"knows": {}}}, {"item": "lb3", "unreachable": True}]}
    assert peers_seen(hosts, asked) == {"lb1": {"asks": {}}, "lb2": {"knows": {}}, "lb3": None}
    assert peers_seen(hosts[:1]) == {"lb1": {"asks": {}}}


def test_status_shows_each_host_behind_each_balancer_and_fails_where_one_is_not_asked_as_it_should_be() -> None:
    server = SimpleNamespace(app="links", host="web1", at="192.0.2.1:4443", by="TLS", until="2036-01-01", problem="")
    results: dict[str, Any] = {
        "lb1": {"servers": [vars(server)], "problems": []},
        "lb2": {"servers": [], "problems": ["so"]},
    }
    assert tell(results).text.splitlines() == [
        "balancer  app    asks  at              by   certificates until  problem",
        "lb1       links  web1  192.0.2.1:4443  TLS  2036-01-01          none",
    ]
    assert (tell_problems(results).code, tell_problems(results).message) == (3, "so")
    assert tell_problems({"lb1": results["lb1"], "lb3": None}).code == 4


def test_the_doctor_says_how_hosts_are_asked_and_what_keeps_users_from_them() -> None:
    of_tls = {"app": "links", "at": "192.0.2.1:4443", "by": "TLS", "until": "2036-01-01", "problem": ""}
    servers = [
        {**of_tls, "host": "web2"},
        {**of_tls, "host": "web1"},
        {**of_tls, "host": "web3", "by": "HTTP", "until": None},
    ]
    page = {"app": "links", "declared": False, "since": "2026-11-27T20:22:55+00:00", "who": "ada"}
    results: dict[str, Any] = {
        "lb1": {"servers": servers, "problems": ["lb1 cannot ask web2 by TLS"], "pages": [page]},
        "web1": {"problems": ["web1: others may read the key"]},
        "web2": None,
        "web3": {"skipped": True},
    }
    by_page = (
        "maintenance page on lb1 (links) since 2026-11-27T20:22:55+00:00 by ada: users get that and not the app; "
        "slipway.fleet.maintenance -e slipway_maintenance=off takes it away"
    )
    assert tell_between(results).text.splitlines() == [
        "Load balancers, and the way from them to the hosts (docs/balancers.md):",
        "lb1 asks web1, web2 by TLS, with certificates until 2036-01-01; web3 by HTTP",
        "lb1 cannot ask web2 by TLS",
        "web1: others may read the key",
        "web2: it failed earlier in this run, see above",
        by_page,
    ]
    assert tell_between(results).code == 0
    assert tell_between({"web3": results["web3"]}).text == ""
    assert tell(results).text.splitlines()[-1] == by_page


def test_a_key_that_is_missing_or_that_others_may_read_is_told(tmp_path: Path) -> None:
    owner, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    peers = Peers(tmp_path, "lb1", owner, group)
    assert peers.flaws() == [], "nothing is there before it is provisioned"
    peers.make_due(time.time())
    peers.readable()
    assert peers.flaws() == []
    for mode, said in ((0o644, "others may read"), (0o600, "HAProxy cannot read")):
        peers.own.chmod(mode)
        (flaw,) = peers.flaws()
        assert flaw.startswith(said)
        assert f"{peers.own} (mode {mode:04o}, group {group})" in flaw
    assert peers.readable()
    assert peers.flaws() == []
    (flaw,) = Peers(tmp_path, "lb1", owner, "another").flaws()
    assert flaw.startswith("others may read")
    peers.own.write_text("".join(peers.certificates()))
    (flaw,) = peers.flaws()
    assert "has no certificate with its key" in flaw
    assert "no certificate of its own" in peers.server("links", "web1", "192.0.2.1:4443", None, lambda *_: "").trouble
