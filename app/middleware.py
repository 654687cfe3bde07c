"""What happens around every request: its id, and its metrics."""

from __future__ import annotations

import time
import uuid
from typing import Any

from prometheus_client import Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.logs import request_id

REQUESTS = Counter("http_requests_total", "Requests by route and status", ["method", "route", "status"])
LATENCY = Histogram("http_request_duration_seconds", "Seconds until the response began", ["method", "route"])

_HEADER = b"x-request-id"
_LONGEST_ID = 128
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class RequestContext:
    """Takes the request id from the edge or makes one, gives it back, and counts the request."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        identity = _given_id(scope) or uuid.uuid4().hex
        token = request_id.set(identity)
        begin = time.perf_counter()
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (_HEADER, identity.encode())]
                LATENCY.labels(_method(scope), _route(scope)).observe(time.perf_counter() - begin)
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        finally:
            if scope["type"] == "http":
                REQUESTS.labels(_method(scope), _route(scope), str(status)).inc()
            request_id.reset(token)


def _given_id(scope: Scope) -> str | None:
    for name, value in scope["headers"]:
        text: str = value.decode("latin-1")
        if name == _HEADER and len(text) <= _LONGEST_ID and text.isprintable():
            return text
    return None


def _method(scope: Scope) -> str:
    """The method, where it is a usual one: a client may invent any number of others."""
    method = str(scope["method"])
    return method if method in _METHODS else "other"


def _route(scope: Scope) -> str:
    """The route's pattern, not the path: a label for each slug would fill the memory."""
    route: Any = scope.get("route")
    return str(getattr(route, "path", "unmatched"))
