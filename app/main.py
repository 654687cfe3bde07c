"""The web application, put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from app import api, logs, operations
from app.middleware import RequestContext
from app.service import Service
from app.settings import Settings, load_settings


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
    application.include_router(operations.router)
    application.include_router(api.router)
    return application


app = create_app(load_settings())
