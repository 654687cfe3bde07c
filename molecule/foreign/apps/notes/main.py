"""Notes that nobody keeps."""

from fastapi import FastAPI

app = FastAPI(title="notes")


@app.get("/")
async def root() -> dict[str, str]:
    return {"app": "notes"}


@app.get("/api/health")
async def health() -> dict[str, str]:
    return {"status": "ok"}
