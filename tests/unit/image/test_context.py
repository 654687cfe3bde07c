"""Which files a build context has, what its key depends on, and what never gets into an image."""

from __future__ import annotations

import builtins
import hashlib
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.plugin_utils.image import context as image_context
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.context import BuildContext, ContextError

OLD = 1_700_000_000


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory))
    return directory


@pytest.fixture
def context(tmp_path: Path) -> Path:
    files = {"Dockerfile": "FROM scratch\n", "app.py": "1\n", "notes.md": "n\n", ".git/HEAD": "x"}
    write(tmp_path, files | {".dockerignore": "# what the image does not need\n*.md\n.git\n"})
    return tmp_path


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def names(root: Path, dockerfile: str = "Dockerfile") -> list[str]:
    return [path.as_posix() for path in BuildContext(root, dockerfile, {}).files]


def test_the_key_follows_what_is_built_and_nothing_else(context: Path) -> None:
    def key(**arguments: str) -> str:
        return BuildContext(context, "Dockerfile", arguments).key

    first = key(A="1")
    (context / "notes.md").write_text("other\n")
    (context / ".git" / "HEAD").write_text("y")
    (context / "build-ca.crt").write_text("a certificate")
    assert key(A="1") == first
    assert key(A="2") != first
    (context / "app.py").chmod(0o755)
    executable = key(A="1")
    assert executable != first
    (context / "app.py").write_text("2\n")
    assert key(A="1") not in (first, executable)
    stages = {BuildContext(context, "Dockerfile", {"A": "1"}, target=target).key for target in ("", "one", "two")}
    assert len(stages) == 3
    assert key(A="1") in stages, "without a stage it is what it was"


def test_the_key_of_a_content_is_that_of_earlier_versions(context: Path) -> None:
    """It is in the ids of releases: another key for the same files is another release everywhere."""
    assert BuildContext(context, "Dockerfile", {"A": "1"}).key == (
        "22f156cafafd2a8c6840829e851af9c3c9e7ef27344521044b2adc5c25afa49a"
    )


def test_the_archive_holds_the_context_and_the_ca_file(context: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "ca.pem").write_text("pem")
    BuildContext(context, "Dockerfile", {}, outside / "ca.pem").write(outside / "c.tar")
    with tarfile.open(outside / "c.tar") as archive:
        assert sorted(archive.getnames()) == [".dockerignore", "Dockerfile", "app.py", "build-ca.crt"]
        assert {member.mtime for member in archive} == {0}


@pytest.mark.parametrize(
    ("files", "ignored", "kept"),
    [
        ({"sub/.git/HEAD": "x", "sub/a": "x"}, "!.git\n!sub/.git", ["sub/a"]),
        ({".git": "gitdir: elsewhere"}, "", []),
        ({"reports/prod/deploy.html": "x", "docs/reports/a": "x"}, "!reports", ["docs/reports/a"]),
        ({"reports/__init__.py": "", "reports/monthly.sql": ""}, "", ["reports/__init__.py", "reports/monthly.sql"]),
        ({"inventories/prod/hosts.yml": "x", "inventories/prod/group_vars/all/vault.yml": "x"}, "", []),
        ({"inventory/models.py": "", "inventory/a.sql": ""}, "", ["inventory/a.sql", "inventory/models.py"]),
        ({"deploy/stage/hosts.ini": "", "deploy/stage/host_vars/a.yml": "", "deploy/x": ""}, "", ["deploy/x"]),
        ({"hosts.yml": "", "group_vars/all.yml": "", "hosts/a": "", "b.py": ""}, "!group_vars/**", ["b.py", "hosts/a"]),
        ({"hosts.yml": "", "a/.vault_password": ""}, "", ["hosts.yml"]),
    ],
)
def test_what_belongs_to_the_deployment_is_never_in_it(
    tmp_path: Path, files: dict[str, str], ignored: str, kept: list[str]
) -> None:
    """Not with `COPY . .` and no ignore file, and not where that lets it in again."""
    write(tmp_path, {"Dockerfile": "", **({".dockerignore": ignored} if ignored else {})} | files)
    assert [name for name in names(tmp_path) if name not in ("Dockerfile", ".dockerignore")] == kept


def test_a_dockerfile_in_a_folder_has_an_ignore_file_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, {"docker/web.Dockerfile": "", "a.py": "", "b.md": "", ".dockerignore": "*.py\n"})
    assert "a.py" not in names(tmp_path, "docker/web.Dockerfile")
    write(tmp_path, {"docker/web.Dockerfile.dockerignore": "*\n!a.py\n"})
    assert names(tmp_path, "docker/web.Dockerfile") == [".dockerignore", "a.py", "docker/web.Dockerfile"]


def test_links_go_along_as_links(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """As Docker sends them: neither followed nor left out, whatever they point to."""
    write(tmp_path, {"Dockerfile": "", "real/a.py": "1"})
    for name, target in {"directory": "real", "file": "real/a.py", "nowhere": "/nonexistent"}.items():
        (tmp_path / name).symlink_to(target)
    build = BuildContext(tmp_path, "Dockerfile", {})
    first = build.key
    archive = tmp_path_factory.mktemp("outside") / "c.tar"
    build.write(archive)
    with tarfile.open(archive) as tar:
        assert {item.name: item.linkname for item in tar if item.issym()} == {
            "directory": "real", "file": "real/a.py", "nowhere": "/nonexistent",
        }  # fmt: skip
        assert "directory/a.py" not in tar.getnames()
    (tmp_path / "directory").unlink()
    (tmp_path / "directory").symlink_to("elsewhere")
    assert BuildContext(tmp_path, "Dockerfile", {}).key != first


def test_a_tree_that_did_not_change_is_not_read_again(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    usual = hashlib.file_digest

    def counted(stream: Any, name: str) -> Any:
        read.append(Path(stream.name).name)
        return usual(stream, name)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    monkeypatch.setattr(image_context, "_SETTLED", -(10**12))  # what was written now counts as settled
    first = BuildContext(context, "Dockerfile", {}).key
    assert sorted(read) == [".dockerignore", "Dockerfile", "app.py"]
    read.clear()
    assert BuildContext(context, "Dockerfile", {}).key == first
    assert read == []
    (context / "app.py").write_text("3\n")
    assert BuildContext(context, "Dockerfile", {}).key != first
    assert read == ["app.py"]


def test_what_was_just_written_is_read_again(context: Path) -> None:
    """Two writes of one length in one tick of the clock look alike."""
    first = BuildContext(context, "Dockerfile", {}).key
    before = (context / "app.py").stat()
    (context / "app.py").write_text("2\n")
    os.utime(context / "app.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert BuildContext(context, "Dockerfile", {}).key != first


def test_a_damaged_list_of_digests_is_made_anew(context: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_context, "_SETTLED", -(10**12))
    first = BuildContext(context, "Dockerfile", {}).key
    [kept] = (cache / "slipway/images/contexts").iterdir()
    kept.write_text("[1")
    assert BuildContext(context, "Dockerfile", {}).key == first


def test_a_context_that_cannot_be_built_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContextError, match="there is no Dockerfile in the build context"):
        BuildContext(tmp_path, "Dockerfile", {})
    (tmp_path / "Dockerfile").touch()
    with pytest.raises(ContextError, match=r"the CA file .* does not exist"):
        BuildContext(tmp_path, "Dockerfile", {}, tmp_path / "ca.pem")


def test_without_the_docker_sdk_a_build_is_refused_by_name(context: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def without_docker(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == "docker":
            raise ModuleNotFoundError("No module named 'docker'", name="docker")
        return usual(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_docker)
    with pytest.raises(ContextError, match=r"building needs the Python package docker .*pip install docker.*to pull"):
        _ = BuildContext(context, "Dockerfile", {}).key
