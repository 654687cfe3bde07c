"""Typed settings, read once from secret files and from the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

_PLACEHOLDERS = {"", "changeme", "changethis", "replaceme", "placeholder", "secret", "password", "todo", "xxx"}
_DRIVER = "postgresql+asyncpg"


class SettingsError(Exception):
    """A setting is missing or unusable. The text names each one and where it is looked for, never its value."""


def secrets_directory() -> Path:
    """Directory with one file for each secret: SECRETS_DIR, systemd's credentials, or /run/secrets."""
    return Path(os.environ.get("SECRETS_DIR") or os.environ.get("CREDENTIALS_DIRECTORY") or "/run/secrets")


def _no_placeholder(secret: SecretStr) -> SecretStr:
    letters = "".join(filter(str.isalnum, secret.get_secret_value().lower()))
    if letters in _PLACEHOLDERS:
        raise ValueError("is empty or a placeholder")
    return secret


def _long_enough(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < 16:
        raise ValueError("needs at least 16 characters")
    return secret


def _database_url(value: str) -> str:
    try:
        url = make_url(value)
    except ArgumentError:
        raise ValueError("is not a database URL") from None
    if url.drivername != _DRIVER:
        raise ValueError(f"must begin with {_DRIVER}://")
    if url.password:
        raise ValueError("contains a password, which everybody may read there; DATABASE_PASSWORD is its place")
    return value


Secret = Annotated[SecretStr, AfterValidator(_no_placeholder)]
Key = Annotated[Secret, AfterValidator(_long_enough)]


class Settings(BaseSettings):
    """All settings. Times in seconds."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", case_sensitive=False)

    database_url: Annotated[str, AfterValidator(_database_url)] = Field(description="without a password")
    database_password: Secret
    database_pool_size: int = Field(default=5, ge=1, le=100, description="connections of one worker")
    redis_url: str | None = Field(default=None, description="without it every redirect reads the database")
    redis_password: Secret | None = None
    secret_key: Key = Field(description="signs the tokens that let creators delete their links")

    release_app: str = "shortlinks"
    release_id: str = "development"
    release_revision: str = ""
    release_slot: str = ""

    hits_flush_interval: float = Field(default=1.0, gt=0, le=60)

    def database(self) -> URL:
        """The database URL with its password."""
        return make_url(self.database_url).set(password=self.database_password.get_secret_value())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """A file wins over a variable, as in gunicorn_conf.py."""
        return init_settings, file_secret_settings, env_settings


def load_settings(**overrides: Any) -> Settings:
    """Read the settings. Raises SettingsError that names every setting that is missing or wrong."""
    directory = secrets_directory()
    try:
        return Settings(_secrets_dir=directory if directory.is_dir() else None, **overrides)  # type: ignore[call-arg]
    except ValidationError as error:
        raise SettingsError("; ".join(_explain(item, directory) for item in error.errors())) from None
    except OSError as error:
        raise SettingsError(
            f"the secret file {error.filename} cannot be read: {error.strerror}; it must belong to uid {os.getuid()}"
        ) from None


def _explain(item: Any, directory: Path) -> str:
    name = str(item["loc"][0]).upper()
    where = f"set the variable {name} or write the file {directory / name}"
    if item["type"] == "missing":
        return f"{name} is missing: {where}"
    reason = str(item["msg"]).removeprefix("Value error, ")
    return f"{name} {reason}: {where}"
