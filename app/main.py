"""The web application, put together."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from sqlalchemy import exc

from app import api, logs, operations
from app.middleware import RequestContext
from app.service import Service
from app.settings import Settings, load_settings

_log = logging.getLogger(__name__)
# What a database that is away or starting raises; the driver's own errors come only while it connects.
_AWAY = (OSError, asyncpg.PostgresError, exc.OperationalError, exc.InterfaceError, exc.TimeoutError)


@asynccontextmanager
async def _lifespan(application: FastAPI) -> AsyncIterator[None]:
    service: Service = application.state.service
    with service.stopping.watch():
        service.hits.start()
        yield
        await service.close()


async def _away(request: Request, error: Exception) -> JSONResponse:
    _log.error("the database does not answer", extra={"path": request.url.path, "error": repr(error)})
    return JSONResponse({"detail": "the database does not answer"}, 503, headers={"Retry-After": "1"})


def create_app(settings: Settings) -> FastAPI:
    """The application. Connects to nothing before its first request."""
    logs.install()
    application = FastAPI(
        title="Short links",
        lifespan=_lifespan,
        version=settings.release_revision or "development",
        # The interactive documentation loads scripts from another site; /openapi.json is the whole description.
        docs_url=None,
        redoc_url=None,
        exception_handlers=dict.fromkeys(_AWAY, _away),
    )
    application.state.service = Service(settings)
    application.add_middleware(RequestContext)
    application.mount("/static", StaticFiles(directory=Path(__file__).with_name("static")), name="static")
    application.include_router(operations.router)
    application.include_router(api.router)
    return application


app = create_app(load_settings())
