"""Images that are built once for all hosts, on the controller or on one of them, with secrets that leave no trace."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import on
from images import DOCKERFILE, HOSTS, PACKAGES, Images, code_of, docker_here, forget, ids

A, B = HOSTS
APP = "slipway/pictures"
KEY_NAME = "the-key-of-the-tests"
TOKEN = "canary-of-the-build-7d1f"
# With a shell, so that a step can run; the base goes to the build host as any image does.
BASE = "slipway.lab/debian:trixie"
WITH_SECRET = f"""
FROM {BASE}
RUN --mount=type=secret,id=TOKEN sha256sum /run/secrets/TOKEN > /srv/proof && (sleep 3601 || true)
COPY app /app
"""
# What an SSH client asks its agent first (11: which keys), by the socket that the build has in this step.
WITH_AGENT = f"""
FROM {BASE}
COPY ask.pl /srv/
RUN --mount=type=ssh,required=true perl /srv/ask.pl > /srv/keys
RUN test -z "$SSH_AUTH_SOCK" && ! ls /run/buildkit 2>/dev/null
COPY app /app
"""
ASK = """
use IO::Socket::UNIX;
my $agent = IO::Socket::UNIX->new(Peer => $ENV{SSH_AUTH_SOCK}) or die "no agent";
syswrite($agent, pack("NC", 1, 11));
# The length comes in a write of its own, the answer in another.
read($agent, my $length, 4);
read($agent, my $answer, unpack("N", $length));
print $answer;
"""
FAILING = f"""
FROM {BASE}
RUN --mount=type=secret,id=TOKEN cat /run/secrets/TOKEN && echo this step fails && exit 3
"""


def build(source: str, **more: object) -> dict[str, object]:
    return {"fastapi_image_context": source, "fastapi_image_disk_reserve": 64, **more}


def on_first(source: str, **more: object) -> dict[str, object]:
    return build(source, **{"fastapi_image_build_on": "first", **more})


@pytest.fixture(scope="module", autouse=True)
def clean() -> Iterator[None]:
    yield
    for host in HOSTS:
        on(host, f"docker image ls --quiet --filter reference='{APP}*' | xargs -r docker image rm --force >/dev/null")
    for name in docker_here("image", "ls", "--format", "{{.Repository}}:{{.Tag}}", APP).split():
        docker_here("image", "rm", name)


@pytest.fixture(scope="module")
def base(images: Images) -> None:
    """The base image is on the build host, as a registry would have given it."""
    outcome = images.put("--limit", A, fastapi_image_source="ship", fastapi_image_name=BASE)
    assert outcome.code == 0, outcome.output


def test_built_on_the_controller_once_for_all(images: Images) -> None:
    source = images.source("here", code="here")
    outcome = images.put(**build(source))
    assert outcome.code == 0, outcome.output
    reference = outcome.results[A]["reference"]
    assert ids(reference) == {docker_here("image", "inspect", "--format", "{{.Id}}", reference)}
    assert [code_of(reference, host) for host in HOSTS] == ["here", "here"]
    again = images.put(**build(source))
    assert (again.code, again.changed, again.moved()) == (0, 0, dict.fromkeys(HOSTS, 0)), again.output


def test_what_was_built_is_not_built_again_for_another_host(images: Images) -> None:
    """The controller's Docker may have lost it meanwhile; its cache of layers has it."""
    source = images.source("here", code="here")
    reference = images.put("--limit", A, **build(source)).results[A]["reference"]
    before = ids(reference, [A])
    on(B, f"docker image rm {reference}")
    docker_here("image", "rm", reference)
    outcome = images.put(**build(source))
    assert outcome.code == 0, outcome.output
    assert ids(reference) == before
    assert outcome.moved()[A] == 0
    assert docker_here("image", "ls", "--quiet", reference) == ""


def test_built_on_the_first_host_once_for_all(images: Images) -> None:
    """Without the Docker of the controller; the others get it through the controller's cache."""
    source = images.source("there", code="there")
    outcome = images.put(**on_first(source))
    assert outcome.code == 0, outcome.output
    reference = outcome.results[A]["reference"]
    # The time of the build is in the id, so one id means one build.
    assert len(ids(reference)) == 1
    assert [code_of(reference, host) for host in HOSTS] == ["there", "there"]
    assert outcome.moved()[A] == 0
    assert outcome.moved()[B] > PACKAGES
    assert docker_here("image", "ls", "--quiet", reference) == ""
    assert on(A, "find /var/lib/slipway -type f") == ""
    again = images.put(**on_first(source))
    assert (again.code, again.changed) == (0, 0), again.output


def test_a_change_of_code_moves_code_from_the_build_host_too(images: Images) -> None:
    """Of two stages, by the one that is named."""
    source = images.source("there", code="changed")
    stages = f"{DOCKERFILE.replace('scratch', 'scratch AS served')}\nFROM scratch\nCOPY app /elsewhere\n"
    Path(source, "Dockerfile").write_text(stages)
    outcome = images.put(**on_first(source, fastapi_image_build_on=A, fastapi_image_target="served"))
    assert outcome.code == 0, outcome.output
    assert 0 < outcome.moved()[B] < 20_000
    assert code_of(outcome.results[B]["reference"], B) == "changed"


def test_a_dry_run_builds_nothing(images: Images) -> None:
    outcome = images.put("--check", **on_first(images.source("there", code="dry")))
    assert outcome.code == 0, outcome.output
    assert on(A, f"docker image ls --quiet {outcome.results[A]['reference']}") == ""


@pytest.mark.usefixtures("base")
def test_a_secret_is_in_the_build_and_nowhere_else(images: Images) -> None:
    seen: list[str] = []
    ended = threading.Event()

    def watch() -> None:
        """Every process with its environment, on the host and here, for as long as the run takes.

        The step with the secret is at an end when it was looked at.
        """
        while not ended.is_set():
            seen.append(on(A, "ps axeww; ls -lR /dev/shm 2>&1 || true"))
            if re.search(r" sleep 3601( |$)", seen[-1], re.MULTILINE):
                on(A, "pkill --full --exact 'sleep 3601' || true")
            here = subprocess.run(["ps", "axeww"], capture_output=True, text=True, check=True).stdout
            seen.append("\n".join(line for line in here.splitlines() if "pytest" not in line))
            time.sleep(0.3)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        variables = on_first(images.source("secret", WITH_SECRET), fastapi_image_build_secrets={"TOKEN": TOKEN})
        outcome = images.put("-vvv", "--diff", **variables)
    finally:
        ended.set()
        watcher.join()
    assert outcome.code == 0, outcome.output
    reference = outcome.results[A]["reference"]
    said = "\n".join(seen)
    assert "--secret id=TOKEN,src=/dev/shm/slipway-" in said, "the build was not seen"
    assert "-rw-------" in said
    assert TOKEN not in said
    assert TOKEN not in outcome.output
    expected = subprocess.run(["sha256sum"], input=TOKEN, capture_output=True, text=True, check=True).stdout.split()[0]
    for host in HOSTS:
        assert expected in on(host, f"docker run --rm --network none {reference} cat /srv/proof")
        assert TOKEN not in on(host, f"docker history --no-trunc {reference}; docker image inspect {reference}")
        assert on(host, f"docker save {reference} | grep --binary-files=text --count {TOKEN} || true").strip() == "0"
        assert on(host, "ls /dev/shm").strip() == ""
        left = (
            f"grep --recursive --files-with-matches {TOKEN} /var/lib/docker /var/lib/slipway /tmp /home /root || true"
        )
        assert on(host, left) == ""
        assert TOKEN not in on(host, "journalctl --no-pager --all")


@pytest.mark.usefixtures("base")
def test_a_build_that_fails_tells_why_and_hides_the_secret(images: Images) -> None:
    variables = on_first(images.source("failing", FAILING), fastapi_image_build_secrets={"TOKEN": TOKEN})
    outcome = images.put(**variables)
    assert outcome.code != 0
    assert "this step fails" in outcome.said
    assert TOKEN not in outcome.output
    assert on(A, "ls /dev/shm").strip() == ""


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An SSH agent of the controller's user; returns the private key, which it has not got yet."""
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-C", KEY_NAME, "-N", "", "-f", str(key)], check=True)
    said = subprocess.run(["ssh-agent", "-s"], capture_output=True, text=True, check=True).stdout
    place, process = re.findall(r"(?:SSH_AUTH_SOCK|SSH_AGENT_PID)=([^;]+)", said)
    monkeypatch.setenv("SSH_AUTH_SOCK", place)
    subprocess.run(["ssh-add", "-q", str(key)], check=True)
    yield key.read_text()
    subprocess.run(["kill", process], check=True)


@pytest.mark.usefixtures("base")
def test_private_packages_come_by_the_agent_or_by_a_key(images: Images, agent: str) -> None:
    """A build host has the agent that SSH forwards there, and root finds it though sudo does not hand it on."""
    source = images.source("agent", WITH_AGENT)
    (Path(source) / "ask.pl").write_text(ASK)
    outcome = images.put(**on_first(source, fastapi_image_build_ssh=True))
    assert outcome.code != 0
    assert "fastapi_image_build_ssh is true, and this build host has no SSH agent: have SSH forward" in outcome.said
    # Another path of its master connection, since that decides what is forwarded.
    forwarded = {"ansible_ssh_common_args": f"{images.known_hosts} -o ForwardAgent=yes -o ControlPath=none"}
    outcome = images.put(**on_first(source, fastapi_image_build_ssh=True, **forwarded))
    assert outcome.code == 0, outcome.output
    (Path(source) / "app/code").write_text("another")
    by_key = images.put("-vvv", **on_first(source, fastapi_image_build_ssh_key=agent))
    assert by_key.code == 0, by_key.output
    secret = agent.splitlines()[1]
    assert secret not in by_key.output
    for built in (outcome, by_key):
        reference = built.results[A]["reference"]
        for host in HOSTS:
            assert on(host, f"docker run --rm --network none {reference} grep -a -c ssh-ed25519 /srv/keys") == "1\n"
            assert on(host, f"docker save {reference} | grep -a -c {secret} || true").strip() == "0"
            assert on(host, "ls /dev/shm").strip() == ""
    assert on(A, f"docker run --rm {outcome.results[A]['reference']} grep -a -c {KEY_NAME} /srv/keys") == "1\n"


def test_secrets_need_buildkit(images: Images) -> None:
    plugin = "/usr/libexec/docker/cli-plugins/docker-buildx"
    on(B, f"mv {plugin} {plugin}.away")
    try:
        variables = build(images.source("secret", WITH_SECRET + "# b"), fastapi_image_build_secrets={"TOKEN": TOKEN})
        outcome = images.put(**variables, fastapi_image_build_on=B)
    finally:
        on(B, f"mv {plugin}.away {plugin}")
    assert outcome.code != 0
    assert "fastapi_image_build_secrets needs BuildKit" in outcome.said
    assert "install docker-buildx" in outcome.said
    assert TOKEN not in outcome.output


@pytest.mark.usefixtures("base")
def test_old_images_and_the_cache_of_a_build_host_are_bounded_and_others_stay(images: Images) -> None:
    pinned, foreign = f"{APP}:pinned", "somebody/else:1"
    label = "slipway.content=old"
    on(A, f"echo 'FROM {BASE}' | docker build --quiet --label {label} --tag {APP}:old0 - >/dev/null")
    for name in (*(f"{APP}:old{number}" for number in range(1, 9)), pinned, foreign):
        on(A, f"docker tag {APP}:old0 {name}")
    on(A, "mkdir -p /opt/slipway/x/releases/r && cd /opt/slipway/x/releases/r && "
          f"echo '    image: {pinned}' > compose.yaml")  # fmt: skip
    step = "RUN head -c 30000000 /dev/urandom > /srv/x"
    on(A, f"printf 'FROM {BASE}\n{step}\n' | docker buildx build --quiet --load --tag x -")
    on(A, "docker image rm x && docker buildx du | grep 30MB")
    variables = on_first(images.source("bounded", code=str(time.time())), fastapi_image_build_cache_mib=1)
    outcome = images.put(**variables)
    on(A, "rm -r /opt/slipway/x")
    assert outcome.code == 0, outcome.output
    left = on(A, "docker image ls --format '{{.Repository}}:{{.Tag}}'").split()
    assert pinned in left
    assert foreign in left
    assert outcome.results[A]["reference"] in left
    assert len([name for name in left if name.startswith(APP) and name != pinned]) == 5
    assert "30MB" not in on(A, "docker buildx du")
    forget(pinned, foreign)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"fastapi_image_build_on": "nowhere"}, "must be controller, first, or a host of the inventory"),
        (
            {"fastapi_image_source": "build_on_host"},
            "Set fastapi_image_source: build, and fastapi_image_build_on: first",
        ),
        ({"fastapi_image_context": "/nowhere"}, "there is no Dockerfile in the build context /nowhere"),
    ],
    ids=["nowhere", "the old word", "no context"],
)
def test_refused(images: Images, variables: dict[str, str], words: str) -> None:
    outcome = images.put(**variables)
    assert (outcome.code != 0, outcome.changed) == (True, 0)
    assert words in outcome.said
