"""A depot of one thing, which opens with a key."""

import os

from fastapi import FastAPI

app = FastAPI(title="depot")
key = os.environ["DEPOT_KEY"]


@app.get("/")
def root() -> dict[str, str]:
    return {"app": "depot"}


@app.get("/ready")
def ready() -> dict[str, int]:
    return {"key": len(key)}
