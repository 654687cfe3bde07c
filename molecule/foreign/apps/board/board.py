"""A message board that keeps no messages."""

from a2wsgi import ASGIMiddleware
from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

app = FastAPI(title="board")
app.mount("/static", StaticFiles(directory="static"))
# For workers with threads.
wsgi = ASGIMiddleware(app)


@app.get("/")
def root() -> dict[str, str]:
    return {"app": "board"}
