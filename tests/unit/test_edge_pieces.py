"""Each app's piece of an edge: what is put together of them, and what is refused before anything is changed."""

from __future__ import annotations

import base64
import json
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import EdgeError, outdated
from ansible_collections.slipway.fleet.plugins.module_utils.edge.pieces import (
    Present,
    Settings,
    Wanted,
    made,
    present,
)
from ansible_collections.slipway.fleet.plugins.module_utils.edge.routing import parse
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import Damaged, SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.host.files import TreeError
from ansible_collections.slipway.fleet.plugins.modules.edge import act

EDGE = "# Ansible managed\nglobal\n\nfrontend edge\n    bind :1\n"
TLS = {"haproxy_tls_certificate": "1f", "haproxy_addresses": ["*"]}
PLAIN = {"haproxy_tls_certificate": "", "haproxy_addresses": ["*"]}


def piece(
    app: str,
    *names: str,
    shown: bool = False,
    redirects: tuple[str, ...] = (),
    paths: tuple[str, ...] = (),
    looks: tuple[str, ...] = (),
) -> str:
    about = "".join(f"# host name: {name}\n" for name in names)
    about += "".join(f"# path: {path}\n" for path in paths) + "".join(f"# looked at by: {path}\n" for path in looks)
    about += "".join(f"# redirect name: {name}\n" for name in redirects)
    return f"# Ansible managed\n{about}# maintenance: {'on' if shown else 'off'}\nbackend app_{app}\n    server x\n"


def there(settings: Settings | None = None, **texts: str) -> Present:
    return Present({app: parse(app, text) for app, text in texts.items()}, EDGE if texts else "", settings)


def test_other_apps_pieces_and_pages_stay_as_they_are() -> None:
    found = there(Settings(("shop",), PLAIN), shop=piece("shop", "s.example", shown=True))
    files = made(found, Wanted({"links": piece("links")}, EDGE, PLAIN)).files
    assert files["apps/shop.cfg"] == found.pieces["shop"].text
    assert files["maintenance.map"].endswith("links off\nshop on\n")
    assert files["haproxy.cfg"].count("\nbackend app_") == 2
    assert list(files)[-1] == "haproxy.cfg"
    assert json.loads(files["edge.json"])["apps"] == ["shop"], "whose settings they are stays true"


def test_nothing_is_changed_where_two_apps_want_the_same() -> None:
    found = there(Settings(("shop",), PLAIN), shop=piece("shop", "a.example", paths=("/b",)))
    with pytest.raises(
        EdgeError, match=r"^Nothing of the edge was changed: /b under a\.example is a path of shop, which .*\.$"
    ):
        made(found, Wanted({"links": piece("links", "a.example", paths=("/b",))}, EDGE, PLAIN))
    assert set(made(found, Wanted({"links": piece("links", "a.example")}, EDGE, PLAIN)).pieces) == {"links", "shop"}


def test_what_no_app_has_of_a_name_is_not_there_and_no_other_name_is_served() -> None:
    found = there(
        Settings(("shop",), PLAIN), shop=piece("shop", "b.example"), api=piece("api", "*.example", paths=("/b",))
    )
    text = made(found, Wanted({"links": piece("links", "a.example", paths=("/a",))}, EDGE, PLAIN)).files["haproxy.cfg"]
    assert text.endswith(
        "# Asked under a name that no app has, or for a path of it that none has.\nbackend no_app\n"
        "    http-request deny deny_status 404 if { req.hdr(Host),field(1,:),lower -m end .example }\n"
        "    http-request deny deny_status 404 if { req.hdr(Host),field(1,:),lower -m str a.example }\n"
        "    http-request deny deny_status 421\n"
    )
    plain = made(there(), Wanted({"shop": piece("shop", "b.example")}, EDGE, PLAIN)).files["haproxy.cfg"]
    assert plain.endswith(
        "# Asked under a name that no app has.\nbackend no_app\n    http-request deny deny_status 421\n"
    )


def test_an_app_of_another_inventory_is_not_taken_for_this_one_by_its_name() -> None:
    found = there(Settings(("shop",), PLAIN), shop=piece("shop", "s.example"))
    with pytest.raises(
        EdgeError, match=r"^Nothing of the edge was changed: shop is behind this edge as s\.example already, and"
    ):
        made(found, Wanted({"shop": piece("shop", "other.example")}, EDGE, PLAIN))
    renamed = "# former name: s.example\n" + piece("shop", "other.example")
    assert made(found, Wanted({"shop": renamed}, EDGE, PLAIN)).pieces["shop"].host_names == ("other.example",)
    after = there(Settings(("shop",), PLAIN), shop=renamed)
    assert made(after, Wanted({"shop": piece("shop", "s.example")}, EDGE, PLAIN)).pieces["shop"].former_names == ()
    redirected = piece("shop", "other.example", redirects=("S.example",))
    assert made(found, Wanted({"shop": redirected}, EDGE, PLAIN)).pieces["shop"].host_names == ("other.example",)


OTHERS = there(Settings(("shop",), TLS), shop=piece("shop", "s.example"))


def test_other_settings_than_those_of_the_app_that_was_there_first_are_refused_by_name() -> None:
    with pytest.raises(EdgeError) as refused:
        made(OTHERS, Wanted({"links": piece("links")}, EDGE, PLAIN | {"haproxy_addresses": ["10.0.0.1"]}))
    said = str(refused.value)
    assert "those of shop, from an inventory of its own" in said
    assert 'haproxy_addresses (there ["*"], here ["10.0.0.1"])' in said
    assert "haproxy_tls_certificate (there another, here none)" in said
    assert "1f" not in said
    assert "haproxy_shared_settings: keep" in said


@pytest.mark.parametrize("name", ["eab", "fallback_eab", "dns_hook", "dns_environment"])
def test_a_digest_is_told_as_another(name: str) -> None:
    known = there(Settings(("shop",), PLAIN | {f"haproxy_acme_{name}": "3f9c"}), shop=piece("shop", "s.example"))
    with pytest.raises(EdgeError) as refused:
        made(known, Wanted({"links": piece("links")}, EDGE, PLAIN | {f"haproxy_acme_{name}": ""}))
    assert f"haproxy_acme_{name} (there another, here none)" in str(refused.value)
    assert "3f9c" not in str(refused.value)


@pytest.mark.parametrize(
    ("found", "values", "shared", "kept", "apps"),
    [
        (OTHERS, TLS, "refuse", False, ["shop"]),
        (OTHERS, PLAIN, "keep", True, ["shop"]),
        (OTHERS, PLAIN, "replace", False, ["links"]),
        # this inventory's own may be changed by it, and so may those of an app that has gone
        (there(Settings(("links",), TLS), links="", shop=piece("shop", "s")), PLAIN, "refuse", False, ["links"]),
        (there(Settings(("old",), TLS), shop=piece("shop", "s")), PLAIN, "refuse", False, ["links"]),
        (there(), PLAIN, "refuse", False, ["links"]),
        # a host from before pieces, of this inventory, with an app that it no longer lists
        (there(None, links="", shop=piece("shop", "s")), PLAIN, "refuse", False, ["links"]),
        (there(None, shop=piece("shop", "s")), PLAIN, "replace", False, ["links"]),
    ],
)
def test_whose_settings_an_edge_has(
    found: Present, values: dict[str, Any], shared: str, kept: bool, apps: list[str]
) -> None:
    done = made(found, Wanted({"links": piece("links")}, EDGE + "# new\n", values, shared))
    assert done.kept is kept
    assert ("# new" in done.files["haproxy.cfg"]) is not kept
    assert json.loads(done.files["edge.json"])["apps"] == apps


def test_an_edge_of_an_unknown_inventory_is_not_changed() -> None:
    found = there(None, shop=piece("shop", "s"))
    with pytest.raises(EdgeError, match="serves shop, and was made by a version that did not say"):
        made(found, Wanted({"links": piece("links")}, EDGE, PLAIN))
    kept = made(found, Wanted({"links": piece("links")}, EDGE, PLAIN, "keep"))
    assert (kept.edge, "edge.json" in kept.files) == (found.edge, False)


def options(directory: Path, pieces: dict[str, str], edge: str = EDGE, **more: Any) -> dict[str, Any]:
    sent = {"pieces": pieces, "files": {}, **({"edge": edge} if edge else {})}
    return {
        "directory": str(directory),
        "files": [],
        "settings": PLAIN,
        "shared_settings": "refuse",
        "removed": [],
        "switched": str(directory / "switched.map"),
        "stale": [],
        "owner": str(os.getuid()),
        "group": str(os.getgid()),
        "validate": "grep -q global %s",
        "contents": base64.b64encode(json.dumps(sent).encode()).decode(),
        **more,
    }


def texts(directory: Path) -> dict[str, str]:
    return {str(path.relative_to(directory)): path.read_text() for path in directory.rglob("*") if path.is_file()}


def test_a_second_inventory_changes_what_is_its_own_and_a_second_run_nothing(tmp_path: Path) -> None:
    assert act(options(tmp_path, {"links": piece("links")}), check_mode=True)["changed"]
    assert not texts(tmp_path)
    act(options(tmp_path, {"links": piece("links")}), check_mode=False)
    before = texts(tmp_path)
    assert not act(options(tmp_path, {"links": piece("links")}), check_mode=False)["changed"]
    told = act(options(tmp_path, {"shop": piece("shop", "s.example")}), check_mode=False)["changed_paths"]
    assert [Path(path).name for path in told] == ["shop.cfg", "maintenance.map", "haproxy.cfg"]
    assert texts(tmp_path)["apps/links.cfg"] == before["apps/links.cfg"]
    assert not act(options(tmp_path, {"links": piece("links")}), check_mode=False)["changed"]
    assert oct((tmp_path / "haproxy.cfg").stat().st_mode)[-3:] == "640"


def test_what_is_refused_changes_nothing(tmp_path: Path) -> None:
    act(options(tmp_path, {"links": piece("links")}), check_mode=False)
    before = texts(tmp_path)
    for check_mode in (True, False):
        with pytest.raises(EdgeError, match="links, which is behind this edge already"):
            act(options(tmp_path, {"shop": piece("shop")}), check_mode)
    with pytest.raises(TreeError, match=r"haproxy.cfg is refused by its validator .* no file was changed"):
        act(options(tmp_path, {"shop": piece("shop", "s")}, edge="frontend edge\n"), check_mode=False)
    assert texts(tmp_path) == before


def test_inventories_that_come_at_once_lose_nothing_of_each_other(tmp_path: Path) -> None:
    apps = [f"app{number}" for number in range(12)]
    with ThreadPoolExecutor(len(apps)) as pool:
        runs = [
            pool.submit(act, options(tmp_path, {app: piece(app, f"{app}.example")}), check_mode=False) for app in apps
        ]
    assert all(run.result()["changed"] for run in runs)
    assert (tmp_path / "haproxy.cfg").read_text().count("\nbackend app_") == len(apps)


def test_a_removed_app_leaves_nothing_and_takes_nothing_along(tmp_path: Path) -> None:
    (tmp_path / "switched.map").write_text("# by operators\nlinks on\nshop on\n")
    act(options(tmp_path, {"links": piece("links")}), check_mode=False)
    act(options(tmp_path, {"shop": piece("shop", "s.example")}), check_mode=False)
    pages = [tmp_path / f"pages/planned{name}.html" for name in ("", "-links", "-shop")]
    pages[0].parent.mkdir()
    for page in pages:
        page.touch()
    assert act(options(tmp_path, {}, edge="", removed=["links"]), check_mode=False)["changed"]
    assert [page.exists() for page in pages] == [True, False, True]
    left = texts(tmp_path)
    assert "links" not in "".join(left.values())
    assert "backend app_shop" in left["haproxy.cfg"]
    assert "default_backend no_app" in left["haproxy.cfg"]
    assert left["switched.map"].endswith("shop on\n")
    assert not act(options(tmp_path, {}, edge="", removed=["links"]), check_mode=False)["changed"]
    act(options(tmp_path, {"shop": piece("shop", "s.example")}, settings=TLS), check_mode=False)
    assert json.loads(texts(tmp_path)["edge.json"])["apps"] == ["shop"], "the settings are those of who is left"


def test_a_removal_from_a_host_without_an_edge_does_nothing(tmp_path: Path) -> None:
    assert not act(options(tmp_path, {}, edge="", removed=["links"]), check_mode=False)["changed"]
    assert not texts(tmp_path)


def test_what_nothing_reads_any_more_goes_with_the_configuration_unless_it_is_another_inventorys(
    tmp_path: Path,
) -> None:
    stale = tmp_path / "site.pem"
    stale.write_text("of the vault")
    given = options(tmp_path, {"links": piece("links", "l.example")}, stale=[str(stale)])
    assert str(stale) in act(given, check_mode=True)["changed_paths"]
    assert stale.exists()
    act(given, check_mode=False)
    assert not stale.exists()
    assert not act(given, check_mode=False)["changed"]
    stale.write_text("of the vault")
    others = options(tmp_path, {"shop": piece("shop", "s.example")}, stale=[str(stale)])
    assert act({**others, "settings": TLS, "shared_settings": "keep"}, check_mode=False)["kept"]
    assert stale.exists()


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    act(options(tmp_path, {"links": piece("links")}), check_mode=False)
    (tmp_path / "edge.json").write_text("{")
    with pytest.raises(Damaged, match=r"edge.json cannot be read .* remove it and run slipway.fleet.provision"):
        present(tmp_path, {})


def test_the_package_s_own_configuration_has_no_pieces(tmp_path: Path) -> None:
    (tmp_path / "haproxy.cfg").write_text("global\n    daemon\n\ndefaults\n    mode http\n")
    assert present(tmp_path, {}) == Present({})


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("HAProxy version 2.4.14-1ubuntu1 2022/02/28 - https://haproxy.org/", ""),
        ("HAProxy version 2.6.12-1+deb12u4 2026/10/17 - https://haproxy.org/", ""),
        ("HAProxy version 2.10.0 2027/01/01", ""),
        ("HAProxy version 3.1-dev2-abc 2024/06/29", ""),
        ("HAProxy version 10.0 2040/01/01", ""),
        ("HAProxy version 2.4.13 2022/02/16 - https://haproxy.org/\nStatus: long-term", "2.4.13"),
        ("HAProxy version 2.4.9 2021/11/23", "2.4.9"),
        ("HAProxy version 2.4-dev19 2021/05/10", "2.4.0"),
        ("HA-Proxy version 2.2.9-2+deb11u6 2023/12/07 - https://haproxy.org/", "2.2.9"),
        ("HA-Proxy version 1.8.30", "1.8.30"),
        ("usage: something else", ""),
        ("", ""),
    ],
)
def test_which_haproxy_is_too_old(said: str, version: str) -> None:
    assert outdated(said) == version


def test_a_haproxy_that_is_too_old_is_refused_by_its_version(tmp_path: Path) -> None:
    there = tmp_path / "haproxy"
    there.write_text("#!/bin/sh\n[ $1 = -c ] || echo 'HA-Proxy version 2.2.9-2+deb11u6 2023/12/07'\n")
    there.chmod(0o755)
    directory = tmp_path / "etc"
    directory.mkdir()
    given = options(directory, {"links": piece("links")}, validate=f"{there} -c -f %s")
    for check_mode in (True, False):
        with pytest.raises(SlipwayError, match=r"^Nothing of the edge .* is 2\.2\.9, and the edge needs 2\.4\.14"):
            act(given, check_mode)
    assert not list(directory.iterdir())
    there.unlink()
    assert act(given, check_mode=True)["changed"], "one that is to come is not known yet"


@pytest.mark.parametrize("check_mode", [True, False])
def test_a_port_that_another_process_has_is_refused_by_its_name(tmp_path: Path, check_mode: bool) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        edge = f"global\n\nfrontend edge\n    bind :{port} v6only\n"
        with pytest.raises(SlipwayError, match=rf"port {port} of this host, .* belongs to \S+ \(pid {os.getpid()}\)"):
            act(options(tmp_path, {"links": piece("links")}, edge=edge), check_mode)
    assert not list(tmp_path.iterdir())
    act(options(tmp_path, {"links": piece("links")}, edge=edge), check_mode)
