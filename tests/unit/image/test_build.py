"""What a build is told, and which Dockerfiles the older builder is not given."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.image import build as image_build
from ansible_collections.slipway.fleet.plugins.module_utils.image import local
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError


def archive(directory: Path, name: str, text: str) -> Path:
    path = directory / "context.tar"
    with tarfile.open(path, "w") as tar:
        about = tarfile.TarInfo(name)
        about.size = len(text.encode())
        tar.addfile(about, io.BytesIO(text.encode()))
    return path


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("FROM x\nRUN --mount=type=cache,target=/root/.cache pip install y\n", "RUN --mount=type=cache"),
        ("FROM x\nrun --network=none \\\n  --mount=type=bind,target=/y z\n", "RUN --network=none"),
        ("FROM x\nRUN \\\n# why\n  --mount=type=cache,id=a b\n", "RUN --mount=type=cache"),
        ("FROM x\nCOPY --from=y --link a b\n", "COPY --link"),
        ("FROM x\nADD --chown=1:1 --chmod=755 a b\n", "ADD --chmod=755"),
        ("FROM x\nRUN <<EOF\necho a\nEOF\n", "RUN <<EOF"),
        ("FROM x\nRUN cat <<'END' >/y\na\nEND\n", "RUN <<'END'"),
        ('FROM x\nCOPY --from=y --chown=1:1 a b\nRUN echo --mount=type=cache\nCMD ["--link"]\n', ""),
        ("FROM x\nRUN cat <<-EOF >/y\n\ta \\\n\tEOF\n", "RUN <<-EOF"),
        ('FROM x\nCOPY <<"a b" /y\nc\na b\n', 'COPY <<"a b"'),
        ("FROM x\nRUN echo it\\'s && \\\n  cat 3<<EOF\nEOF\n", "RUN 3<<EOF"),
        ("FROM x\nRUN x=$(( 1 <<n ))\n", ""),
        ("FROM x\nRUN sh -c 'cat <<EOF'\nRUN x='a <<EOF b'\nEOF\n", ""),
        ('FROM x\nRUN ["bash", "-c", "cat <<EOF"]\nEOF\n', ""),
        ("FROM x\n# why \\\nRUN --mount=type=cache y\n", "RUN --mount=type=cache"),
        ("", ""),
        ("FROM\nFROM x\n", ""),
    ],
)
def test_what_buildkit_alone_understands(text: str, word: str) -> None:
    assert image_build.of_buildkit(text) == word


STAGES = "FROM x AS First\nRUN a\nFROM first\nRUN b\nFROM first as last\nRUN --mount=type=cache c\n"


@pytest.mark.parametrize(
    ("target", "refused"),
    [("first", False), ("0", False), ("1", False), ("", True), ("LAST", True), ("2", True), ("elsewhere", True)],
)
def test_what_comes_after_the_stage_that_is_built_needs_no_buildkit(target: str, refused: bool) -> None:
    assert image_build.of_buildkit(STAGES, target) == ("RUN --mount=type=cache" if refused else "")


def test_a_build_of_a_stage_reads_no_further(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(image_build, "has_buildkit", lambda: False)
    monkeypatch.setattr(image_build, "docker", lambda *words, **_: asked.extend(words))
    monkeypatch.setattr(image_build, "find", lambda _: None)
    context = archive(tmp_path, "Dockerfile", STAGES)
    with pytest.raises(ImageError, match="is not there"):
        image_build.build(context, "app:1", "0" * 64, "Dockerfile", {}, {}, target="first")
    assert "--target=first" in asked


@pytest.mark.parametrize("name", ["Dockerfile", "./deploy/../Dockerfile", "elsewhere/Dockerfile"])
def test_it_is_refused_before_the_older_builder_is_asked(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def docker(*words: str, **_: Any) -> str:
        asked.extend(words)
        raise ImageError("the build said so")

    monkeypatch.setattr(image_build, "has_buildkit", lambda: False)
    monkeypatch.setattr(image_build, "docker", docker)
    context = archive(tmp_path, "Dockerfile", "FROM x\nRUN --mount=type=cache,target=/y z\n")
    with pytest.raises(ImageError) as refused:
        image_build.build(context, "app:1", "0" * 64, name, {}, {})
    if name == "elsewhere/Dockerfile":
        assert asked, "that it is not there the build itself says"
        return
    assert asked == []
    assert str(refused.value).startswith(f"`RUN --mount=type=cache` in {name} needs BuildKit, since the older builder")


@pytest.mark.parametrize("target", ["", "production"])
def test_a_stage_that_is_named_is_what_is_built(target: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def docker(*words: str, **_: Any) -> str:
        asked.extend(words)
        return ""

    monkeypatch.setattr(image_build, "has_buildkit", lambda: True)
    monkeypatch.setattr(image_build, "docker", docker)
    monkeypatch.setattr(image_build, "find", lambda _: None)
    with pytest.raises(ImageError, match="is not there"):
        image_build.build(archive(tmp_path, "Dockerfile", ""), "app:1", "0" * 64, "Dockerfile", {}, {}, target=target)
    assert [word for word in asked if word.startswith("--target")] == ([f"--target={target}"] if target else [])


@pytest.mark.parametrize(
    ("text", "arguments", "bases"),
    [
        ("FROM python:3.13\n", {}, {"python:3.13": []}),
        (
            "ARG BASE=python:3.13-slim OTHER=x\nFROM --platform=$P ${BASE} AS Build\nFROM build\nCOPY --from=0 a b\n",
            {"BASE": "a.example/python:9"},
            {"a.example/python:9": ["BASE"]},
        ),
        ('ARG BASE="python:3"\nFROM $BASE\nARG BASE=later\nFROM scratch\n', {}, {"python:3": ["BASE"]}),
        (
            "FROM r.example/${NAME:-app}:1\nCOPY --from=r.example/uv:1 /uv /\n",
            {},
            {"r.example/app:1": ["NAME"], "r.example/uv:1": []},
        ),
        ("", {}, {}),
    ],
)
def test_the_images_that_a_dockerfile_takes(text: str, arguments: dict[str, str], bases: dict[str, list[str]]) -> None:
    assert image_build.bases_of(text, arguments) == bases


OLDER = """DEPRECATED: The legacy builder is deprecated and will be removed in a future release.
            Install the buildx component to build images with BuildKit:
            https://docs.docker.com/go/buildx/

"""
NO_HOST = 'Get "https://nowhere.example/v2/": dial tcp: lookup nowhere.example: no such host'


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            OLDER + NO_HOST,
            (
                "an image that Dockerfile begins with could not be had: nowhere.example/python:3 (BASE_IMAGE). Mend "
                "the name there or of fastapi_image_build_args, or have the image where it is built. "
                f"`docker build` failed: {NO_HOST}"
            ),
        ),
        (
            OLDER + "It returned 3",
            "`docker build` failed: It returned 3",
        ),
    ],
)
def test_a_base_that_is_not_there_is_named_before_what_docker_says(
    said: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "docker"
    program.write_text(f"#!/bin/sh\ncat >/dev/null\ncat <<'END' >&2\n{said}\nEND\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    context = archive(tmp_path, "Dockerfile", "ARG BASE_IMAGE=python:3\nFROM ${BASE_IMAGE}\n")
    with pytest.raises(ImageError) as refused:
        image_build.build(context, "app:1", "0" * 64, "Dockerfile", {"BASE_IMAGE": "nowhere.example/python:3"}, {})
    assert str(refused.value) == told


STEP = "ERROR: No matching distribution found for nosuchpackage-xyzzy"
CODE = "The command '/bin/sh -c pip install nosuchpackage-xyzzy' returned a non-zero code: 1"


@pytest.mark.parametrize("before", [0, 100_000], ids=["short", "long"])
def test_a_build_that_fails_says_why_whichever_builder_it_is(
    before: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older builder writes what a step says to its output, and to its errors the code of the step alone."""
    program = tmp_path / "docker"
    program.write_text(
        "#!/bin/sh\ncat >/dev/null\n[ $1 = build ] || exit 1\n[ $2 = --force-rm ] || echo It leaves a container >&2\n"
        f"printf '%{before}s\\n' .\ncat <<'END'\n{STEP}\nEND\ncat <<'END' >&2\n{OLDER}{CODE}\nEND\nexit 1\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(ImageError) as refused:
        image_build.build(archive(tmp_path, "Dockerfile", "FROM x\n"), "app:1", "0" * 64, "Dockerfile", {}, {})
    told = str(refused.value)
    assert told.startswith("`docker build` failed: ")
    assert told.endswith(f"\n{STEP}\n{CODE}")
    assert len(told) < 9000


def test_a_build_that_does_not_end_says_how_far_it_came(monkeypatch: pytest.MonkeyPatch) -> None:
    late = Ran(("docker",), 124, "Step 3/7 : RUN make\n", "\n`docker build -` did not end within 9 s", timed_out=True)
    monkeypatch.setattr(local, "run", lambda *_, **__: late)
    with pytest.raises(ImageError) as refused:
        local.docker("build", "-", timeout=9, output=1000)
    assert str(refused.value) == "`docker build` failed: Step 3/7 : RUN make\n`docker build -` did not end within 9 s"
