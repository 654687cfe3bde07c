"""The apps of this scenario, as their teams would write their inventories."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from contract import ANSWER, until
from fleet import on, ssh_inventory
from foreign import ADDRESS, HOST, PLAIN, PLAIN_ADDRESS, QUICK, App, of_the_notes
from redis import Redis
from redis.exceptions import RedisError

from lab.registry import PASSWORD, USER, Image, Registry

Make = Callable[..., App]
Told = Callable[[], Any]
BROKER_PORT = 6399
APPS = Path(__file__).resolve().parents[1] / "apps"
# As python-build-standalone has it: one that runs wherever it lies.
PYTHON = """
{ apt-get update; apt-get install -y --no-install-recommends python3.11-venv; } >&2
mkdir -p /tmp/all/python/bin /tmp/all/python/lib
cp /usr/bin/python3.11 /tmp/all/python/bin
cp -r /usr/lib/python3.11 /tmp/all/python/lib
ln -s python3.11 /tmp/all/python/bin/python3
rm /tmp/all/python/lib/python3.11/sitecustomize.py
tar -C /tmp/all -cz python
"""
# Where no registry is reached, the lab's Python image stands in for python:3.13-slim. Lab hosts share the memory of
# one machine.
LAB: dict[str, Any] = {
    "fastapi_image_build_args": {"PYTHON": "slipway.lab/python:3.13"},
    "fastapi_app_memory_mib": 192,
    "fastapi_app_disk_reserve": 256,
}


@pytest.fixture(scope="session")
def make_app(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Write the inventory of an app, which has what its team would write, and make it ready for the lab.

    With `data` its database is on the host, and these are the variables of that.
    """

    def make(host: str = HOST, address: str = ADDRESS, data: dict[str, Any] | None = None, **variables: Any) -> App:
        name = str(variables["fastapi_app_name"])
        whole = {key: value for key, value in (LAB | variables).items() if value is not None}
        scratch = tmp_path_factory.mktemp(name)
        groups = {"web": [host], **({"data": [host]} if data else {})}
        inventory = ssh_inventory(scratch, {host: address}, groups)
        (scratch / "group_vars").mkdir()
        (scratch / "group_vars" / "data.yml").write_text(yaml.safe_dump(data or {}))
        (scratch / "group_vars" / "web.yml").write_text(yaml.safe_dump(whole))
        names = tuple(variables["fastapi_app_host_names"])
        # Beside other work apps start slowly; what is refused here is so by its answer.
        patient = QUICK | {"fastapi_app_gate_deadline": 180}
        place: dict[str, Any] = {"inventory": inventory, "url": "", "scratch": scratch, "usual": patient}
        return App(**place, name=name, variables=whole, names=names, host=host, address=address)

    return make


def stand_in_broker(host: str, address: str) -> Told:
    """Start what stands in for a broker, beside the host's apps; returns a way to ask what it has seen."""
    subprocess.run(["docker", "cp", str(APPS / "broker.py"), f"{host}:/usr/local/bin/broker.py"], check=True)
    start = f"[Service]\\nExecStart=python3 /usr/local/bin/broker.py {BROKER_PORT}\\n"
    unit = start + "[Install]\\nWantedBy=multi-user.target\\n"
    on(host, f"printf '{unit}' >/etc/systemd/system/broker.service && systemctl enable --now broker")

    def told() -> Any:
        with urllib.request.urlopen(f"http://{address}:{BROKER_PORT}/told", timeout=ANSWER) as answer:
            return json.load(answer)

    return told


@pytest.fixture(scope="session")
def broker() -> Told:
    return stand_in_broker(HOST, ADDRESS)


@pytest.fixture(scope="session")
def plain_broker() -> Told:
    return stand_in_broker(PLAIN, PLAIN_ADDRESS)


@pytest.fixture(scope="session")
def gateway() -> str:
    """Where the network of the host in containers meets this machine."""
    return on(HOST, "ip -4 route show default").split()[2]


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory, gateway: str) -> Iterator[Registry]:
    with Registry(tmp_path_factory.mktemp("registry"), gateway) as server:
        yield server


@pytest.fixture(scope="session")
def queue(tmp_path_factory: pytest.TempPathFactory, gateway: str) -> Iterator[Redis]:
    """A broker as a team has it elsewhere."""
    port = 6398
    words = ["redis-server", "--bind", gateway, "--port", str(port), "--protected-mode", "no", "--save", ""]
    with subprocess.Popen(words, cwd=tmp_path_factory.mktemp("queue"), stdout=subprocess.DEVNULL) as server:
        client = Redis(gateway, port, decode_responses=True)
        until(lambda: answers(client), "the broker answers")
        yield client
        server.terminate()


def answers(client: Redis) -> bool:
    try:
        return bool(client.ping())
    except RedisError:
        return False


@pytest.fixture(scope="session")
def tiles(make_app: Make, registry: Registry) -> App:
    """Five lines, and beside them what leads to a registry that is not public."""
    image = "slipway-foreign/tiles"
    python = f"PYTHON={LAB['fastapi_image_build_args']['PYTHON']}"
    build = ["docker", "build", "--quiet", "--tag", image, "--build-arg", python, str(APPS / "tiles")]
    subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
    registry.push("team/tiles", "2.4.0", Image.of_docker(image))
    return make_app(
        fastapi_app_name="tiles",
        fastapi_app_host_names=["tiles.example.org"],
        fastapi_image_name=f"{registry.name}/team/tiles:2.4.0",
        fastapi_app_port=80,
        fastapi_app_health_path="/healthz",
        fastapi_image_registry_user=USER,
        fastapi_image_registry_password=PASSWORD,
        fastapi_image_registry_ca_file=str(registry.ca_file),
    )


def of_the_shop(address: str) -> dict[str, Any]:
    """What its team says of it, whatever it runs by."""
    return {
        "fastapi_app_name": "shop",
        "fastapi_app_host_names": ["shop.example.org"],
        "fastapi_app_port": 8000,
        "fastapi_app_health_path": "/health/",
        "fastapi_app_environment": {
            "PRICE_FORMAT": '$ {price} 100% "net"\n',
            "ORIGINS": ["https://shop.example.org", "https://www.example.org"],
            "BETA": True,
            "BROKER": f"{address}:{BROKER_PORT}",
        },
        "fastapi_app_secrets": {"PAYMENT_KEY": "planted-$payment-key"},
        "fastapi_app_processes": {
            "worker": {"command": ["python", "-m", "src.worker"], "replicas": 2, "stop_grace": 60, "memory_mib": 64},
            "beat": {"command": ["python", "-m", "src.beat"], "singleton": True, "memory_mib": 64},
        },
        "fastapi_app_jobs": {
            "tally": {"command": ["python", "-m", "src.tally"], "schedule": "*:*:0/10", "limit": 600},
            "ledger": {"command": ["sh", "-c", "echo no ledger of $RELEASE_APP today; exit 3"], "schedule": "*-01-01"},
        },
    }


@pytest.fixture(scope="session")
def shop(make_app: Make) -> App:
    return make_app(
        **of_the_shop(ADDRESS),
        fastapi_image_context=str(APPS / "shop"),
        fastapi_app_volumes={"uploads": "/home/shop/uploads"},
    )


@pytest.fixture(scope="session")
def shop_staging(make_app: Make, shop: App) -> App:
    """The shop's inventory, copied: other names, another key of whoever takes the money, and nothing that works."""
    own = {
        "fastapi_app_name": "shop-staging",
        "fastapi_app_host_names": ["staging.shop.example.org"],
        "fastapi_app_secrets": {"PAYMENT_KEY": "planted-key-of-staging"},
        "fastapi_app_environment": shop.variables["fastapi_app_environment"] | {"HOSTS": "staging.shop.example.org"},
        "fastapi_app_processes": {},
        "fastapi_app_jobs": {},
    }
    return make_app(**shop.variables | own)


@pytest.fixture(scope="session")
def board(make_app: Make, queue: Redis) -> App:
    place = queue.connection_pool.connection_kwargs
    return make_app(
        fastapi_app_name="board",
        fastapi_app_host_names=["board.example.org", "forum.example.org"],
        fastapi_image_context=str(APPS / "board"),
        fastapi_app_port=5000,
        fastapi_app_health_path="/",
        fastapi_app_assets=["/srv/board/static"],
        fastapi_app_jobs={"yearly": {"command": ["true"], "schedule": "yearly"}},
        fastapi_app_environment={"BROKER": f"redis://{place['host']}:{place['port']}/0"},
        fastapi_app_processes={
            "worker": {
                "command": ["celery", "--app", "tasks", "worker", "--concurrency", "1"],
                "stop_grace": 60,
                "memory_mib": 192,
            },
            "beat": {
                "command": ["celery", "--app", "tasks", "beat", "--schedule", "/tmp/beat"],
                "singleton": True,
                "memory_mib": 128,
            },
        },
    )


@pytest.fixture(scope="session")
def feed(make_app: Make) -> App:
    """Where it listens its image says by EXPOSE, and no line."""
    return make_app(
        fastapi_app_name="feed",
        fastapi_app_host_names=["feed.example.org"],
        fastapi_image_context=str(APPS / "feed"),
        fastapi_app_health_path="/",
    )


@pytest.fixture(scope="session")
def depot(make_app: Make) -> App:
    """Nothing in its image but Python could make a variable of the secret. One of it may be there at a time."""
    return make_app(
        fastapi_app_name="depot",
        fastapi_app_host_names=["depot.example.org"],
        fastapi_image_context=str(APPS / "depot"),
        fastapi_app_port=8000,
        fastapi_app_health_path="/ready",
        fastapi_app_secrets={"DEPOT_KEY": "planted-key"},
        fastapi_app_slots_overlap=False,
    )


@pytest.fixture(scope="session")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """A copy of a project with its lock, as its team would commit it, made by uv."""

    def lock(name: str, *words: str) -> str:
        project = tmp_path_factory.mktemp("locked") / name
        shutil.copytree(APPS / name, project)
        subprocess.run(["uv", *words], cwd=project, check=True)
        return str(project)

    return lock


@pytest.fixture(scope="session")
def older_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A version that uv fetches, of which what it fetches is that of Debian 12, since no mirror may be in reach."""
    scratch = tmp_path_factory.mktemp("python")
    archive, name = scratch / "python.tar.gz", "cpython-3.11.2-linux-x86_64-gnu"
    made = ["docker", "run", "--rm", "slipway.lab/host:bookworm", "sh", "-euc", PYTHON]
    with archive.open("wb") as stream:
        subprocess.run(made, stdout=stream, check=True)
    about: dict[str, Any] = {
        "name": "cpython",
        "arch": {"family": "x86_64", "variant": None},
        "os": "linux",
        "libc": "gnu",
    }
    about |= {"major": 3, "minor": 11, "patch": 2, "prerelease": "", "variant": None, "build": None}
    (scratch / "downloads.json").write_text(json.dumps({name: {**about, "url": archive.as_uri(), "sha256": None}}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UV_PYTHON_DOWNLOADS_JSON_URL", str(scratch / "downloads.json"))
        # That it is not what uv has stays here; the rest of the cache is the controller's own.
        usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        patch.setenv("UV_CACHE_DIR", os.environ.get("UV_CACHE_DIR") or str(usual / "uv"))
        patch.setenv("XDG_CACHE_HOME", str(scratch))
        (scratch / "slipway").mkdir()
        (scratch / "slipway/wheels").symlink_to(usual / "slipway/wheels")
        yield "3.11"


@pytest.fixture(scope="session")
def poetry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Poetry with its plugin on PATH, as pipx would have it."""
    directory = tmp_path_factory.mktemp("bin")
    program = directory / "poetry"
    program.write_text('#!/bin/sh\nexec uvx --with poetry-plugin-export poetry "$@"\n')
    program.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(directory), prepend=os.pathsep)
        yield


@pytest.fixture(scope="session")
def source_of_notes(locked: Callable[..., str]) -> str:
    return locked("notes", "lock")


@pytest.fixture(scope="session")
def notes(make_app: Make, source_of_notes: str) -> App:
    """uv.lock, a source layout, and migrations of PostgreSQL; as large as a slot is where nothing is said."""
    return make_app(
        PLAIN,
        PLAIN_ADDRESS,
        **of_the_notes("notes"),
        fastapi_app_runtime="systemd",
        fastapi_package_source=source_of_notes,
        fastapi_app_command=[
            *("fastapi", "run", "src/notes/main.py", "--host", "127.0.0.1", "--port", "@PORT@", "--workers", "2"),
        ],
        fastapi_app_port=8000,
        fastapi_app_health_path="/healthz",
        fastapi_app_migrations="alembic",
        fastapi_app_memory_mib=None,
    )


@pytest.fixture(scope="session")
def plain_shop(make_app: Make, locked: Callable[..., str]) -> App:
    """Requirements without versions, of which pip's lock was made; an entry point, by its name."""
    compiled = ("pip", "compile", "--quiet", "--generate-hashes", "requirements.txt", "-o", "requirements.lock")
    return make_app(
        PLAIN,
        PLAIN_ADDRESS,
        **of_the_shop(PLAIN_ADDRESS),
        fastapi_app_runtime="systemd",
        fastapi_package_source=locked("shop", *compiled),
        fastapi_package_files=["src", "entrypoint.sh"],
        fastapi_app_command=["sh", "entrypoint.sh", "uvicorn", "src.shop:app"],
        fastapi_app_volumes={"uploads": "/srv/uploads"},
        fastapi_app_uid=10002,
    )


@pytest.fixture(scope="session")
def desk(make_app: Make, poetry: None, older_python: str) -> App:
    """poetry.lock, Gunicorn with a file of its own, and a Python that the host has not."""
    return make_app(
        PLAIN,
        PLAIN_ADDRESS,
        fastapi_app_name="desk",
        fastapi_app_host_names=["desk.example.org"],
        fastapi_app_runtime="systemd",
        fastapi_package_source=str(APPS / "desk"),
        fastapi_package_python=older_python,
        fastapi_app_command=["gunicorn", "desk:app"],
        fastapi_app_volumes={"data": "/srv/data"},
        fastapi_app_environment={"TICKETS": "/srv/data/tickets.db"},
        # One writer, as SQLite has it.
        fastapi_app_slots_overlap=False,
        fastapi_app_port=5000,
        fastapi_app_health_path="/",
        fastapi_app_uid=10003,
    )
