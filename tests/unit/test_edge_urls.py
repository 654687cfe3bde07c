"""Which edges a run asks while hosts turn over."""

from __future__ import annotations

from ansible_collections.slipway.fleet.plugins.filter.fleet import edge_urls


def test_edges_are_the_balancers_where_there_are_some() -> None:
    known = {"web1": {"ansible_host": "192.0.2.1"}, "lb1": {"slipway_url": "https://links.example.com"}, "lb2": {}}
    groups = {"web": ["web1"], "load_balancer": ["lb1", "lb2"]}
    assert edge_urls(known, groups) == ["https://links.example.com", "http://lb2"]
    assert edge_urls(known, {"web": ["web1"]}) == ["http://192.0.2.1"]
