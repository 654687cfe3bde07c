"""A tile server: no state, one route, a health check of its own."""

from fastapi import FastAPI

app = FastAPI(title="tiles")


@app.get("/healthz")
def ping() -> dict[str, str]:
    return {"ping": "pong"}


@app.get("/")
def root() -> dict[str, str]:
    return {"app": "tiles"}


@app.get("/tiles/{z}/{x}/{y}")
def tile(z: int, x: int, y: int) -> dict[str, list[int]]:
    return {"tile": [z, x, y]}
