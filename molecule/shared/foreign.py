"""Apps that were not written for Slipway, each with an inventory of its own, on two hosts over SSH."""

from __future__ import annotations

import http.client
import json
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from contract import ANSWER, PATIENCE
from deployment import Deployment, Outcome
from fleet import on

# In containers, and under systemd.
HOST, ADDRESS = "slipway-foreign", "172.29.88.10"
PLAIN, PLAIN_ADDRESS = "slipway-foreign-plain", "172.29.88.11"
# For the tests' patience alone.
QUICK: dict[str, Any] = {"fastapi_app_soak": 2, "fastapi_app_drain": 5, "fastapi_app_canary": {"judged": False}}


@dataclass
class Asking:
    """What somebody got who asked an app, all the time."""

    asked: int = 0
    wrong: list[str] = field(default_factory=list)
    losses: int = 0  # how often a good answer was followed by a wrong one


# How a run says for how long nobody answered.
GAP = re.compile(r"nobody answered for (\d+\.\d) s, as fastapi_app_slots_overlap says")


def nothing_lost(*askings: Asking) -> None:
    for asking in askings:
        assert asking.wrong == [], f"{len(asking.wrong)} of {asking.asked}"
        assert asking.asked > 20


@dataclass
class App(Deployment):
    """An app with an inventory of its own, asked under its own name, by users and by the probe of a run alike."""

    name: str = ""
    variables: dict[str, Any] = field(default_factory=dict)
    names: tuple[str, ...] = ()
    host: str = HOST
    address: str = ADDRESS

    def get(self, path: str = "/") -> tuple[int, str]:
        """Status and body through the host's edge, under the app's name; 0 where nobody answers."""
        connection = http.client.HTTPConnection(self.address, 80, timeout=ANSWER)
        try:
            connection.request("GET", path, headers={"Host": self.names[0]})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return 0, f"{type(error).__name__}: {error}"
        finally:
            connection.close()

    def json(self, path: str = "/") -> Any:
        status, body = self.get(path)
        assert status == 200, body
        return json.loads(body)

    def send(self, mib: int) -> int:
        """Upload a file of so many MiB as a form does; returns the status, once the app has it whole."""
        form = {"file": bytes(mib << 20)}
        answer = httpx.post(
            f"http://{self.address}/measured", headers={"Host": self.names[0]}, files=form, timeout=PATIENCE
        )
        assert answer.status_code != 200 or answer.json() == {"bytes": mib << 20}
        return answer.status_code

    @property
    def release(self) -> str:
        return str(json.loads(on(self.host, f"cat /opt/slipway/{self.name}/state.json"))["release"])

    @contextmanager
    def asked(self, path: str = "/", says: str = "", rate: float = 10.0) -> Iterator[Asking]:
        """Ask for a page while the block runs, and whether it says that; by default whether it is this app's."""
        found, done = Asking(), threading.Event()
        words = says or f'"{self.name}"'

        def ask() -> None:
            well = True
            while not done.wait(1 / rate):
                status, body = self.get(path)
                found.asked += 1
                well, before = status == 200 and words in body, well
                found.losses += before and not well
                if not well:
                    found.wrong.append(f"{status} {body[:200]}")

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            yield found
        finally:
            done.set()
            thread.join()


def of_the_notes(name: str) -> dict[str, Any]:
    """What names the app and its database, on the distribution's server; staging has names of its own."""
    database, password = name.replace("-", "_"), f"for-tests-only-{name}"
    url = f"postgresql+psycopg://{database}:{password}@/{database}?host=/run/postgresql"
    return {
        "fastapi_app_name": name,
        "fastapi_app_host_names": [f"{name}.example.org"],
        "fastapi_app_secrets": {"DATABASE_URL": url},
        "data": {
            "postgres_provider": "native",
            "postgres_database": database,
            "postgres_user": database,
            "postgres_password": password,
            "redis_provider": "none",
        },
    }


# Releases side by side: as many as the machine has processors, or they would wait for each other alone.
AT_A_TIME = 2


def side_by_side(changes: dict[str, dict[str, Any]], apps: Sequence[App]) -> dict[str, Outcome]:
    """Deploy all of them with these variables, some at a time, while each is asked.

    None loses a request, but for one whose releases may not overlap: nobody answers it in one stretch, of which the
    run says how long it was.
    """
    with ExitStack() as askings, ThreadPoolExecutor(AT_A_TIME) as pool:
        asked = {app.name: askings.enter_context(app.asked(rate=5)) for app in apps}
        begun = {app.name: pool.submit(app.play, "deploy", **changes[app.name]) for app in apps}
        outcomes = {name: running.result() for name, running in begun.items()}
    overlap = {app.name: app.variables.get("fastapi_app_slots_overlap", True) for app in apps}
    nothing_lost(*(asking for name, asking in asked.items() if overlap[name]))
    for name, outcome in outcomes.items():
        gaps = [float(seconds) for seconds in GAP.findall(outcome.output)]
        assert bool(gaps) is not overlap[name], outcome.output
        asking = asked[name]
        assert [words for words in asking.wrong if not words.startswith("503 ")] == []
        assert asking.losses <= len(gaps), f"{len(asking.wrong)} of {asking.asked}"
    return outcomes
