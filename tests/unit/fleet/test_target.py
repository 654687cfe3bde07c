"""A release is named by its content and everything rendered, whenever its image is known."""

from __future__ import annotations

import hashlib

import pytest
from ansible_collections.slipway.fleet.plugins.filter.release import release_id
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import target as marks
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Identity, Target
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.target import named

IMAGE = Identity("slipway/links:0123456789ab", "0123456789abcdef")
PLACE = {"app": "links", "root": "/opt/slipway/links"}


def computed(release: str = "") -> Target:
    return Target(
        host="web1",
        place=PLACE,
        look={"image": marks.REFERENCE},
        activate={"about": {"image": marks.REFERENCE, "config": marks.CONFIG, "package": marks.PACKAGE}},
        files=[{"dest": f"/releases/{marks.RELEASE}/x", "replaces": f"/releases/{marks.SERVING}/x"}],
        contents={"0": f'image: "{marks.REFERENCE}"'},
        config=f'image: "{marks.REFERENCE}" digest',
        release=release,
    )


def test_the_name_is_that_of_the_text_with_the_image_in_it() -> None:
    found = named(computed(), IMAGE, release_id)
    config = hashlib.sha256(b'image: "slipway/links:0123456789ab" digest').hexdigest()
    assert found.release == release_id(IMAGE.content, config)
    assert found.files == [{"dest": f"/releases/{found.release}/x", "replaces": f"/releases/{marks.SERVING}/x"}]
    assert found.contents == {"0": 'image: "slipway/links:0123456789ab"'}
    assert found.look == {"image": IMAGE.reference}
    assert found.activate["about"] == {
        "image": IMAGE.reference, "config": config, "package": "/opt/slipway/links/packages/0123456789ab",
    }  # fmt: skip


@pytest.mark.parametrize("other", [Identity("slipway/links:1", "1" * 16), Identity("slipway/links:2", IMAGE.content)])
def test_another_image_is_another_release(other: Identity) -> None:
    assert named(computed(), other, release_id).release != named(computed(), IMAGE, release_id).release


def test_a_named_release_keeps_its_name() -> None:
    assert named(computed("abcabcabcabc"), IMAGE, release_id).release == "abcabcabcabc"
