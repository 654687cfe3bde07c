"""The page and the links: make, follow, look at, remove, export, listen."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Header, HTTPException, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, StreamingResponse
from fastapi.templating import Jinja2Templates
from pydantic import AfterValidator, AnyHttpUrl, BaseModel

from app.links import KeyReusedError
from app.models import Link
from app.service import Use

_TEMPLATES = Jinja2Templates(Path(__file__).with_name("templates"))
_LONGEST_URL = 2048
_SHOWN = 10
# The page loads nothing from elsewhere and nobody may frame it.
_PAGE_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'self'; img-src data:; base-uri 'none'; frame-ancestors 'none'",
}
_COME_AGAIN = 1012  # the close code that tells a websocket client to reconnect

IdempotencyKey = Annotated[str | None, Header(pattern=r"^[\x21-\x7e]{1,128}$")]
# Set where a deployment asks of a new release what users asked the one before.
Replayed = Annotated[str, Header(alias="Slipway-Replay", include_in_schema=False)]

router = APIRouter(tags=["links"])


def _short_enough(url: AnyHttpUrl) -> AnyHttpUrl:
    if len(str(url)) > _LONGEST_URL:
        raise ValueError(f"must have at most {_LONGEST_URL} characters")
    return url


class NewLink(BaseModel):
    """What a client sends."""

    url: Annotated[AnyHttpUrl, AfterValidator(_short_enough)]


def public(link: Link, pending_hits: int = 0) -> dict[str, Any]:
    return {
        "slug": link.slug,
        "url": link.url,
        "hits": link.hits + pending_hits,
        "created_at": link.created_at.isoformat(),
    }


@router.get("/", response_class=HTMLResponse, include_in_schema=False)
async def page(request: Request, service: Use) -> HTMLResponse:
    latest = [public(link, service.hits.pending(link.slug)) for link in await service.links.latest(_SHOWN)]
    context = {"links": latest, "settings": service.settings}
    return _TEMPLATES.TemplateResponse(request, "index.html", context, headers=_PAGE_HEADERS)


@router.post("/links")
async def create(new: NewLink, service: Use, idempotency_key: IdempotencyKey = None) -> JSONResponse:
    """Make a short link; a request repeated with its Idempotency-Key gets the link made the first time."""
    try:
        link, created = await service.links.create(str(new.url), idempotency_key)
    except KeyReusedError:
        raise HTTPException(409, "this Idempotency-Key was used for another URL") from None
    await service.cache.put(link.slug, link.url)
    return JSONResponse(public(link) | {"token": service.token(link.slug)}, 201 if created else 200)


@router.get("/links/export")
async def export(service: Use) -> StreamingResponse:
    """All links, newest first, one JSON object a line, sent as they are read."""

    async def lines() -> AsyncIterator[str]:
        async for link in service.links.export():
            yield json.dumps(public(link)) + "\n"

    return StreamingResponse(lines(), media_type="application/x-ndjson")


@router.get("/links/{slug}")
async def statistics(slug: str, service: Use) -> dict[str, Any]:
    """A link with its hits."""
    link = await service.links.find(slug)
    if link is None:
        raise HTTPException(404, "there is no such link")
    return public(link, service.hits.pending(slug))


@router.delete("/links/{slug}", status_code=204)
async def delete(slug: str, service: Use, authorization: Annotated[str, Header()] = "") -> None:
    """Remove a link; needs the token that its creator got, as `Authorization: Bearer TOKEN`."""
    given = authorization.removeprefix("Bearer ")
    if not hmac.compare_digest(given.encode(), service.token(slug).encode()):
        raise HTTPException(403, "this needs the token that came with the link, as Authorization: Bearer TOKEN")
    await service.links.delete(slug)
    await service.cache.forget(slug)


@router.websocket("/live")
async def live(socket: WebSocket, service: Use) -> None:
    """New links as they are made. At a stop of the server the client is told to come again."""
    await socket.accept()
    with service.live.listen() as queue:
        tasks = [asyncio.create_task(work) for work in (_tell(socket, queue), _left(socket), service.stopping.begun())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    with contextlib.suppress(RuntimeError, WebSocketDisconnect):  # it may be closed already
        await socket.close(_COME_AGAIN if service.stopping else 1000)


@router.head("/{slug}", include_in_schema=False)
@router.get("/{slug}")
async def follow(slug: str, service: Use, slipway_replay: Replayed = "") -> RedirectResponse:
    """Redirect to a link's URL. What a deployment asks once more, of a new release, is no hit."""
    url = await service.cache.get(slug)
    if url is None:
        link = await service.links.find(slug)
        if link is None:
            raise HTTPException(404, "there is no such link")
        url = link.url
        await service.cache.put(slug, url)
    if not slipway_replay:
        service.hits.hit(slug)
    return RedirectResponse(url, 307, headers={"Cache-Control": "no-store"})


async def _tell(socket: WebSocket, queue: asyncio.Queue[Link]) -> None:
    while True:
        await socket.send_json(public(await queue.get()))


async def _left(socket: WebSocket) -> None:
    """Return when the client has gone; what it says does not matter."""
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await socket.receive_text()
