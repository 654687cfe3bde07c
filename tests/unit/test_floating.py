"""What a balancer takes part in a floating address with, and what is said of those that do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.filter.balancers import floating_beside, floating_clashes, standing_by
from ansible_collections.slipway.fleet.plugins.module_utils.edge import floating
from ansible_collections.slipway.fleet.plugins.module_utils.host import command
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.modules import floating as module

ROOT = Path(__file__).resolve().parents[2]
BALANCERS = ["203.0.113.11", "203.0.113.12"]


def host(**addresses: list[str]) -> dict[str, list[floating.Address]]:
    """What `ip` says of a host with these interfaces."""
    entries = [
        {
            "ifname": name,
            "addr_info": [
                {"local": one.split("/")[0], "prefixlen": int(one.split("/")[1])} for one in (*of, "fe80::1/64")
            ],
        }
        for name, of in {"lo": ["127.0.0.1/8"], **addresses}.items()
    ]
    return floating.interfaces(json.dumps(entries))


def test_interfaces_and_priority_are_found_on_the_host() -> None:
    there = host(eth0=["203.0.113.12/24", "2001:db8::12/64"], eth1=["10.0.0.12/16"])
    mine = floating.part(["203.0.113.10/24", "2001:db8::10/64"], BALANCERS, 0, there)
    assert (mine.own, mine.interface, mine.peers, mine.priority) == ("203.0.113.12", "eth0", ("203.0.113.11",), 199)
    assert mine.addresses == {"203.0.113.10/24": "eth0", "2001:db8::10/64": "eth0"}
    assert mine.router_id == floating.derived_router_id("203.0.113.10")
    assert floating.part(["203.0.113.10/24"], BALANCERS, 7, there).router_id == 7


def test_balancers_may_know_each_other_by_another_network() -> None:
    there = host(eth0=["203.0.113.3/24"], eth1=["10.0.0.11/16"])
    mine = floating.part(["203.0.113.10/24"], ["10.0.0.11", "10.0.0.12"], 0, there)
    assert (mine.interface, mine.priority) == ("eth1", 200)
    text = floating.configuration(mine, False, "/bin/true", "/bin/echo", "/run/x")
    assert "    interface eth1\n" in text
    assert "        203.0.113.10/24 dev eth0\n" in text
    assert "    track_interface {\n        eth0\n    }\n" in text


@pytest.mark.parametrize(
    ("addresses", "balancers", "there", "said"),
    [
        (["203.0.113.10/24"], ["10.0.0.1", "10.0.0.2"], {"eth0": ["203.0.113.11/24"]}, "this host has none of them"),
        (["203.0.113.10/24"], BALANCERS, {"eth0": ["203.0.113.11/24", "203.0.113.12/24"]}, "has several of them"),
        (["198.51.100.10/24"], BALANCERS, {"eth0": ["203.0.113.11/24"]}, "in no network of this host (203.0.113.0/24)"),
        (["203.0.113.10/25"], BALANCERS, {"eth0": ["203.0.113.11/24"]}, "203.0.113.10/25 is in no network"),
        # One that it has already tells of no network by itself.
        (["192.0.2.10/24"], BALANCERS, {"eth0": ["203.0.113.11/24", "192.0.2.10/24"]}, "192.0.2.10/24 is in no"),
    ],
)
def test_what_cannot_be_had_here_is_refused(
    addresses: list[str], balancers: list[str], there: dict[str, list[str]], said: str
) -> None:
    with pytest.raises(floating.FloatingError) as error:
        floating.part(addresses, balancers, 0, host(**there))
    assert said in str(error.value)


def test_the_configuration_of_a_balancer() -> None:
    there = host(eth0=["203.0.113.11/24", "2001:db8::11/64"])
    mine = floating.part(["203.0.113.10/24", "2001:db8::10/64"], BALANCERS, 51, there)
    text = floating.configuration(mine, False, "/bin/check it", "/bin/told", "/run/x/haproxy")
    assert text.startswith(floating.HEADER)
    for part in (
        "    nopreempt\n",
        "    virtual_router_id 51\n    priority 200\n",
        "    unicast_src_ip 203.0.113.11\n    unicast_peer {\n        203.0.113.12\n    }\n",
        "    virtual_ipaddress {\n        203.0.113.10/24 dev eth0\n    }\n",
        # VRRP is of one family, and this host must not connect with an address that it may have to give up.
        "    virtual_ipaddress_excluded {\n        2001:db8::10/64 dev eth0 preferred_lft 0\n    }\n",
        '    script "/bin/check it 203.0.113.11 203.0.113.12:80"\n',
        '    notify "/bin/told"\n',
        'track_file haproxy {\n    file "/run/x/haproxy"\n    weight 1\n    init_file 0\n}\n',
        "    track_file {\n        haproxy\n    }\n",
        "    advert_int 0.2\n    down_timer_adverts 5\n",
    ):
        assert part in text
    assert "track_interface" not in text
    assert "nopreempt" not in floating.configuration(mine, True, "", "", "")


def test_between_balancers_of_ipv6_the_addresses_of_ipv4_go_along() -> None:
    there = host(eth0=["203.0.113.11/24", "2001:db8::11/64"])
    mine = floating.part(["203.0.113.10/24", "2001:db8::10/64"], ["2001:db8::11", "2001:DB8::0:12"], 0, there)
    assert mine.peers == ("2001:db8::12",)
    text = floating.configuration(mine, False, "", "", "")
    assert "    virtual_ipaddress {\n        2001:db8::10/64 dev eth0 preferred_lft 0\n    }\n" in text
    assert "    virtual_ipaddress_excluded {\n        203.0.113.10/24 dev eth0\n    }\n" in text


def test_balancers_with_lists_of_different_length_hear_each_other() -> None:
    there = host(eth0=["203.0.113.11/24", "2001:db8::11/64"])
    before = ["203.0.113.10/24"]
    lists = [before, [*before, "203.0.113.20/24"], ["2001:db8::10/64", *before, "203.0.113.20/24"]]
    parts = [floating.part(addresses, BALANCERS, 0, there) for addresses in lists]
    assert len({one.router_id for one in parts}) == 1
    for one in parts:
        text = floating.configuration(one, False, "", "", "")
        assert "    virtual_ipaddress {\n        203.0.113.10/24 dev eth0\n    }\n" in text
        assert all(f" {address} dev eth0" in text for address in one.addresses)
    with pytest.raises(floating.FloatingError, match="no address of IPv6"):
        floating.announced(before, ["2001:db8::11", "2001:db8::12"])


def test_a_number_is_made_of_the_address() -> None:
    numbers = {floating.derived_router_id(f"203.0.113.{last}/24") for last in range(1, 250)}
    assert min(numbers) >= 1
    assert max(numbers) <= 255
    assert len(numbers) > 100


@pytest.mark.parametrize(
    ("links", "said"),
    [
        ({}, ""),
        ({"203.0.113.10": "02:00:00:00:00:02", "203.0.113.12": "02:00:00:00:00:02"}, ""),
        # A router that answers for every address of the network.
        ({"203.0.113.10": "02:00:00:00:00:fe", "203.0.113.12": "02:00:00:00:00:fe"}, ""),
        (
            {"203.0.113.10": "02:00:00:00:00:09", "203.0.113.12": "02:00:00:00:00:02"},
            "02:00:00:00:00:09 that is",
        ),
    ],
)
def test_an_address_of_another_machine_is_told(links: dict[str, str], said: str) -> None:
    mine = floating.part(["203.0.113.10/24"], BALANCERS, 0, host(eth0=["203.0.113.11/24"]))

    def link_of(address: str, interface: str) -> str:
        return links.get(address, "") if interface == "eth0" else "no"

    found = floating.taken(mine, [], link_of, lambda address: True)
    assert (said in found) if said else found == ""


def test_an_address_that_is_added_later_is_looked_at_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "keepalived.conf"
    options = {"addresses": ["203.0.113.10/24"], "balancers": BALANCERS, "router_id": 0, "preempt": False}
    options |= {"check": "/bin/true", "notify": "/bin/true", "stopped_file": "/run/x"}
    asked: list[str] = []

    def link_of(address: str, interface: str) -> str:
        asked.append(address)
        return f"of {address}" if address == "203.0.113.20" else ""

    monkeypatch.setattr(floating, "of_this_host", lambda: host(eth0=["203.0.113.11/24"]))
    monkeypatch.setattr(floating, "link_of", link_of)
    config.write_text(module.text(options, config))
    assert asked == ["203.0.113.12", "203.0.113.10"]
    asked.clear()
    assert module.text(options, config) == config.read_text()
    assert asked == [], "a second run asks nobody"
    options["addresses"] = ["203.0.113.10/24", "203.0.113.20/24"]
    with pytest.raises(
        SlipwayError, match=r"Nothing of the floating addresses was changed: .* 203\.0\.113\.20 is in use already"
    ):
        module.text(options, config)
    assert "203.0.113.10" not in asked


@pytest.mark.parametrize("is_edge", [True, False])
def test_a_balancer_with_the_address_is_known_where_they_know_each_other_by_another_network(is_edge: bool) -> None:
    there = host(eth0=["203.0.113.3/24"], eth1=["10.0.0.11/16"])
    mine = floating.part(["203.0.113.10/24"], ["10.0.0.11", "10.0.0.12"], 0, there)
    links = {"eth0": "02:00:00:00:00:02", "eth1": "02:00:00:00:01:02"}
    found = floating.taken(mine, [], lambda address, interface: links[interface], lambda address: is_edge)
    assert bool(found) != is_edge


@pytest.mark.parametrize(
    ("state", "link"), [("REACHABLE", "02:00:00:00:00:09"), ("PERMANENT", "02:00:00:00:00:09"), ("STALE", "")]
)
def test_one_that_was_there_an_hour_ago_does_not_answer(state: str, link: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(words: list[str], timeout: float) -> command.Ran:
        ran.append(words)
        entry = {"dst": "203.0.113.10", "lladdr": "02:00:00:00:00:09", "state": [state]}
        return command.Ran(tuple(words), 0, json.dumps([entry]))

    monkeypatch.setattr(command, "run", run)
    monkeypatch.setattr(floating, "NEIGHBOUR", 0.05)
    assert floating.link_of("203.0.113.10", "lo") == link
    assert ran[0] == ["ip", "neigh", "flush", "to", "203.0.113.10", "dev", "lo"]


def test_a_hand_over_that_is_killed_keeps_nobody_out_for_good() -> None:
    told = floating.holding(["203.0.113.10", "2001:db8::10"], 31.5).splitlines()
    assert told[-2:] == [
        "add element inet slipway_hand_over of_ip { 203.0.113.10 timeout 32s }",
        "add element inet slipway_hand_over of_ip6 { 2001:db8::10 timeout 32s }",
    ]
    assert not any("203.0.113.10" in line or "2001:db8::10" in line for line in told[:-2]), "only what times out"
    elements = [{"elem": {"val": "203.0.113.10", "timeout": 32, "expires": 31}}]
    sets = [{"set": {"name": "of_ip", "elem": elements}}, {"set": {"name": "of_ip6"}}]
    assert floating.holding_now(json.dumps({"nftables": [{"metainfo": {}}, *sets]})) == ["203.0.113.10"]


def test_a_configuration_of_others_is_known(tmp_path: Path) -> None:
    path = tmp_path / "keepalived.conf"
    assert not floating.is_foreign(path)
    assert not floating.is_for(path, [])
    path.write_text("vrrp_instance mine {}\n")
    assert floating.is_foreign(path)
    assert not floating.is_for(path, [])
    path.write_text(f"{floating.HEADER}virtual_ipaddress {{ 203.0.113.10/24 dev eth0 }}")
    assert not floating.is_foreign(path)
    assert floating.is_for(path, ["203.0.113.10/24"])
    assert not floating.is_for(path, ["203.0.113.10/24", "203.0.113.20/24"])


def test_what_others_have_configured_is_left_and_what_is_gone_is_not_theirs(tmp_path: Path) -> None:
    config = tmp_path / "keepalived.conf"
    options: dict[str, Any] = {name: [] for name in ("addresses", "balancers", "router_id")}
    options |= {"state": "absent", "config": str(config), "away_file": str(tmp_path / "away")}
    config.write_text("vrrp_instance mine {}\n")
    assert module.configure(options, False) == {"changed": False, "foreign": True}
    assert config.exists()
    config.write_text(floating.HEADER)
    for changed in (True, False):
        found = module.configure(options, False)
        # Where the run before this one was cut off, keepalived may run still.
        assert (found["changed"], found["foreign"], config.exists()) == (changed, False, False)


def test_one_that_leaves_stops_before_its_configuration_goes() -> None:
    tasks = yaml.safe_load((ROOT / "roles/haproxy/tasks/floating_leave.yml").read_text())
    stops, removes = (
        [at for at, task in enumerate(tasks) if name in task and not task.get("check_mode")]
        for name in ("ansible.builtin.systemd_service", "slipway.fleet.floating")
    )
    assert stops < removes
    assert "changed" not in tasks[stops[0]]["when"], "a run that was cut off may have removed it"


def said(**more: Any) -> dict[str, Any]:
    well = {"configured": True, "active": True, "enabled": True, "away": False, "serves": True, "state": "BACKUP"}
    return {**well, "addresses": ["203.0.113.10", "2001:db8::10"], "holds": [], "kept_out": [], **more}


@pytest.mark.parametrize(
    ("found", "words", "stands_by"),
    [
        (said(), [], True),
        (said(state="MASTER", holds=["203.0.113.10", "2001:db8::10"]), [], True),
        (said(state="MASTER", holds=["203.0.113.10"]), ["it has 203.0.113.10 and not 2001:db8::10"], True),
        (said(configured=False, active=False), ["keepalived is not configured for these addresses here"], False),
        # It has others.
        (said(configured=False), ["keepalived is not configured for these addresses here"], False),
        (said(kept_out=["203.0.113.10"]), ["new connections to 203.0.113.10 wait here"], True),
        (said(active=False), ["keepalived does not run"], False),
        (said(enabled=False), ["does not start with the host"], True),
        (said(away=True, serves=False, state="FAULT"), ["it was taken out (slipway.fleet.drain)"], False),
        (said(serves=False, state="FAULT"), ["its HAProxy does not answer for itself"], False),
        (said(state="FAULT"), ["keepalived is in the state FAULT"], False),
        (said(state=""), ["keepalived is in the state that it begins with"], False),
    ],
)
def test_what_is_wrong_with_a_balancer(found: dict[str, Any], words: list[str], stands_by: bool) -> None:
    problems = floating.report(found)
    assert len(problems) == len(words), problems
    assert all(word in problem for word, problem in zip(words, problems, strict=True))
    assert floating.stands_by(found) == stands_by


def test_who_stands_by() -> None:
    results: list[dict[str, Any]] = [
        {"item": "lb1", "told": {"stands_by": True}},
        {"item": "lb2", "told": {"stands_by": False}},
        {"item": "lb3", "unreachable": True},
    ]
    assert standing_by(results) == ["lb1"]


def test_who_may_take_over() -> None:
    addresses = ["203.0.113.10/24", "2001:db8::10/64"]
    hosts: list[dict[str, Any]] = [
        {"inventory_hostname": "web1"},
        {"inventory_hostname": "web2", "haproxy_floating_addresses": []},
        {"inventory_hostname": "lb1", "haproxy_floating_addresses": addresses},
        {"inventory_hostname": "lb2", "haproxy_floating_addresses": ["2001:DB8::0:10/64", "203.0.113.10/24"]},
        {"inventory_hostname": "lb3", "haproxy_floating_addresses": ["203.0.113.20/24"]},
    ]
    assert floating_beside(hosts, "lb1") == ["lb2"]
    assert floating_beside(hosts, "lb3") == floating_beside(hosts, "web1") == floating_beside(hosts, "web2") == []


def balancer(name: str, *addresses: str, **more: Any) -> dict[str, Any]:
    wanted = {"addresses": list(addresses), "balancers": BALANCERS, "router_id": 0, **more}
    return {"inventory_hostname": name, "haproxy_floating_check_result": {"wanted": wanted}}


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ([{"inventory_hostname": "web1"}], []),
        ([balancer("lb1", "203.0.113.10/24"), balancer("lb2", "203.0.113.10/24")], []),
        ([balancer("lb1", "203.0.113.10/24"), balancer("lb3", "203.0.113.20/24")], []),
        (
            [balancer("lb1", "203.0.113.10/24"), balancer("lb2", "203.0.113.10/24", "203.0.113.20/24")],
            ["lb1 and lb2 both have 203.0.113.10, and not all of the same addresses"],
        ),
        (
            [
                balancer("lb1", "203.0.113.10/24", router_id=5),
                balancer("lb2", "203.0.113.10/24", router_id=5),
                balancer("lb3", "203.0.113.20/24", router_id=5),
            ],
            ["lb1 and lb2 (of 203.0.113.10) and lb3 (of 203.0.113.20) both have the number 5"],
        ),
        (
            [
                balancer("lb1", "203.0.113.10/24"),
                balancer("lb2", "203.0.113.10/24", balancers=BALANCERS[::-1]),
            ],
            ["haproxy_floating_balancers differs between lb1 and lb2"],
        ),
        (
            [
                balancer("lb1", "203.0.113.10/24", "203.0.113.20/24"),
                balancer("lb2", "203.0.113.20/24", "203.0.113.10/24"),
            ],
            ["haproxy_floating_addresses is in another order on each of lb1 and lb2"],
        ),
    ],
)
def test_hosts_that_disagree(hosts: list[dict[str, Any]], words: list[str]) -> None:
    found = floating_clashes(hosts)
    assert len(found) == len(words), found
    assert all(word in sentence for word, sentence in zip(words, found, strict=True))
