# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The lines of an inventory for a project without a Dockerfile, under systemd: by its files, of which none is run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError
from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import PackageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.findings import LAST, OPENAPI, USUAL, telling
from ansible_collections.slipway.fleet.plugins.plugin_utils.inspect.lines import Row, line
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.lock import SEARCHED
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.project import Project

# What makes an app, the one of most projects first.
_MAKERS = ("FastAPI", "Starlette", "Litestar")
_NO_APP = frozenset({"tests", "test", "docs", "examples", "scripts", "node_modules", "site-packages", "build", "dist"})
_MODULES = ("main", "app", "asgi", "server", "api")
# Files that are looked at.
_MOST = 2000
_PACKAGES = re.compile(r"^(?:name = \"([A-Za-z0-9._-]+)\"|([A-Za-z0-9._-]+)(?:\[[^\]]*\])?\s*==)", re.MULTILINE)
_GUNICORN_FILES = ("gunicorn.conf.py", "gunicorn_conf.py")
_WORKER = "uvicorn_worker.UvicornWorker"
_PORT = "127.0.0.1:@PORT@"


@dataclass(frozen=True)
class App:
    """Where a project makes its app: the file below its root, the name there, and paths that it answers to GET."""

    file: Path
    name: str
    paths: tuple[str, ...] = ()


def lines_of(name: str, root: Path) -> str:
    """The lines as YAML, each with its reason. Raises ImageError that says what is missing."""
    try:
        project = Project(root)
        lock = locked(root)
        apps = sorted(apps_in(root), key=lambda app: _order(app.file))
        if not apps:
            raise ImageError(
                f"{root} has no Dockerfile, and no `app = FastAPI()` was found in it; write its command by hand: "
                "roles/fastapi_app/README.md, Your app"
            )
        rows = [
            ("fastapi_app_name", name, "a name of your choice, for its directories and units"),
            ("fastapi_app_host_names", [f"{name}.example.org"], "yours: under which users reach it"),
            ("fastapi_app_runtime", "systemd", "it has no Dockerfile"),
            ("fastapi_package_source", str(root), f"what was looked at; its packages are those of {lock}"),
            *_served(root, project, apps[0], packages(root / lock)),
            _looked_at(apps[0]),
            *_around(root, project, apps[0], packages(root / lock)),
        ]
    except PackageError as error:
        raise ImageError(str(error)) from error
    told = [f"# {root}, by its files alone: nothing of it was started. A deploy looks whether it serves."]
    if len(apps) > 1:
        told.append(f"# Other files that make an app: {', '.join(str(app.file) for app in apps[1:4])}.")
    return "\n".join([*told, *(line(*row) for row in rows)]) + "\n"


def locked(root: Path) -> str:
    """The lock that a deploy takes. Raises ImageError where it takes none of what is there."""
    for name in SEARCHED:
        path = root / name
        if path.is_file() and (path.suffix == ".lock" or "--hash" in path.read_text(errors="replace")):
            return name
    if (root / "requirements.txt").is_file():
        make = "uv pip compile --generate-hashes requirements.txt -o requirements.lock"
        raise ImageError(f"{root}/requirements.txt has no hashes; make a lock beside it: {make}")
    make = (
        "uv lock" if (root / "pyproject.toml").is_file() else "uv pip freeze >requirements.txt, and then a lock of it"
    )
    raise ImageError(f"{root} has no Dockerfile, and none of {', '.join(SEARCHED)}; make one ({make}) and commit it")


def packages(lock: Path) -> set[str]:
    """Names of the packages that a lock has."""
    found = _PACKAGES.finditer(lock.read_text(encoding="utf-8", errors="replace"))
    return {(match[1] or match[2]).lower().replace("_", "-") for match in found}


def apps_in(root: Path) -> Iterator[App]:
    for number, path in enumerate(sorted(root.rglob("*.py"))):
        inside = path.relative_to(root)
        if number >= _MOST:
            return
        if any(part.startswith(".") or part in _NO_APP or part.endswith("venv") for part in inside.parts[:-1]):
            continue
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (OSError, SyntaxError, ValueError):
            continue
        for name in (name for statement in tree.body if (name := _made(statement))):
            yield App(inside, name, tuple(_asked(tree, name)))


def _made(statement: ast.stmt) -> str:
    """The name that a statement of a module gives to an app; empty where it makes none."""
    if not isinstance(statement, (ast.Assign, ast.AnnAssign)) or not isinstance(statement.value, ast.Call):
        return ""
    function = statement.value.func
    maker = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
    target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
    return target.id if maker in _MAKERS and isinstance(target, ast.Name) else ""


def _asked(tree: ast.Module, app: str) -> Iterator[str]:
    """Paths without parameters that functions of the module answer to GET for the app."""
    for node in ast.walk(tree):
        for decorator in getattr(node, "decorator_list", ()):
            if not isinstance(decorator, ast.Call) or not isinstance(decorator.func, ast.Attribute):
                continue
            whose = decorator.func.value
            path = decorator.args[0] if decorator.args else None
            told = str(path.value) if isinstance(path, ast.Constant) else "{}"
            if decorator.func.attr == "get" and isinstance(whose, ast.Name) and whose.id == app and "{" not in told:
                yield told


def _order(file: Path) -> tuple[int, int, str]:
    stem = file.stem
    return (_MODULES.index(stem) if stem in _MODULES else len(_MODULES), len(file.parts), str(file))


def _module(project: Project, app: App) -> str:
    """As it is imported on a host: what is installed has no `src` before it."""
    parts = app.file.with_suffix("").parts
    parts = parts[1:] if parts[0] == "src" and len(parts) > 1 and _in_src(project, app) else parts
    return f"{'.'.join(part for part in parts if part != '__init__')}:{app.name}"


def _in_src(project: Project, app: App) -> bool:
    """Whether it is found below `src`: a package there is, modules there are imported as `src.main` from beside it."""
    return app.file.match("src/*/*.py") and not (project.root / "src/__init__.py").exists()


def _served(root: Path, project: Project, app: App, locked_in: set[str]) -> Iterator[Row]:
    """By which server, and where it listens."""
    module = _module(project, app)
    settings = next((name for name in _GUNICORN_FILES if (root / name).is_file()), "")
    on_port = "fastapi_app_port", 8000, "it reads no variable of a release that says where to listen; any number"
    if "gunicorn" in locked_in and (settings or "uvicorn-worker" in locked_in):
        told = bool(settings) and "GUNICORN_BIND" in (root / settings).read_text(errors="replace")
        words = ["gunicorn", *([] if told else ["--bind", _PORT])]
        words += ["--config", settings] if settings and settings != _GUNICORN_FILES[0] else []
        words += [] if settings else ["--worker-class", _WORKER]
        yield "fastapi_app_command", [*words, module], f"its lock has Gunicorn{settings and f', and it has {settings}'}"
        if not told:
            yield on_port
    elif "uvicorn" in locked_in:
        yield "fastapi_app_command", ["uvicorn", module], "its lock has Uvicorn"
    elif "granian" in locked_in:
        yield "fastapi_app_command", ["granian", "--interface", "asgi", module], "its lock has Granian"
    elif "hypercorn" in locked_in:
        yield "fastapi_app_command", ["hypercorn", "--bind", _PORT, module], "its lock has Hypercorn"
        yield on_port
    else:
        raise ImageError(f"the lock of {root} has none of gunicorn, uvicorn, granian and hypercorn; add one to it")


def _looked_at(app: App) -> Row:
    told = telling(app.paths)
    path = next((path for path in (*told, *(one for one in (*USUAL, LAST[0]) if one in app.paths))), "")
    if path:
        return "fastapi_app_health_path", path, f"{app.file} answers it"
    return "fastapi_app_health_path", OPENAPI, f"{app.file} has no path by a usual name, and FastAPI answers this one"


def _around(root: Path, project: Project, app: App, locked_in: set[str]) -> Iterator[Row]:
    if _in_src(project, app) and not project.installed:
        yield (
            "fastapi_app_environment",
            {"PYTHONPATH": "/srv/src"},
            "pyproject.toml has no build system that installs it",
        )
    top = app.file.parts[0]
    try:
        there = project.code()
    except PackageError:
        there = []
    if top not in there:
        yield "fastapi_package_files", [*there, top], f"{top} is no name that is known for code"
    places = [
        path.parent.relative_to(root) for pattern in ("", "*/") for path in sorted(root.glob(f"{pattern}alembic.ini"))
    ]
    if places and "alembic" in locked_in:
        where = "alembic" if places[0] == Path() else f"./{places[0]}"
        yield (
            "fastapi_app_migrations",
            where,
            f"there is an alembic.ini in {places[0]}; once a deploy, before the release",
        )
