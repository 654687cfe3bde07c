"""Images as others write them: with an entry point of their own, and without a shell."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from beside import Beside

# Each is made of the app's own image.
ENTERED = 'ENTRYPOINT ["/usr/bin/env", "ENTERED=yes"]'
WITHOUT_SHELL = "USER root\nRUN rm -f /usr/bin/bash /usr/bin/dash /usr/bin/sh\nUSER 10001"
WITHOUT_ANYTHING = (
    "USER root\nRUN rm -f /usr/bin/python3* /opt/venv/bin/python* /usr/bin/bash /usr/bin/dash /usr/bin/sh"
)
NAME = "slipway-lab/told"


def made(beside: Beside, tag: str, lines: str) -> str:
    """An image on the host."""
    text = f"FROM {beside.image()}\n{lines}\n"
    beside.host.check_output(f"printf %s '{text}' | docker build --quiet --tag {NAME}:{tag} -")
    return f"{NAME}:{tag}"


@pytest.fixture(scope="module", autouse=True)
def removed(beside: Beside) -> Iterator[None]:
    yield
    beside.host.check_output(f"docker image ls --quiet {NAME} | xargs --no-run-if-empty docker image rm --force")


def test_a_command_goes_through_the_entry_point_of_the_image(beside: Beside) -> None:
    image = made(beside, "entered", ENTERED)
    for secrets in ({}, {"PASSWORD": "pa$$word"}):
        beside.staged(fastapi_app_image=image, fastapi_app_secrets=secrets)
        found = beside.look()["variables"]
        assert bytes.fromhex(found["ENTERED"]) == b"yes"
        assert set(secrets) <= set(found)


def test_an_image_without_a_shell_has_its_secrets_as_variables(beside: Beside) -> None:
    beside.staged(
        fastapi_app_image=made(beside, "without-shell", WITHOUT_SHELL), fastapi_app_secrets={"PASSWORD": "pa$$word"}
    )
    assert "PASSWORD" in beside.look()["variables"]


def test_an_image_with_nothing_that_could_launch_is_refused_by_name(beside: Beside) -> None:
    image = made(beside, "without-anything", WITHOUT_ANYTHING)
    beside.staged(fastapi_app_image=image, fastapi_app_secrets={"PASSWORD": "pa$$word"})
    with pytest.raises(AssertionError, match=rf"the image {image} has neither /bin/sh nor a python3 .*\[files\]"):
        beside.look()
