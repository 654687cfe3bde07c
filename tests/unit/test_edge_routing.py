"""Which app gets a request, and what two apps cannot both have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.routing import (
    ASKED,
    conflicts,
    leading_to,
    not_the_same,
    other_spellings,
    parse,
    part_of,
    routes,
)

from tests.unit.test_edge_pieces import piece


@pytest.mark.parametrize(
    ("there", "here", "former", "refused"),
    [
        (["a.example.org"], ["b.example.org"], [], True),
        (["a.example.org", "www.a.example.org"], ["b.example.org", "WWW.a.example.org"], [], False),
        (["*.example.org"], ["b.example.org"], [], False),
        (["a.example.org"], ["*.example.org"], [], False),
        (["a.example.org"], ["*.a.example.org"], [], True),
        (["a.example.org"], ["b.example.org"], ["A.example.org"], False),
        (["a.example.org"], ["b.example.org"], ["c.example.org"], True),
        ([], ["b.example.org"], [], False),
        (["a.example.org"], [], [], False),
        (["b.example.org"], ["a.example.org"], ["c.example.org"], True),
        (["b.example.org", "former a.example.org"], ["A.example.org"], [], False),
        (["b.example.org", "former a.example.org"], ["c.example.org"], [], True),
    ],
)
def test_an_app_of_the_same_name_and_of_none_of_its_names_is_another_one(
    there: list[str], here: list[str], former: list[str], refused: bool
) -> None:
    names = [name for name in there if not name.startswith("former ")]
    before = "".join(f"# former name: {name[7:]}\n" for name in there if name not in names)
    said = not_the_same(parse("shop", before + piece("shop", *names)), here, former)
    assert bool(said) is refused
    if said:
        assert said.startswith(f"shop is behind this edge as {', '.join(names)} already, and here shop is {here[0]}")
        assert f"fastapi_app_former_names: [{names[0]}]" in said


API = "{ path,field(2,/),url_dec -m str api }"
V1 = "{ path,field(3,/),url_dec -m str v1 }"


def test_requests_go_by_names_told_in_full_then_by_stars_then_to_the_app_without_names() -> None:
    texts = {
        "a": piece("a", "*.example.org", "*.deep.example.org"),
        "b": piece("b", "X.example.org", redirects=("Old.example.org",)),
        "c": piece("c"),
    }
    assert routes([parse(app, text) for app, text in texts.items()]) == [
        f"use_backend app_b if {{ {ASKED} -m str old.example.org }}",
        f"use_backend app_b if {{ {ASKED} -m str x.example.org }}",
        f"use_backend app_a if {{ {ASKED} -m end .deep.example.org }}",
        f"use_backend app_a if {{ {ASKED} -m end .example.org }}",
        "default_backend app_c",
    ]
    assert routes([]) == ["default_backend no_app"]


def test_of_a_name_that_apps_share_the_longest_path_is_the_first_one() -> None:
    texts = {
        "a": piece("a", "x.example.org", "*.example.org"),
        "b": piece("b", "x.example.org", "*.example.org", paths=("/api",), redirects=("old.example.org",)),
        "c": piece("c", "x.example.org", paths=("/api/v1",)),
        "d": piece("d", paths=("/api",)),
        "e": piece("e"),
    }
    name, star = f"{{ {ASKED} -m str x.example.org }}", f"{{ {ASKED} -m end .example.org }}"
    assert routes([parse(app, text) for app, text in texts.items()]) == [
        f"use_backend app_b if {{ {ASKED} -m str old.example.org }}",
        f"use_backend app_c if {name} {API} {V1}",
        f"use_backend app_b if {name} {API}",
        f"use_backend app_a if {name}",
        f"use_backend app_b if {star} {API}",
        f"use_backend app_a if {star}",
        f"use_backend app_d if {API}",
        "default_backend app_e",
    ]


@pytest.mark.parametrize(
    ("path", "part"),
    [("/api", "/api"), ("/api/", "/api"), ("/api/v1/x", "/api/v1"), ("/apix", ""), ("/API", ""), ("/", "")],
)
def test_a_part_ends_on_the_border_of_a_segment(path: str, part: str) -> None:
    assert part_of(path, ["", "/api", "/api/v1"]) == part
    assert part_of(path, ["/api", "/api/v1"]) == (part or None)


@pytest.mark.parametrize(
    ("mine", "other", "said"),
    [
        (piece("links"), piece("shop"), "and so does shop, which is behind this edge already"),
        (piece("links", "a.example"), piece("shop", "A.example"), "a.example is a host name of shop"),
        (piece("links", "*.example"), piece("shop", "*.example"), "*.example is a host name of shop"),
        (
            piece("links", "a.example", redirects=("www.example",)),
            piece("shop", "www.example"),
            "www.example is a host name of shop, which is behind this edge already; take it out of fastapi_app_redir",
        ),
        (
            piece("links", "www.example"),
            piece("shop", "s.example", redirects=("WWW.example",)),
            "www.example is a redirect name of shop, which is behind this edge already; take it out of fastapi_app_ho",
        ),
        (
            piece("links", "a.example"),
            piece("shop", "a.example"),
            "; or give one of them fastapi_app_paths, such as [/api]",
        ),
        (piece("links", "a.example", paths=("/a", "/b/c")), piece("shop", "a.example", paths=("/b", "/A")), ""),
        (piece("links", "a.example", paths=("/a",)), piece("shop", "a.example"), ""),
        (
            piece("links", "a.example", "b.example", paths=("/a", "/b")),
            piece("shop", "c.example", "B.example", paths=("/b", "/c")),
            "/b under b.example is a path of shop, which is behind this edge already; take it out of fastapi_app_paths",
        ),
        (piece("links", paths=("/b",)), piece("shop", paths=("/b", "/c")), "/b under any name is a path of shop"),
        (piece("links", paths=("/b",)), piece("shop"), ""),
        (
            piece("links", "a.example", paths=("/a",)),
            piece("shop", "s.example", redirects=("a.example",)),
            "a.example is a redirect name of shop",
        ),
        (
            piece("links", "a.example", paths=("/a", "/readyz")),
            piece("shop", "a.example", looks=("/readyz",)),
            "/readyz, by which shop is looked at under a.example, is links's by its paths (/a, /readyz), and one",
        ),
        (
            piece("links", "a.example", paths=("/a",), looks=("/a/b/readyz",)),
            piece("shop", "a.example", paths=("/a/b",), looks=("/a/b/readyz",)),
            "/a/b/readyz, by which links is looked at under a.example, is shop's by its paths (/a/b)",
        ),
        (
            piece("links", "a.example", paths=("/a",), looks=("/a/readyz",)),
            piece("shop", "a.example", looks=("/readyz", "/ab")),
            "",
        ),
        (piece("links", "*.example"), piece("shop", "a.example"), ""),
        (piece("links"), piece("shop", "a.example"), ""),
    ],
)
def test_what_two_apps_cannot_both_have_is_refused_by_name(mine: str, other: str, said: str) -> None:
    found = list(conflicts([parse("links", mine)], [parse("shop", other)]))
    assert len(found) == bool(said), found
    assert all(said in sentence for sentence in found)


def test_what_leads_to_a_path_by_its_segments() -> None:
    keys = "{ path,url_dec -m sub /admin } { path,url_dec -m sub /keys }"
    assert leading_to("/admin/keys") == [
        "{ path,url_dec,word(1,/) -m str admin } { path,url_dec,word(2,/) -m str keys }",
        f"{{ path,url_dec -m sub /./ /../ }} {keys}",
    ]
    assert leading_to("/") == ["TRUE"]


def test_a_header_has_a_spelling_for_each_dash() -> None:
    assert other_spellings("Client-Cert") == ["Client_Cert"]
    assert other_spellings("X-Real-IP") == ["X-Real_IP", "X_Real-IP", "X_Real_IP"]
    assert other_spellings("Proxy") == []


def test_no_word_is_used_that_haproxy_2_4_does_not_know() -> None:
    """That of Ubuntu 22.04, which the lab cannot run; the first two came with 2.5, `init-state` with 3.1."""
    root = Path(__file__).parents[2]
    sources = [*root.glob("roles/haproxy/templates/*.j2"), *root.glob("plugins/module_utils/edge/*.py")]
    assert len(sources) > 10
    newer = re.compile(r",host_only\b|\bset-var-fmt\b|(?<!`)init-state")
    assert [str(path) for path in sources if newer.search(path.read_text(encoding="utf-8"))] == []
