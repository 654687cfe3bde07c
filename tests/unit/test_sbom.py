"""Bills of materials: what an image holds is found, the documents are valid, and equal contents give equal bytes."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.image import inventory as image_inventory
from ansible_collections.slipway.fleet.plugins.module_utils.release.store import Store
from ansible_collections.slipway.fleet.plugins.plugin_utils.sbom import document as sbom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

STATUS = """\
Package: libssl3t64
Status: install ok installed
Source: openssl
Version: 3.5.1-1+deb13u1
Architecture: amd64

Package: tool
Status: install ok installed
Source: tool-source (1.0)
Version: 1.0+b2
Architecture: amd64
Description: x
 Package: not-a-package

Package: gone
Status: deinstall ok config-files
Version: 1
Architecture: all
"""
FILES = {
    "usr/lib/os-release": 'ID=debian\nVERSION_ID="13"\nVERSION_CODENAME=trixie\nNAME="x"\n',
    "var/lib/dpkg/status": STATUS,
    "./var/lib/dpkg/status.d/base": "Package: base\nVersion: 2\nArchitecture: all\n",
    "usr/share/doc/tool/copyright": "Format: x\n\nFiles: *\nLicense: GPL-2+\n text\n\nFiles: a\nLicense: Expat\n",
    "usr/share/doc/libssl3t64/copyright": "Free text.\nLicense: none\n",
    "opt/venv/lib/python3.13/site-packages/uvicorn-1.0.dist-info/METADATA": (
        "Metadata-Version: 2.4\nName: uvicorn\nVersion: 1.0\nLicense-Expression: BSD-3-Clause\n\nName: body\n"
    ),
    "opt/venv/lib/python3.13/site-packages/old.egg-info/PKG-INFO": (
        "Name: Old_Thing\nVersion: 2\nLicense: a\nClassifier: License :: OSI Approved :: MIT License\n"
    ),
    "opt/copy/uvicorn-1.0.dist-info/METADATA": "Name: Uvicorn\nVersion: 1.0\n",
    "srv/METADATA": "Name: no\nVersion: 1\n",
}


def root(files: dict[str, str] = FILES) -> io.BytesIO:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, text in files.items():
            item = tarfile.TarInfo(name)
            item.size = len(text.encode())
            archive.addfile(item, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("etc/os-release")
        link.type, link.linkname = tarfile.SYMTYPE, "../usr/lib/os-release"
        archive.addfile(link)
    target.seek(0)
    return target


def inventory() -> dict[str, Any]:
    found = image_inventory.read(root())
    return {"id": "sha256:" + "ab" * 32, "created": "2026-01-02T03:04:05.123456789Z", "architecture": "amd64", **found}


def valid(text: str) -> dict[str, Any]:
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert problem is None, str(problem)
    document: dict[str, Any] = json.loads(text)
    return document


def test_packages_and_distributions_are_found() -> None:
    found = image_inventory.read(root())
    assert found["system"] == {"ID": "debian", "VERSION_ID": "13", "VERSION_CODENAME": "trixie"}
    assert [(item["name"], item["source"], item["source_version"], item["licence"]) for item in found["debian"]] == [
        ("base", "base", "2", ""),
        ("libssl3t64", "openssl", "3.5.1-1+deb13u1", ""),
        ("tool", "tool-source", "1.0", "Expat AND GPL-2+"),
    ]
    assert [(item["name"], item["version"], item["licence"]) for item in found["python"]] == [
        ("Old_Thing", "2", "MIT License"),
        ("uvicorn", "1.0", "BSD-3-Clause"),
    ]


def test_the_document_of_an_image_is_valid_and_names_all_of_it() -> None:
    document = valid(sbom.of_image("slipway/app", inventory()))
    assert document["specVersion"] == "1.6"
    assert document["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert document["metadata"]["timestamp"].startswith("2026-01-02T03:04:05.123456")
    purls = {component["name"]: component["purl"] for component in document["components"]}
    assert purls["tool"] == "pkg:deb/debian/tool@1.0%2Bb2?arch=amd64&distro=debian-13"
    assert purls["Old_Thing"] == "pkg:pypi/old-thing@2"
    assert len(purls) == 5


def test_the_schema_refuses_what_is_wrong() -> None:
    document = json.loads(sbom.of_image("slipway/app", inventory()))
    document["components"][0]["type"] = "thing"
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document)) is not None


def test_equal_contents_give_equal_documents_in_every_process() -> None:
    script = (
        "import json, sys; from ansible_collections.slipway.fleet.plugins.plugin_utils.sbom import document as sbom;"
        "sys.stdout.write(sbom.of_image('x', json.load(sys.stdin)))"
    )
    paths = [path for path in sys.path if path]
    texts = {
        subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:] = {paths!r}; {script}"],
            input=json.dumps(inventory()),
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(texts) == 1
    other = sbom.of_image("x", inventory() | {"id": "sha256:" + "cd" * 32})
    assert json.loads(other)["serialNumber"] != json.loads(texts.pop())["serialNumber"]


def test_the_document_of_a_package_comes_from_its_wheels(tmp_path: Path) -> None:
    path = tmp_path / "uvicorn-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("uvicorn-1.0.dist-info/METADATA", "Name: uvicorn\nVersion: 1.0\nLicense-Expression: MIT\n")
    document = valid(sbom.of_wheels("shortlinks", "ef" * 32, [(path, sbom.sha256(path))]))
    (component,) = document["components"]
    assert component["hashes"] == [{"alg": "SHA-256", "content": sbom.sha256(path)}]
    assert component["licenses"] == [{"license": {"id": "MIT"}}]
    assert document["metadata"]["component"]["version"] == "ef" * 32


def test_a_release_that_was_sealed_without_one_may_get_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    directory = store.releases / "abc"
    directory.mkdir(parents=True)
    (directory / "compose.yaml").write_text("x")
    store.seal("abc")
    assert store.sbom("abc") is None
    (directory / "sbom.cdx.json").write_text("{}")
    assert store.changed_files("abc") == []
    assert store.sbom("abc") == str(directory / "sbom.cdx.json")


def test_a_document_that_was_sealed_is_not_changed_unseen(tmp_path: Path) -> None:
    store = Store(tmp_path)
    (store.releases / "abc").mkdir(parents=True)
    (store.releases / "abc/sbom.cdx.json").write_text("{}")
    store.seal("abc")
    (store.releases / "abc/sbom.cdx.json").write_text("{ }")
    assert store.changed_files("abc") == ["sbom.cdx.json"]
