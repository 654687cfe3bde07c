"""A help desk that knows which Python it runs on."""

import platform

from fastapi import FastAPI

app = FastAPI(title="desk")


@app.get("/")
def root() -> dict[str, str]:
    return {"app": "desk"}


@app.get("/python")
def python() -> dict[str, str]:
    return {"version": platform.python_version()}
