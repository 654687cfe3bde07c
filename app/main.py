"""The web application: short links, health, version, metrics."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import os
import platform
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request, WebSocket, WebSocketDisconnect
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response, StreamingResponse
from fastapi.templating import Jinja2Templates
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest, multiprocess
from pydantic import AfterValidator, AnyHttpUrl, BaseModel
from sqlalchemy.ext.asyncio import create_async_engine

from app import health, logs
from app.cache import Cache
from app.hits import HitCounter
from app.links import KeyReusedError, Links
from app.live import Live
from app.middleware import RequestContext
from app.models import Link
from app.settings import Settings, load_settings

_TEMPLATES = Jinja2Templates(Path(__file__).with_name("templates"))
_LONGEST_URL = 2048
_EXPORT_LIMIT = 10_000


def _short_enough(url: AnyHttpUrl) -> AnyHttpUrl:
    if len(str(url)) > _LONGEST_URL:
        raise ValueError(f"must have at most {_LONGEST_URL} characters")
    return url


class NewLink(BaseModel):
    """What a client sends."""

    url: Annotated[AnyHttpUrl, AfterValidator(_short_enough)]


class Service:
    """All that requests need, made once for a worker."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.engine = create_async_engine(
            settings.database(), pool_size=settings.database_pool_size, max_overflow=5, pool_pre_ping=True, pool_timeout=10
        )
        self.links = Links(self.engine)
        self.cache = Cache(settings)
        self.hits = HitCounter(self.links.add_hits, settings.hits_flush_interval)
        self.live = Live(self.links.latest, self.links.after)
        self.stopping = health.Stopping()

    def token(self, slug: str) -> str:
        """What proves that a link is one's own: a signature of its slug."""
        key = self.settings.secret_key.get_secret_value().encode()
        return hmac.new(key, slug.encode(), hashlib.sha256).hexdigest()

    async def close(self) -> None:
        await self.live.close()
        await self.hits.close()
        await self.cache.close()
        await self.engine.dispose()


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Use = Annotated[Service, Depends(_service)]


def _public(link: Link, pending_hits: int = 0) -> dict[str, Any]:
    return {
        "slug": link.slug,
        "url": link.url,
        "hits": link.hits + pending_hits,
        "created_at": link.created_at.isoformat(),
    }


@asynccontextmanager
async def _lifespan(application: FastAPI) -> AsyncIterator[None]:
    service: Service = application.state.service
    service.stopping.watch()
    service.hits.start()
    yield
    await service.close()


def create_app(settings: Settings) -> FastAPI:
    """The application. Connects to nothing before its first request."""
    logs.install()
    application = FastAPI(
        title="Short links", lifespan=_lifespan, version=settings.release_revision or "development", redoc_url=None
    )
    application.state.service = Service(settings)
    application.add_middleware(RequestContext)
    _add_operations(application)
    _add_links(application)
    return application


def _add_operations(application: FastAPI) -> None:
    @application.get("/livez", tags=["operations"])
    async def livez() -> dict[str, str]:
        """The process answers."""
        return {"status": "alive"}

    @application.get("/health", tags=["operations"], summary="What the container's health check asks")
    @application.get("/readyz", tags=["operations"])
    async def readyz(service: Use) -> JSONResponse:
        """The process may get requests: the database answers and has this release's schema."""
        if service.stopping:
            return JSONResponse({"status": "unready", "checks": {"process": "it is stopping"}}, 503)
        found, cache = await asyncio.gather(health.problems(service.engine), service.cache.check())
        if found:
            return JSONResponse({"status": "unready", "checks": found, "cache": cache}, 503)
        return JSONResponse({"status": "ready" if cache != "unavailable" else "degraded", "cache": cache})

    @application.get("/version", tags=["operations"])
    async def version(service: Use) -> dict[str, str]:
        """Which release this is, and in which slot it runs."""
        settings = service.settings
        return {
            "app": settings.release_app,
            "release": settings.release_id,
            "revision": settings.release_revision,
            "slot": settings.release_slot,
            "python": platform.python_version(),
        }

    @application.get("/metrics", tags=["operations"])
    async def metrics() -> Response:
        """Prometheus metrics, summed over all workers."""
        registry = REGISTRY
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry = CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @application.get("/slow", tags=["operations"])
    async def slow(seconds: Annotated[float, Query(ge=0, le=60)] = 5.0) -> dict[str, float]:
        """Answer after a while: shows that a release lets requests end."""
        await asyncio.sleep(seconds)
        return {"seconds": seconds}


def _add_links(application: FastAPI) -> None:
    @application.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page(request: Request, service: Use) -> HTMLResponse:
        latest = [_public(link, service.hits.pending(link.slug)) for link in await service.links.latest(10)]
        context = {"links": latest, "settings": service.settings}
        return _TEMPLATES.TemplateResponse(request, "index.html", context)

    @application.post("/links", tags=["links"])
    async def create(
        new: NewLink, service: Use, idempotency_key: Annotated[str | None, Header(max_length=128)] = None
    ) -> JSONResponse:
        """Make a short link; a request repeated with its Idempotency-Key gets the link made the first time."""
        try:
            link, created = await service.links.create(str(new.url), idempotency_key)
        except KeyReusedError:
            raise HTTPException(409, "this Idempotency-Key was used for another URL") from None
        await service.cache.put(link.slug, link.url)
        return JSONResponse(_public(link) | {"token": service.token(link.slug)}, 201 if created else 200)

    @application.get("/links/export", tags=["links"])
    async def export(
        service: Use, limit: Annotated[int, Query(ge=1, le=_EXPORT_LIMIT)] = _EXPORT_LIMIT
    ) -> StreamingResponse:
        """The newest links, one JSON object a line, sent as they are read; the last line counts them."""

        async def lines() -> AsyncIterator[str]:
            count = 0
            async for link in service.links.export(limit):
                count += 1
                yield json.dumps(_public(link)) + "\n"
            yield json.dumps({"end": True, "count": count}) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    @application.get("/links/{slug}", tags=["links"])
    async def statistics(slug: str, service: Use) -> dict[str, Any]:
        """A link with its hits."""
        link = await service.links.find(slug)
        if link is None:
            raise HTTPException(404, "there is no such link")
        return _public(link, service.hits.pending(slug))

    @application.delete("/links/{slug}", tags=["links"], status_code=204)
    async def delete(slug: str, service: Use, authorization: Annotated[str, Header()] = "") -> None:
        """Remove a link; needs the token that its creator got, as `Authorization: Bearer TOKEN`."""
        given = authorization.removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), service.token(slug).encode()):
            raise HTTPException(403, "this needs the token that came with the link, as Authorization: Bearer TOKEN")
        await service.links.delete(slug)
        await service.cache.forget(slug)

    @application.websocket("/live")
    async def live(socket: WebSocket) -> None:
        """New links as they are made."""
        service: Service = socket.app.state.service
        await socket.accept()
        queue = service.live.join()
        told = asyncio.create_task(_tell(socket, queue))
        try:
            while True:
                await socket.receive_text()
        except WebSocketDisconnect:
            pass
        finally:
            told.cancel()
            service.live.leave(queue)

    @application.get("/{slug}", tags=["links"])
    async def follow(slug: str, service: Use) -> RedirectResponse:
        """Redirect to a link's URL."""
        url = await service.cache.get(slug)
        if url is None:
            link = await service.links.find(slug)
            if link is None:
                raise HTTPException(404, "there is no such link")
            url = link.url
            await service.cache.put(slug, url)
        service.hits.hit(slug)
        return RedirectResponse(url, 307, headers={"Cache-Control": "no-store"})


async def _tell(socket: WebSocket, queue: asyncio.Queue[Link]) -> None:
    while True:
        await socket.send_json(_public(await queue.get()))


app = create_app(load_settings())
