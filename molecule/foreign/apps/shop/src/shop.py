"""A shop that reads settings and secrets from its environment and believes in no host but its own."""

import os
from pathlib import Path

from fastapi import FastAPI, UploadFile
from pydantic_settings import BaseSettings
from starlette.middleware.trustedhost import TrustedHostMiddleware


class Settings(BaseSettings):
    price_format: str
    origins: list[str] = []
    beta: bool = False
    payment_key: str


settings = Settings()  # type: ignore[call-arg]
app = FastAPI(title="shop")
uploads = Path("uploads")
app.add_middleware(TrustedHostMiddleware, allowed_hosts=os.environ.get("HOSTS", "shop.example.org").split(","))


@app.get("/")
def root() -> dict[str, str]:
    return {"app": "shop"}


@app.get("/health/")
def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/settings")
def shown() -> dict[str, object]:
    return {
        "price_format": settings.price_format,
        "origins": settings.origins,
        "beta": settings.beta,
        "payment_key_is_there": len(settings.payment_key),
        "prepared": os.environ.get("PREPARED_BY_ENTRYPOINT"),
    }


@app.get("/uploads")
def uploaded() -> dict[str, object]:
    return {"slot": os.environ["RELEASE_SLOT"], "files": sorted(path.name for path in uploads.iterdir())}


@app.get("/uploads/{name}/new")
def upload(name: str) -> dict[str, int]:
    (uploads / name).write_text(name)
    return {"uid": (uploads / name).stat().st_uid}


@app.post("/measured")
def measure(file: UploadFile) -> dict[str, int | None]:
    return {"bytes": file.size}
