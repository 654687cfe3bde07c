"""A message board that keeps no messages."""

from fastapi import FastAPI

app = FastAPI(title="board")


@app.get("/")
def root() -> dict[str, str]:
    return {"app": "board"}
