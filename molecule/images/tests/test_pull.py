"""Images from a registry: one digest for all hosts, a login that no host keeps, and a refusal for all that goes wrong.

The registry is Debian's, on the controller, with TLS by an authority of its own and a password.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from contract import ANSWER, PATIENCE, ROOT, assert_no_secret, run_ansible, until
from fleet import on
from images import HOSTS, PLAYBOOK, Images, forget, ids

from lab import cosign
from lab.registry import PASSWORD, USER, Image, Registry, sha256

A, B = HOSTS
REPOSITORY = "team/app"


@pytest.fixture(scope="module")
def registry(scratch: Path) -> Iterator[Registry]:
    """Where the hosts' network meets this machine."""
    gateway = on(A, "ip -4 route show default").split()[2]
    with Registry(scratch / "registry", gateway) as server:
        for tag in ("1", "2"):
            server.push(REPOSITORY, tag, Image.of_files({"code": tag}))
        yield server
    forget(f"$(docker image ls --quiet --no-trunc {server.name}/{REPOSITORY})")


@pytest.fixture(autouse=True)
def running(registry: Registry) -> Iterator[None]:
    """Whatever a test did to it, the next one finds it well."""
    yield
    registry.stop()
    registry.start()


def named(registry: Registry, tag: str, **variables: Any) -> dict[str, Any]:
    """Variables of an image by its tag, or by its digest: that it is pulled follows from its name."""
    return {
        "fastapi_image_name": f"{registry.name}/{REPOSITORY}{'@' if ':' in tag else ':'}{tag}",
        "fastapi_image_registry_user": USER,
        "fastapi_image_registry_password": PASSWORD,
        "fastapi_image_registry_ca_file": str(registry.ca_file),
        **variables,
    }


def digest_of(registry: Registry, tag: str) -> str:
    answer = registry.session.get(
        f"https://{registry.name}/v2/{REPOSITORY}/manifests/{tag}",
        headers={"Accept": "application/vnd.oci.image.manifest.v1+json"},
        timeout=ANSWER,
    )
    return sha256(answer.content)


def there(host: str, registry: Registry) -> list[str]:
    """Digests of the repository that a host has."""
    return on(host, f"docker image ls --digests --format '{{{{.Digest}}}}' {registry.name}/{REPOSITORY}").split()


def by_case(images: Images, cases: dict[str, dict[str, Any]], host: str = "") -> dict[str, dict[str, Any]]:
    """The last result of each case, from one run in which each is a host of its own name, in truth the same one."""
    inventory = yaml.safe_load(Path(images.inventory).read_text())
    address = inventory["all"]["hosts"][host or A]
    inventory["all"]["hosts"] = {case: address | variables for case, variables in cases.items()}
    inventory["web"] = {"hosts": dict.fromkeys(cases)}
    path = images.scratch / "cases.yml"
    path.write_text(yaml.safe_dump(inventory))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANSIBLE_STDOUT_CALLBACK", "ansible.posix.json")
        command = ["ansible-playbook", "-i", str(path), PLAYBOOK, "-e", "fastapi_app_name=pictures"]
        output = run_ansible(command).stdout
    assert PASSWORD not in output
    plays = json.loads(output[output.index("{\n") : output.rindex("}") + 1])["plays"]
    tasks = [task for play in plays for task in play["tasks"] if task["task"]["name"] != "Write down what was done"]
    return {case: result for task in tasks for case, result in task["hosts"].items()}


@contextmanager
def cut_off(host: str, registry: Registry, how: str = "REJECT") -> Iterator[None]:
    """The host does not reach the registry, whoever else does."""
    address, _, port = registry.name.rpartition(":")
    rule = f"OUTPUT -d {address} -p tcp --dport {port} -j {how}"
    on(host, f"iptables -I {rule}")
    try:
        yield
    finally:
        on(host, f"iptables -D {rule}")


def test_a_dry_run_names_the_digest_and_pulls_nothing(images: Images, registry: Registry) -> None:
    outcome = images.put("--check", **named(registry, "1"))
    assert outcome.code == 0, outcome.output
    for host, result in outcome.results.items():
        assert (result["changed"], result["digest"]) == (True, digest_of(registry, "1"))
        assert there(host, registry) == []
        assert on(host, "ls /etc/docker/certs.d 2>/dev/null || true") == ""


def test_a_tag_is_one_digest_on_every_host(images: Images, registry: Registry) -> None:
    before = len(list(registry.requests()))
    outcome = images.put(**named(registry, "1"))
    assert outcome.code == 0, outcome.output
    digest = digest_of(registry, "1")
    reference = f"{registry.name}/{REPOSITORY}@{digest}"
    image = Image.of_files({"code": "1"})
    for result in outcome.results.values():
        assert (result["reference"], result["content"], result["digest"]) == (reference, digest, digest)
        assert (result["architectures"], result["size"]) == (["amd64"], image.size)
    assert ids(reference) == {sha256(image.config)}
    # By the controller, once for both hosts and all tasks; Docker then asks for the digest.
    asked = [line for line in list(registry.requests())[before:] if line.endswith("/manifests/1")]
    assert len(asked) == 2, "one without a login, one with it"
    for host in HOSTS:
        assert on(host, f"cat /etc/docker/certs.d/{registry.name}/ca.crt") == registry.ca_file.read_text()


def test_again_changes_nothing(images: Images, registry: Registry) -> None:
    outcome = images.put(**named(registry, "1"))
    assert (outcome.code, outcome.changed) == (0, 0), outcome.output


def test_the_same_image_by_another_name_changes_nothing(images: Images, registry: Registry) -> None:
    digest = digest_of(registry, "1")
    both = {"fastapi_image_name": f"{registry.name}/{REPOSITORY}:1@{digest}"}
    cases = {
        "digest": named(registry, digest),
        "both": named(registry, "1") | both,
        "asked": named(registry, "1", fastapi_image_registry_resolve="host"),
        "both-asked": named(registry, "1", fastapi_image_registry_resolve="host") | both,
    }
    for case, result in by_case(images, cases).items():
        assert (result.get("digest"), result["changed"]) == (digest, False), (case, result)


def test_no_host_keeps_the_login(registry: Registry) -> None:
    assert registry.name
    for host in HOSTS:
        assert_no_secret(testinfra.get_host(f"docker://{host}"), {"registry": PASSWORD})
        assert on(host, "ls -A /dev/shm; cat /root/.docker/config.json 2>/dev/null || true") == ""


def test_hosts_that_ask_by_themselves_get_one_digest_too(images: Images, registry: Registry) -> None:
    outcome = images.put(**named(registry, "2", fastapi_image_registry_resolve="host"))
    assert outcome.code == 0, outcome.output
    assert {result["digest"] for result in outcome.results.values()} == {digest_of(registry, "2")}
    assert {result["changed"] for result in outcome.results.values()} == {True}


def test_a_list_of_images_is_pinned_as_a_list(images: Images, registry: Registry) -> None:
    parts = [Image.of_files({"code": name}, name) for name in ("amd64", "arm64")]
    digest = registry.push_list(REPOSITORY, "list", parts)
    outcome = images.put(**named(registry, "list"))
    assert outcome.code == 0, outcome.output
    assert {result["digest"] for result in outcome.results.values()} == {digest}
    assert ids(f"{registry.name}/{REPOSITORY}@{digest}") <= {sha256(part.config) for part in parts}


# What is wrong with a case, and words of its refusal.
REFUSED = {
    "wrong-password": (USER, "fastapi_image_registry_password"),
    "no-login": ("wants a login", "fastapi_image_registry_user", "vault"),
    "missing-tag": ("has no tag gone", "fastapi_image_name"),
    "unknown-authority": ("is not trusted", "fastapi_image_registry_ca_file"),
    "down": ("the controller cannot reach the registry", "refused"),
    "other-content": ("does not match its digest",),
    "unsigned": ("has no signature", "fastapi_image_cosign_key"),
}


class TestRefused:
    """By the controller, before any host is changed."""

    @pytest.fixture(scope="class")
    @classmethod
    def refused(cls, images: Images, registry: Registry, scratch: Path) -> dict[str, dict[str, Any]]:
        other = Image.of_files({"code": "false"})
        registry.push(REPOSITORY, "other", other)
        registry.corrupt(registry.push(REPOSITORY, "true", Image.of_files({"code": "true"})), other.manifest())
        down = Registry(scratch / "down", registry.name.rpartition(":")[0])
        nobody = {"fastapi_image_registry_user": "", "fastapi_image_registry_password": ""}
        cases = {
            "wrong-password": named(registry, "1", fastapi_image_registry_password="wrong-and-secret"),
            "no-login": named(registry, "1", **nobody),
            "missing-tag": named(registry, "gone"),
            "unknown-authority": named(registry, "1", fastapi_image_registry_ca_file=""),
            "down": named(down, "1"),
            "other-content": named(registry, "true"),
            "unsigned": named(registry, "2", fastapi_image_cosign_key=str(scratch / "cosign.pub")),
        }
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("COSIGN_PASSWORD", "")
            patch.setenv("PATH", str(cosign.ensure(ROOT / ".lab" / "cosign").parent), prepend=":")
            subprocess.run(["cosign", "generate-key-pair"], cwd=scratch, check=True, capture_output=True)
            return by_case(images, cases)

    @pytest.mark.parametrize("case", REFUSED)
    def test_by_name(self, refused: dict[str, dict[str, Any]], case: str) -> None:
        result = refused[case]
        assert (result["failed"], result["changed"]) == (True, False)
        for words in ("nothing was changed", REPOSITORY, "172.", *REFUSED[case]):
            assert words in result["msg"], words
        assert "wrong-and-secret" not in str(result)


class TestOnTheHost:
    """What only the host can find: nothing is switched, and nothing of the login stays."""

    def test_a_layer_that_is_not_what_its_digest_says(self, images: Images, registry: Registry) -> None:
        image = Image.of_files({"code": "layer"})
        digest = registry.push(REPOSITORY, "layer", image)
        registry.corrupt(sha256(image.layers[0]), Image.of_files({"code": "layes"}).layers[0])
        outcome = images.put(**named(registry, "layer"))
        assert outcome.code != 0
        assert "nothing was switched: what came does not match the digest" in outcome.said, outcome.output
        assert all(digest not in there(host, registry) for host in HOSTS)

    def test_a_host_that_does_not_reach_the_registry(self, images: Images, registry: Registry) -> None:
        digest = registry.push(REPOSITORY, "far", Image.of_files({"code": "far"}))
        with cut_off(A, registry):
            outcome = images.put(**named(registry, "far"))
        assert outcome.code != 0
        assert f"{A} could not pull {registry.name}/{REPOSITORY}@{digest}" in outcome.said.replace(
            on(A, "hostname").strip(), A
        ), outcome.output
        assert "this host cannot reach the registry, whoever else can" in outcome.said
        assert digest in there(B, registry)

    def test_one_that_cannot_ask_is_refused_before_any_is_changed(self, images: Images, registry: Registry) -> None:
        with cut_off(A, registry):
            outcome = images.put(**named(registry, "far", fastapi_image_registry_resolve="host"))
        assert (outcome.code != 0, outcome.changed) == (True, 0)
        assert "cannot reach the registry" in outcome.said

    def test_a_pull_that_is_killed_leaves_nothing(self, images: Images, registry: Registry) -> None:
        registry.push(REPOSITORY, "slow", Image.of_files({"code": "slow"}))
        host = testinfra.get_host(f"docker://{A}")
        with cut_off(A, registry, "DROP"), ThreadPoolExecutor(1) as pool:
            run = pool.submit(images.put, "--limit", A, **named(registry, "slow"))
            pid = wait_for(A, "docker pull")
            # In the middle of it the login is in the memory of that process alone.
            assert_no_secret(host, {"registry": PASSWORD}, allowed_paths=())
            assert on(A, "ls -A /dev/shm") == ""
            assert "slipway-login" in on(A, f"cat /proc/{pid}/mounts")
            on(A, f"kill -{signal.SIGKILL} {pid}")
            outcome = run.result(timeout=PATIENCE)
        assert outcome.code != 0
        assert_no_secret(host, {"registry": PASSWORD})
        assert "slipway-login" not in on(A, "cat /proc/[0-9]*/mounts 2>/dev/null || true")


def wait_for(host: str, words: str) -> str:
    """The process with these words in its command line, once it is there."""
    found: list[str] = []

    def there() -> bool:
        found[:] = on(host, f"pgrep --full --oldest '^{words}' || true").split()
        return bool(found)

    until(there, f"`{words}` runs on {host}")
    return found[0]


def test_without_the_registry_a_digest_that_is_there_will_do(images: Images, registry: Registry) -> None:
    digest = digest_of(registry, "1")
    registry.stop()
    outcome = images.put(**named(registry, digest))
    assert (outcome.code, outcome.changed) == (0, 0), outcome.output
    assert "cannot reach the registry" in outcome.said


def test_what_is_pulled_as_it_is_named_stays(images: Images, registry: Registry) -> None:
    """The way of databases and caches: another content under the same tag replaces nothing that runs."""
    registry.push(REPOSITORY, "named", Image.of_files({"code": "first"}))
    arguments = {
        "name": f"{registry.name}/{REPOSITORY}:named",
        "registry_resolve": "nobody",
        "registry_user": USER,
        "registry_password": PASSWORD,
        "registry_ca_file": str(registry.ca_file),
    }
    command = ["ansible", "-i", images.inventory, "web", "--become", "-m", "slipway.fleet.image"]
    command += ["-a", json.dumps(arguments)]
    assert run_ansible(command).stdout.count("| CHANGED =>") == len(HOSTS)
    registry.push(REPOSITORY, "named", Image.of_files({"code": "second"}))
    assert run_ansible(command).stdout.count("| SUCCESS =>") == len(HOSTS)
    assert ids(arguments["name"]) == {sha256(Image.of_files({"code": "first"}).config)}


def test_an_image_for_other_machines_is_found_by_the_doctor(images: Images, registry: Registry, scratch: Path) -> None:
    registry.push(REPOSITORY, "elsewhere", Image.of_files({"code": "x"}, "s390x"))
    variables = named(registry, "elsewhere") | {"fastapi_app_name": "pictures", "fastapi_app_environment": {}}
    (scratch / "doctor.yml").write_text(yaml.safe_dump(variables))
    command = ["ansible-playbook", "-i", images.inventory, "slipway.fleet.doctor", "-e", f"@{scratch}/doctor.yml"]
    said = " ".join(run_ansible(command).stdout.split())
    for host in HOSTS:
        machine = on(host, "uname -m").strip()
        assert f"({machine}), the image {registry.name}/{REPOSITORY}@sha256:" in said
    assert "is made for s390x alone" in said
