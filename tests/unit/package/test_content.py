"""The package of a release as the coordinator has it: code is read once, wheels are fetched once for each Python."""

from __future__ import annotations

import asyncio
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import PackageError, Target
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import ContentError
from ansible_collections.slipway.fleet.plugins.plugin_utils.package import put as package_put
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.content import package_content
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.put import PackageWay
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.request import PackageRequest
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.source import PackageSource, Wheel

LOCK = f"uvicorn==1.0 --hash=sha256:{'0' * 64}\n"


class Machine:
    """A host with a Python, and what was installed on it."""

    def __init__(self, name: str, python: str = "3.13.5") -> None:
        self.name = name
        self.target = Target(python, "x86_64", "2.41")
        self.installed: list[str] = []

    async def call(
        self, verb: str, arguments: Mapping[str, Any], on_event: Callable[[dict[str, Any]], None] | None = None
    ) -> dict[str, Any]:
        assert (verb, arguments["root"], arguments["python"]) == ("package", "/opt/slipway/app", "/usr/bin/python3")
        if arguments["operation"] == "find":
            present = arguments["content"] in self.installed
            return {"present": present, "target": self.target.as_dict(), "wheels": []}
        assert arguments["operation"] == "install"
        assert arguments["archive"] == "/sent"
        self.installed.append(arguments["content"])
        return {"changed": True}

    async def send(self, file: Path) -> str:
        return "/sent"

    async def fetch(self, remote: str, local: Path) -> None: ...

    async def close(self) -> None: ...


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """For which Pythons wheels were fetched."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    wheel = tmp_path / "uvicorn-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("uvicorn-1.0.dist-info/METADATA", "Name: uvicorn\nVersion: 1.0\n")
    asked: list[str] = []

    def fetch(_: str, target: Target, *__: object, **___: object) -> list[Wheel]:
        asked.append(target.short)
        return [Wheel(wheel, "0" * 64)]

    monkeypatch.setattr(package_put, "cached_wheels", fetch)
    return asked


@pytest.fixture
def request_(tmp_path: Path) -> PackageRequest:
    source = tmp_path / "source"
    (source / "app").mkdir(parents=True)
    (source / "app/main.py").write_text("1")
    (source / "app.lock").write_text(LOCK)
    given = {"app": "app", "root": "/opt/slipway/app", "source": source, "files": ["app"], "lock": "app.lock"}
    return PackageRequest.of({**given, "sbom": True})


async def deploy(
    request: PackageRequest, hosts: list[Machine], check_mode: bool = False
) -> tuple[Path | None, list[Any]]:
    content = package_content(request, check_mode)
    await content.identify()
    seen = dict(zip([host.name for host in hosts], await asyncio.gather(*map(content.look, hosts)), strict=True))
    await content.prepare(seen, {host.name: host for host in hosts})
    put = await asyncio.gather(*(content.put(host, seen[host.name]) for host in hosts))
    return await content.bill(), [(identity.reference, changed) for identity, changed in put]


async def test_wheels_are_fetched_once_for_each_python_and_code_is_read_once(
    fetched: list[str], request_: PackageRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    usual = PackageSource.key

    def counted(self: PackageSource) -> str:
        read.append(1)
        return usual(self)

    monkeypatch.setattr(PackageSource, "key", counted)
    hosts = [Machine("a"), Machine("b"), Machine("c", "3.12.1")]
    bill, put = await deploy(request_, hosts)
    assert sorted(fetched) == ["3.12", "3.13"]
    assert len(read) == 1
    assert [changed for _, changed in put] == [True] * 3
    assert {reference for reference, _ in put} == {f"/opt/slipway/app/packages/{hosts[0].installed[0][:12]}"}
    assert bill is not None
    assert "pkg:pypi/uvicorn@1.0" in bill.read_text()


async def test_nothing_changed_fetches_and_sends_nothing(fetched: list[str], request_: PackageRequest) -> None:
    host = Machine("a")
    await deploy(request_, [host])
    fetched.clear()
    _, put = await deploy(request_, [host])
    assert (put[0][1], fetched, len(host.installed)) == (False, [], 1)


async def test_another_python_is_another_package(fetched: list[str], request_: PackageRequest) -> None:
    """Else a change of it would be no release, and the app went on with the Python that it has."""
    named = [replace(request_, python=python) for python in ("3.13", "3.13.5", "/opt/bin/python3")]
    ways = [PackageWay(request) for request in (request_, *named)]
    assert len({way.identity.content for way in ways}) == 4
    assert ways[0].key == ways[0].source.key()


@pytest.mark.parametrize("name", ["app/main.py", "app.lock"])
async def test_code_that_changes_during_a_deploy_is_sent_to_no_further_host(
    fetched: list[str], request_: PackageRequest, name: str
) -> None:
    content, hosts = package_content(request_, check_mode=False), [Machine("a"), Machine("b")]
    await content.identify()
    seen = [await content.look(host) for host in hosts]
    await content.put(hosts[0], seen[0])
    (request_.source / name).write_text(LOCK + "# changed\n")
    with pytest.raises(ContentError, match=r"source was changed while it was deployed, .*; leave it alone and deploy"):
        await content.put(hosts[1], seen[1])
    assert hosts[1].installed == []


async def test_a_dry_run_fetches_and_sends_nothing(fetched: list[str], request_: PackageRequest) -> None:
    host = Machine("a")
    bill, put = await deploy(request_, [host], check_mode=True)
    assert (bill, put[0][1], fetched, host.installed) == (None, True, [], [])


async def test_what_is_wrong_is_refused_before_a_host_is_asked(request_: PackageRequest) -> None:
    (request_.source / "app.lock").write_text("uvicorn==1.0\n")
    with pytest.raises(ContentError, match="uvicorn has no exact version with a sha256 hash"):
        await deploy(request_, [])


async def test_why_there_is_no_bill_is_said(
    fetched: list[str], request_: PackageRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise PackageError("no index")

    content = package_content(request_, check_mode=False)
    await content.look(Machine("a"))
    monkeypatch.setattr(package_put, "cached_wheels", failing)
    with pytest.raises(ContentError, match="no index"):
        await content.bill()
