"""Secrets that an image has in it are found, where they come by mistake, and told by name alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.image import leaks as module
from ansible_collections.slipway.fleet.plugins.module_utils.image.leaks import MOST_FILES, drawn, leaks, small_files

VALUE = "planted-secret-0123456789"
SECRETS = {"PAYMENT_KEY": VALUE, "OTHER": "another-value-42", "SHORT": "abc"}


class Docker:
    """What Docker tells of one image, whose layers are directories here."""

    def __init__(self, root: Path) -> None:
        self.upper, self.lower = root / "upper", root / "lower"
        self.config: dict[str, Any] = {"Env": ["PATH=/bin"], "Labels": None, "Cmd": ["uvicorn"], "Entrypoint": None}
        self.steps = ['CMD ["uvicorn"]', "COPY dir:1 in /srv"]
        self.calls = 0
        for directory in (self.upper, self.lower):
            directory.mkdir()

    def __call__(self, *words: str, **_: Any) -> str:
        self.calls += 1
        if words[0] == "history":
            return "".join(f"{json.dumps(step)}\n" for step in self.steps)
        data = {"UpperDir": str(self.upper), "LowerDir": str(self.lower)}
        return json.dumps([{"Config": self.config, "GraphDriver": {"Name": "overlay2", "Data": data}}])

    def write(self, path: str, text: str) -> Path:
        file = self.lower / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file


@pytest.fixture
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Docker:
    found = Docker(tmp_path)
    monkeypatch.setattr(module, "docker", found)
    return found


def test_an_image_without_them_is_told_as_that(docker: Docker) -> None:
    docker.write("srv/app.py", "print(1)")
    assert leaks("shop:1", SECRETS) == []


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"Env": [f"STRIPE_KEY={VALUE}"]}, "ENV STRIPE_KEY"),
        ({"Env": [f"URL=https://{VALUE}@example.org/"]}, "ENV URL"),
        ({"Labels": {"build.token": VALUE}}, "LABEL build.token"),
        ({"Entrypoint": ["sh", "-c", f"export KEY={VALUE}; exec app"]}, "ENTRYPOINT"),
        ({"Cmd": ["app", "--key", VALUE]}, "CMD"),
    ],
)
def test_what_an_image_says_of_itself(docker: Docker, config: dict[str, Any], said: str) -> None:
    docker.config |= config
    assert leaks("shop:1", SECRETS) == [f"PAYMENT_KEY ({said})"]


def test_a_build_argument_stands_in_the_history(docker: Docker) -> None:
    docker.steps.insert(1, f"|1 TOKEN={VALUE} /bin/sh -c pip install private")
    assert leaks("shop:1", SECRETS) == ["PAYMENT_KEY (step 2 of its history)"]


def test_a_file_of_any_layer_also_one_that_a_later_layer_took_away(docker: Docker) -> None:
    docker.write("srv/.env", f"A=1\nPAYMENT_KEY={VALUE}\nOTHER={SECRETS['OTHER']}\n")
    docker.write("root/.config/pip/pip.conf", f"password = {VALUE}")
    (docker.upper / "srv").mkdir()
    (docker.upper / "srv/.env").write_text("")
    assert leaks("shop:1", SECRETS) == [
        "OTHER (file /srv/.env)",
        "PAYMENT_KEY (file /root/.config/pip/pip.conf, file /srv/.env)",
    ]


def test_of_many_places_three_are_told(docker: Docker) -> None:
    for number in range(5):
        docker.write(f"srv/{number}", VALUE)
    assert leaks("shop:1", SECRETS) == ["PAYMENT_KEY (file /srv/0, file /srv/1, file /srv/2, ...)"]


def test_what_is_looked_at_is_little(docker: Docker) -> None:
    large = docker.write("srv/model", VALUE + "." * (1 << 16))
    package = docker.write("opt/venv/lib/python3.13/site-packages/x.py", VALUE)
    system = docker.write("usr/share/doc/x", VALUE)
    link, pipe = docker.lower / "srv/link", docker.lower / "srv/pipe"
    link.symlink_to(package)
    os.mkfifo(pipe)
    assert leaks("shop:1", SECRETS) == []
    assert all(path.exists() for path in (large, system, link, pipe))
    for number in range(MOST_FILES + 10):
        docker.write(f"srv/many/{number}", "x")
    assert len(list(small_files([docker.upper, docker.lower]))) == MOST_FILES


def test_without_a_secret_that_was_drawn_nobody_is_asked(docker: Docker) -> None:
    assert leaks("shop:1", {"A": "postgres", "B": "", "C": "12345678"}) == []
    assert docker.calls == 0


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (VALUE, True),
        ("s3cretpw", True),
        ("correcthorsebatterystaple", True),
        ("postgresql://shop:pa55word@db/shop", True),
        ("-----BEGIN PRIVATE KEY-----\nMIIE", True),
        ("short", False),
        ("aaaaaaaaaaaa", False),
        ("production", False),
        ("Changeme", False),
        ("20261127", False),
        ("redis://cache:6379/0", False),
        ("https://example.org/path", False),
        ("-----BEGIN CERTIFICATE-----\nMIIE", False),
        ("        \n", False),
    ],
)
def test_values_that_anybody_has_are_no_find(value: str, wanted: bool) -> None:
    assert drawn(value) is wanted
