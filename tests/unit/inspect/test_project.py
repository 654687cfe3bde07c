"""What is told of a project without a Dockerfile, and which stage of a Dockerfile serves."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.project import lines_of
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.stages import target_of

APPS = Path(__file__).resolve().parents[3] / "molecule/foreign/apps"
APP = """
from fastapi import FastAPI
app: FastAPI = FastAPI(title="x")

@app.get("/items/{id}/health")
def one(id: int): ...

@app.get("/health")
async def health(): ...
"""
PINNED = "fastapi==0.115.0 --hash=sha256:1\\nuvicorn[standard]==0.30.0 --hash=sha256:2\\n".replace("\\n", "\n")
ON_PORT = ["--bind", "127.0.0.1:@PORT@"]


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def told(root: Path) -> dict[str, Any]:
    """The lines, without those that every project has."""
    text = lines_of("shop", root)
    assert text.startswith(f"# {root}, by its files alone: nothing of it was started.")
    found: dict[str, Any] = yaml.safe_load(text)
    assert found.pop("fastapi_app_name") == "shop"
    assert found.pop("fastapi_app_host_names") == ["shop.example.org"]
    assert found.pop("fastapi_app_runtime") == "systemd"
    assert found.pop("fastapi_package_source") == str(root)
    return found


def test_a_project_of_the_foreign_ones_is_told_as_its_team_would_write_it(tmp_path: Path) -> None:
    """Poetry's lock, and Gunicorn with a file that binds every address; the scenario deploys it."""
    shutil.copytree(APPS / "desk", tmp_path / "desk")
    assert told(tmp_path / "desk") == {
        "fastapi_app_command": ["gunicorn", *ON_PORT, "desk:app"],
        "fastapi_app_port": 8000,
        "fastapi_app_health_path": "/",
    }


def test_a_source_layout_that_is_installed_and_has_migrations(tmp_path: Path) -> None:
    shutil.copytree(APPS / "notes", tmp_path / "notes")
    names = ("alembic", "fastapi", "uvicorn")
    lock = "".join(f'[[package]]\nname = "{name}"\nversion = "1.0"\n\n' for name in names)
    write(tmp_path / "notes", {"uv.lock": lock})
    assert told(tmp_path / "notes") == {
        "fastapi_app_command": ["uvicorn", "notes.main:app"],
        "fastapi_app_health_path": "/healthz",
        "fastapi_app_migrations": "alembic",
    }


@pytest.mark.parametrize(
    ("files", "lines"),
    [
        (
            {"app/main.py": APP, "requirements.txt": PINNED},
            {"fastapi_app_command": ["uvicorn", "app.main:app"], "fastapi_app_health_path": "/health"},
        ),
        (
            {"src/shop/main.py": "api = FastAPI()", "requirements.lock": PINNED, "tests/main.py": APP},
            {
                "fastapi_app_command": ["uvicorn", "shop.main:api"],
                "fastapi_app_health_path": "/openapi.json",
                "fastapi_app_environment": {"PYTHONPATH": "/srv/src"},
            },
        ),
        (
            {"src/shop.py": APP, "src/other.py": APP, "requirements.lock": PINNED},
            {"fastapi_app_command": ["uvicorn", "src.other:app"], "fastapi_app_health_path": "/health"},
        ),
        (
            {"backend/asgi.py": APP, "requirements.lock": "hypercorn==1 --hash=sha256:1", "backend/alembic.ini": ""},
            {
                "fastapi_app_command": ["hypercorn", *ON_PORT, "backend.asgi:app"],
                "fastapi_app_port": 8000,
                "fastapi_app_health_path": "/health",
                "fastapi_package_files": ["backend"],
            },
        ),
        (
            {"main.py": APP, "requirements.lock": "granian==2 --hash=sha256:1", ".venv/lib/main.py": APP},
            {
                "fastapi_app_command": ["granian", "--interface", "asgi", "main:app"],
                "fastapi_app_health_path": "/health",
            },
        ),
        (
            {"main.py": APP, "requirements.lock": "gunicorn==23\nuvicorn-worker==1\n"},
            {
                "fastapi_app_command": [
                    *("gunicorn", *ON_PORT, "--worker-class", "uvicorn_worker.UvicornWorker", "main:app")
                ],
                "fastapi_app_port": 8000,
                "fastapi_app_health_path": "/health",
            },
        ),
        (
            {"main.py": APP, "requirements.lock": "gunicorn==23\n", "gunicorn_conf.py": "bind = GUNICORN_BIND"},
            {
                "fastapi_app_command": ["gunicorn", "--config", "gunicorn_conf.py", "main:app"],
                "fastapi_app_health_path": "/health",
            },
        ),
    ],
    ids=["requirements", "not installed", "src as a package", "hypercorn", "granian", "gunicorn", "gunicorn's file"],
)
def test_server_command_and_health_path(files: dict[str, str], lines: dict[str, Any], tmp_path: Path) -> None:
    assert told(write(tmp_path, files)) == lines


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"main.py": APP}, "has no Dockerfile, and none of .*uv.lock.*; make one"),
        ({"main.py": APP, "requirements.txt": "fastapi\n"}, "has no hashes; make a lock beside it: uv pip compile"),
        ({"x.py": "x = 1", "requirements.lock": PINNED}, "no `app = FastAPI\\(\\)` was found in it; write its command"),
        ({"main.py": APP, "requirements.lock": "flask==3"}, "has none of gunicorn, uvicorn, granian and hypercorn"),
        ({"main.py": APP, "requirements.lock": PINNED, "pyproject.toml": "["}, "pyproject.toml cannot be read"),
    ],
)
def test_what_is_missing_is_told_by_name(files: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=said):
        lines_of("shop", write(tmp_path, files))


def stages(*names: str) -> str:
    return "".join(f"FROM --platform=linux/amd64 python:3.13 AS {name}\nRUN true\n" for name in names)


@pytest.mark.parametrize(
    ("text", "target"),
    [
        (stages("builder", "production", "development"), "production"),
        (stages("base", "Prod", "runtime", "test"), "Prod"),
        (stages("builder", "production"), ""),
        (stages("base", "dev"), ""),
        (stages("production", "latest"), ""),
        ("FROM python\n", ""),
        ("FROM a AS production\nFROM a\nRUN true", ""),
        ("from a as app\nfrom a as app-dev\n", "app"),
    ],
)
def test_the_stage_that_serves(text: str, target: str) -> None:
    found, why = target_of(text)
    assert found == target
    assert bool(why) is bool(target)
