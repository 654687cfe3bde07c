"""What is around a pull: one answer for a whole run, the authorities on a host, what Docker's words mean."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError
from ansible_collections.slipway.fleet.plugins.module_utils.image.pull import meaning, trust
from ansible_collections.slipway.fleet.plugins.module_utils.image.registry import RegistryError, Resolved, parse
from ansible_collections.slipway.fleet.plugins.module_utils.release.preflight import architecture_problem
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import verdict as fleet
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.pull import Pulled, Wanted, remembered
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import ImageRequest

NAME = "r.example:5000/app:1"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def wanted(**options: Any) -> Wanted:
    return Wanted.of(ImageRequest.of({"name": NAME, **options}))


class Asker:
    """Counts how often it is asked; each answer is another one."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> tuple[Resolved, str]:
        self.asked += 1
        return Resolved(f"sha256:{self.asked}", {"amd64": 5}), "a warning"


def test_one_answer_for_all_hosts_of_a_run() -> None:
    ask = Asker()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: remembered(wanted(), "run", ask), range(8)))
    assert found == [(Resolved("sha256:1", {"amd64": 5}), "a warning")] * 8
    assert remembered(wanted(), "next run", ask)[0].digest == "sha256:2"


@pytest.mark.parametrize(
    "other",
    [
        {"name": "r.example:5000/app:2"},
        {"registry_user": "me"},
        {"registry_password": "another"},
        {"registry_resolve": "host"},
        {"cosign_log": True},
    ],
)
def test_another_question_has_another_answer(other: dict[str, Any]) -> None:
    ask = Asker()
    remembered(wanted(), "run", ask)
    assert remembered(wanted(**other), "run", ask)[0].digest == "sha256:2"


def test_a_refusal_is_not_asked_for_again() -> None:
    asked = []

    def refuse() -> tuple[Resolved, str]:
        asked.append(1)
        raise RegistryError("the registry is down")

    for _ in range(3):
        with pytest.raises(RegistryError, match="the registry is down"):
            remembered(wanted(), "run", refuse)
    assert len(asked) == 1


def test_whether_anything_was_changed_is_for_the_run_to_say() -> None:
    """It was said twice, and after hosts had been changed as well."""
    pulled = Pulled(ImageRequest.of({"name": "127.0.0.1:9/app:1"}), "run")
    with pytest.raises(ImageError) as refused:
        pulled.identify()
    assert str(refused.value).startswith("the controller cannot reach the registry 127.0.0.1:9")
    with pytest.raises(ImageError) as refused:
        Pulled(ImageRequest.of({"name": "App:1"}), "run").identify()
    assert "nothing was changed" not in str(refused.value)


def test_answers_of_earlier_runs_do_not_pile_up(tmp_path: Path) -> None:
    for number in range(30):
        remembered(wanted(), f"run {number}", Asker())
    assert len(list((tmp_path / "cache/slipway/images/resolved").iterdir())) == 20


def test_nothing_that_is_kept_has_the_password(tmp_path: Path) -> None:
    secret = "only-in-memory-7d1f"
    remembered(wanted(registry_user="me", registry_password=secret), "run", Asker())
    assert all(secret not in path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert secret not in repr(wanted(registry_user="me", registry_password=secret))


def test_authorities_of_one_registry(tmp_path: Path) -> None:
    reference, path = parse(NAME), tmp_path / "r.example:5000/ca.crt"
    assert trust(reference, "PEM", check_mode=True, root=tmp_path)
    assert not path.exists()
    assert trust(reference, "PEM", check_mode=False, root=tmp_path)
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("PEM", 0o644)
    assert not trust(reference, "PEM", check_mode=False, root=tmp_path)
    assert trust(reference, "PEM 2", check_mode=False, root=tmp_path)
    assert [each.name for each in path.parent.iterdir()] == ["ca.crt"]


@pytest.mark.parametrize("name", [NAME, "app:1"])
def test_no_authorities_change_nothing(tmp_path: Path, name: str) -> None:
    assert not trust(parse(name), "PEM" if name == "app:1" else "", check_mode=False, root=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("manifest verification failed for digest sha256:1", "does not match the digest"),
        ("filesystem layer verification failed for digest sha256:1", "does not match the digest"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "image_registry_ca_file"),
        ("Head https://r.example/v2/app/manifests/1: unauthorized: authentication required", "does not let this host"),
        ('Get "https://r.example/v2/app/manifests/1": no basic auth credentials', "does not let this host"),
        (
            "pull access denied for app, repository does not exist or may require 'docker login'",
            "does not let this host",
        ),
        ("no matching manifest for linux/amd64 in the manifest list entries", "architecture"),
        ("manifest for r.example/app@sha256:1 not found: manifest unknown: manifest unknown", "has it no more"),
        ('Get "https://r.example/v2/": dial tcp 10.0.0.1:443: connect: connection refused', "cannot reach"),
        ('Get "https://r.example/v2/": dial tcp: lookup r.example on 10.0.0.2:53: no such host', "cannot reach"),
        ('Get "https://r.example/v2/": net/http: request canceled (Client.Timeout exceeded)', "cannot reach"),
        ("failed to register layer: write /x: no space left on device", "the disk is full"),
        ("something new", "journalctl -u docker"),
    ],
)
def test_what_dockers_words_mean(said: str, means: str) -> None:
    assert means in meaning(f"`docker pull` failed: Error response from daemon: {said}")


@pytest.mark.parametrize(
    ("architectures", "machine", "refused"),
    [
        (["amd64"], "x86_64", False),
        (["amd64", "arm64"], "aarch64", False),
        (["386"], "x86_64", False),
        (["arm64"], "x86_64", True),
        (["amd64", "arm64"], "riscv64", True),
        ([], "x86_64", False),
        (["amd64"], "a-machine-of-tomorrow", False),
    ],
)
def test_architectures(architectures: list[str], machine: str, refused: bool) -> None:
    assert bool(architecture_problem("app@sha256:1", architectures, machine)) is refused


def test_a_wrong_architecture_says_what_to_do() -> None:
    assert architecture_problem("app@sha256:1", ["arm64", "s390x"], "x86_64") == (
        "architecture: this host is amd64 (x86_64), the image app@sha256:1 is made for arm64 and s390x alone; build it "
        "for linux/amd64 too, or leave this host out"
    )


def test_a_plan_shows_which_image_follows_which() -> None:
    row = {"host": "web1", "was": "1", "batch": 1, "breaks": []}
    images = [("app@sha256:1", "app@sha256:2"), ("app@sha256:1", "app@sha256:2"), ("", "app@sha256:2")]
    lines = fleet.plan([row], "2", images=images).splitlines()
    assert lines[2:] == ["Image: app@sha256:1 -> app@sha256:2", "Image: none -> app@sha256:2"]


@pytest.mark.parametrize("images", [[("app@sha256:1", "app@sha256:1")], [("app@sha256:1", "")]])
def test_a_plan_says_nothing_of_an_image_that_stays(images: list[tuple[str, str]]) -> None:
    assert "Image" not in fleet.plan([{"host": "web1", "was": "1", "batch": 1, "breaks": []}], "2", images=images)
