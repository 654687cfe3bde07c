"""A feed of news: what it says comes piece by piece."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.responses import StreamingResponse

app = FastAPI(title="feed")


@app.get("/")
async def root() -> dict[str, str]:
    return {"app": "feed"}


@app.get("/news")
async def news() -> StreamingResponse:
    async def pieces() -> AsyncIterator[str]:
        for number in range(3):
            yield f"{number}\n"
            await asyncio.sleep(0.1)

    return StreamingResponse(pieces(), media_type="text/plain")
