"""A help desk that keeps its tickets in SQLite, and knows which Python it runs on."""

import os
import platform
import sqlite3

from fastapi import FastAPI

app = FastAPI(title="desk")
database = os.environ.get("TICKETS", "tickets.db")


@app.get("/")
def root() -> dict[str, str]:
    return {"app": "desk"}


@app.get("/python")
def python() -> dict[str, str]:
    return {"version": platform.python_version()}


@app.get("/tickets")
def tickets() -> list[str]:
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS tickets (text)")
        return [text for (text,) in connection.execute("SELECT text FROM tickets")]


@app.post("/tickets/{text}")
def write(text: str) -> dict[str, str]:
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS tickets (text)")
        connection.execute("INSERT INTO tickets VALUES (?)", (text,))
    return {"written": text}
