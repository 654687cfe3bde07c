"""What operators and the edge ask: alive, ready, which version, metrics."""

from __future__ import annotations

import asyncio
import os
import platform
from typing import Annotated

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest, multiprocess

from app import health
from app.service import Use

router = APIRouter(tags=["operations"])


@router.get("/livez")
async def livez() -> dict[str, str]:
    """The process answers."""
    return {"status": "alive"}


@router.get("/health", summary="What the container's health check asks")
@router.get("/readyz")
async def readyz(service: Use) -> JSONResponse:
    """The process may get requests: the database answers and has this release's schema."""
    if service.stopping:
        return JSONResponse({"status": "unready", "checks": {"process": "it is stopping"}}, 503)
    found, cache = await asyncio.gather(health.problems(service.looking), service.cache.check())
    if found:
        return JSONResponse({"status": "unready", "checks": found, "cache": cache}, 503)
    degraded = ["cache"] if cache == "unavailable" else []
    return JSONResponse({"status": "ready", "degraded": degraded, "cache": cache})


@router.get("/version")
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


@router.get("/metrics")
async def metrics() -> Response:
    """Prometheus metrics, summed over all workers."""
    registry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


@router.get("/slow")
async def slow(service: Use, seconds: Annotated[float, Query(ge=0, le=60)] = 5.0) -> dict[str, float]:
    """Answer after a while: shows that a release lets requests end. Anybody may ask, so only a few wait at a time."""
    if service.waiting.locked():
        raise HTTPException(503, "too many wait already", {"Retry-After": "5"})
    async with service.waiting:
        await asyncio.sleep(seconds)
    return {"seconds": seconds}
