"""Which operations take files, by documents as FastAPI makes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.openapi.uploads import uploads
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store
from ansible_collections.slipway.fleet.plugins.module_utils.release.uploads import room_for_files

COMPOSE = 'services:\n  web:\n    tmpfs: ["/tmp:mode=1777,noexec,nosuid,size=64m"]\n'


def form(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


def document() -> dict[str, Any]:
    """As FastAPI makes it of UploadFile, list[UploadFile], `UploadFile | None`, bytes, a form without any, and JSON."""
    binary = {"type": "string", "format": "binary"}
    new = {"type": "string", "contentMediaType": "application/octet-stream"}
    schemas = {
        "Body_one": form(file=binary),
        "Body_many": form(files={"type": "array", "items": new}, title={"type": "string"}),
        "Body_maybe": form(file={"anyOf": [binary, {"type": "null"}]}),
        "Body_form": form(title={"type": "string"}),
    }

    def takes(kind: str, schema: dict[str, Any]) -> dict[str, Any]:
        return {"requestBody": {"content": {kind: {"schema": schema}}}}

    def of(name: str) -> dict[str, Any]:
        return takes("multipart/form-data", {"$ref": f"#/components/schemas/Body_{name}"})

    return {
        "openapi": "3.1.0",
        "paths": {
            "/one": {"post": of("one"), "get": {}},
            "/many": {"put": of("many")},
            "/maybe": {"post": of("maybe")},
            "/here": {"patch": takes("multipart/form-data", form(file=new))},
            "/form": {"post": of("form")},
            "/json": {"post": takes("application/json", form(file=binary))},
        },
        "components": {"schemas": schemas},
    }


def test_those_with_a_file_in_their_form() -> None:
    assert sorted(uploads(document())) == ["PATCH /here", "POST /maybe", "POST /one", "PUT /many"]


@pytest.mark.parametrize(
    "hostile",
    [
        {},
        {"paths": []},
        {"paths": {"/a": {"post": {"requestBody": {"content": {"multipart/form-data": {"schema": "a"}}}}}}},
        {
            "paths": {
                "/a": {"post": {"requestBody": {"content": {"multipart/form-data": {"schema": {"$ref": "#/a/b"}}}}}}
            },
            "components": {"schemas": {"b": {"$ref": "#/a/b"}}},
        },
    ],
)
def test_what_is_no_such_document_takes_none(hostile: dict[str, Any]) -> None:
    assert uploads(hostile) == []


def test_a_form_that_many_operations_have_is_read_once() -> None:
    form = {"properties": {f"p{number}": {"type": "array", "items": {}} for number in range(50_000)}}
    operation = {"requestBody": {"content": {"multipart/form-data": {"schema": {"$ref": "#/components/schemas/A"}}}}}
    paths = {f"/{number}": {"post": operation, "put": operation, "patch": operation} for number in range(2000)}
    assert uploads({"paths": paths, "components": {"schemas": {"A": form}}}) == []


@pytest.mark.parametrize(
    ("compose", "mib"),
    [
        (COMPOSE, 64),
        (COMPOSE.replace("size=64m", "size=512m"), 512),
        (COMPOSE + '    environment:\n      "TMPDIR": "/data/scratch"\n', None),
        ("", None),
    ],
)
def test_a_host_says_how_much_room_its_release_has(tmp_path: Path, compose: str, mib: int | None) -> None:
    release = tmp_path / "releases/one"
    release.mkdir(parents=True)
    store = Store(tmp_path)
    (release / "compose.yaml").write_text(compose)
    assert room_for_files(store, "one") is None, "it has not said what it takes"
    store.keep_openapi("one", json.dumps(document()))
    found = room_for_files(store, "one")
    assert (found and found["tmp_mib"]) == mib
    assert room_for_files(store, None) is None
