"""Notes in a database, and whoever watches is told by a websocket."""

import os
from importlib.metadata import version

from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from sqlalchemy import select

from notes.database import Note, session

app = FastAPI(title="notes")


@app.get("/")
def root() -> dict[str, str]:
    return {"app": "notes"}


@app.get("/healthz")
def health() -> dict[str, str]:
    return {"version": version("notes")}


@app.get("/notes")
def notes() -> list[str]:
    with session() as database:
        return list(database.scalars(select(Note.text).order_by(Note.id)))


@app.post("/notes/{text}")
def write(text: str) -> dict[str, str]:
    with session.begin() as database:
        database.add(Note(text=text))
    return {"written": text}


@app.websocket("/watch")
async def watch(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            said = await websocket.receive_text()
            await websocket.send_text(f"{os.environ['RELEASE_ID']} {said}")
    except WebSocketDisconnect:
        pass
