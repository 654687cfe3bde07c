"""Who an app is: by the inventory, by its image, and where neither says it by a number that is not root."""

from __future__ import annotations

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.release.runtime import RuntimeFailed
from ansible_collections.slipway.fleet.plugins.module_utils.release.users import user_of_app

FILES = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\nshop:x:1000:1001::/home/shop:/bin/sh\n"
    "toor:x:0:0::/:/bin/sh\n\nodd\n",
    "/etc/group": "root:x:0:\nshop:x:1001:\nwww-data:x:33:shop\n",
}


def read(path: str) -> str:
    return FILES.get(path, "")


def nothing(path: str) -> str:
    raise AssertionError(f"nobody has to look at {path}")


@pytest.mark.parametrize(
    ("wanted", "image", "owner"),
    [
        ("", "", (10001, 10001)),
        ("", "root", (10001, 10001)),
        ("", "0:0", (10001, 10001)),
        ("", "toor", (10001, 10001)),
        ("", "shop", (1000, 1001)),
        ("", "shop:www-data", (1000, 33)),
        ("", "shop:7", (1000, 7)),
        ("", "1000", (1000, 1001)),
        ("", "4711", (4711, 4711)),
        ("shop", "root", (1000, 1001)),
        ("1000", "", (1000, 1001)),
        ("4711:33", "shop", (4711, 33)),
        ("root", "shop", (0, 0)),
        ("0", "shop", (0, 0)),
    ],
)
def test_who_the_app_is(wanted: str, image: str, owner: tuple[int, int]) -> None:
    assert user_of_app(wanted, image, 10001, read) == owner


@pytest.mark.parametrize(("wanted", "image"), [("root", "x"), ("", ""), ("7:8", ""), ("", "7:8")])
def test_numbers_and_root_need_no_look_into_the_image(wanted: str, image: str) -> None:
    user_of_app(wanted, image, 10001, nothing)


@pytest.mark.parametrize(
    ("wanted", "words"),
    [("nobody-there", "no user nobody-there (in its /etc/passwd)"), ("shop:none", "no group none (in its /etc/group)")],
)
def test_a_name_that_the_image_does_not_know_is_said(wanted: str, words: str) -> None:
    with pytest.raises(RuntimeFailed, match=r"fastapi_app_user") as caught:
        user_of_app(wanted, "", 10001, read)
    assert words in str(caught.value)
