"""A message board that keeps no messages."""

from a2wsgi import ASGIMiddleware
from fastapi import FastAPI

app = FastAPI(title="board")
# For workers with threads.
wsgi = ASGIMiddleware(app)


@app.get("/")
def root() -> dict[str, str]:
    return {"app": "board"}
