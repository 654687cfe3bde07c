"""Links through the application's own interface, on real PostgreSQL and Redis."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
from typing import Any

import httpx
import pytest

from app import links
from app.service import Service

URL = "https://example.org/a/long/address"


async def make(client: httpx.AsyncClient, url: str = URL, key: str | None = None) -> httpx.Response:
    return await client.post("/links", json={"url": url}, headers={"Idempotency-Key": key} if key else {})


async def test_make_follow_and_count(client: httpx.AsyncClient) -> None:
    link = (await make(client)).json()
    for _ in range(3):
        answer = await client.get(f"/{link['slug']}")
        assert (answer.status_code, answer.headers["location"]) == (307, URL)
    assert (await client.get(f"/{link['slug']}", headers={"Slipway-Replay": "1"})).status_code == 307, "and no hit"
    assert (await client.get(f"/links/{link['slug']}")).json()["hits"] == 3


async def test_a_repeated_request_finds_its_link(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(make(client, key="once") for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] * 7 + [201]
    assert len({answer.json()["slug"] for answer in answers}) == 1
    other = await make(client, url="https://example.org/other", key="once")
    assert other.status_code == 409


@pytest.mark.parametrize(
    "url", ["", "nonsense", "ftp://example.org", "javascript:alert(1)", "https://example.org/" + "a" * 2050]
)
async def test_what_is_no_address_is_refused(client: httpx.AsyncClient, url: str) -> None:
    assert (await make(client, url=url)).status_code == 422


async def test_only_the_token_removes_a_link(client: httpx.AsyncClient) -> None:
    link = (await make(client)).json()
    path = f"/links/{link['slug']}"
    assert (await client.delete(path, headers={"Authorization": "Bearer wrong"})).status_code == 403
    assert (await client.delete(path)).status_code == 403
    assert (await client.delete(path, headers={"Authorization": f"Bearer {link['token']}"})).status_code == 204
    assert (await client.get(path)).status_code == 404
    assert (await client.get(f"/{link['slug']}")).status_code == 404


async def test_the_export_is_complete(client: httpx.AsyncClient) -> None:
    made = [(await make(client)).json()["slug"] for _ in range(3)]
    lines = [json.loads(line) for line in (await client.get("/links/export")).text.splitlines()]
    assert [line["slug"] for line in lines[:3]] == made[::-1]


def service_of(client: httpx.AsyncClient) -> Service:
    transport: Any = client._transport
    service: Service = transport.app.state.service
    return service


async def test_an_export_that_is_read_slowly_holds_no_connection(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [(await make(client)).json()["slug"] for _ in range(5)]
    monkeypatch.setattr(links, "_PIECE", 2)
    service = service_of(client)
    pool: Any = service.engine.pool
    read = []
    async for link in service.links.export():
        assert pool.checkedout() == 0
        read.append(link.slug)
    assert read[:5] == made[::-1]
    assert len(read) == len(set(read))


async def test_clients_that_take_the_pool_do_not_take_the_slot_out(client: httpx.AsyncClient) -> None:
    engine = service_of(client).engine
    pool: Any = engine.pool
    async with contextlib.AsyncExitStack() as taken:
        for _ in range(pool.size() + 5):
            await taken.enter_async_context(engine.connect())
        assert (await client.get("/readyz")).status_code == 200


async def test_only_a_few_wait_because_they_asked_to(client: httpx.AsyncClient) -> None:
    waiting = service_of(client).waiting
    async with contextlib.AsyncExitStack() as taken:
        while not waiting.locked():
            await taken.enter_async_context(waiting)
        refused = await client.get("/slow?seconds=60")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert (await client.get("/readyz")).status_code == 200
    assert (await client.get("/slow?seconds=0")).json() == {"seconds": 0}


@pytest.mark.parametrize("key", ["", " ", "a b", "a" * 129])
async def test_a_key_that_cannot_be_kept_is_refused(client: httpx.AsyncClient, key: str) -> None:
    answer = await client.post("/links", json={"url": URL}, headers={"Idempotency-Key": key})
    assert answer.status_code == 422


@pytest.mark.parametrize("slug", ["nosuch1", "favicon.ico", "%00", "a" * 400])
async def test_what_is_no_slug_is_not_found(client: httpx.AsyncClient, slug: str) -> None:
    assert (await client.get(f"/{slug}")).status_code == 404
    assert (await client.get(f"/links/{slug}")).status_code == 404


async def test_without_redis_it_goes_on(client: httpx.AsyncClient, redis: tuple[str, subprocess.Popen[bytes]]) -> None:
    link = (await make(client)).json()
    redis[1].terminate()
    redis[1].wait(timeout=60)
    assert (await client.get(f"/{link['slug']}")).status_code == 307
    answer = await client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ready", "degraded": ["cache"], "cache": "unavailable"}


async def test_the_page_shows_links_and_escapes_them(client: httpx.AsyncClient) -> None:
    await make(client, url="https://example.org/?q=<script>alert(1)</script>")
    page = (await client.get("/")).text
    assert "Short links" in page
    assert "r1" in page
    assert "<script>alert" not in page
    for path in re.findall(r'(?:src|href)="(/static/[^"]+)"', page):
        assert (await client.get(path)).status_code == 200
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)


async def test_metrics_name_routes_and_not_slugs(client: httpx.AsyncClient) -> None:
    link = (await make(client)).json()
    await client.get(f"/{link['slug']}")
    text = (await client.get("/metrics")).text
    assert 'route="/{slug}"' in text
    assert link["slug"] not in text


async def test_the_request_id_comes_back(client: httpx.AsyncClient) -> None:
    assert (await client.get("/livez", headers={"X-Request-ID": "from-the-edge"})).headers[
        "x-request-id"
    ] == "from-the-edge"
    made = (await client.get("/livez", headers={"X-Request-ID": "x" * 500})).headers["x-request-id"]
    assert len(made) == 32


async def test_version_names_the_release(client: httpx.AsyncClient) -> None:
    answer = (await client.get("/version")).json()
    assert (answer["app"], answer["release"], answer["slot"]) == ("shortlinks", "r1", "blue")
