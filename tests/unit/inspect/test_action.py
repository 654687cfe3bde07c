"""What inspect reads of an inventory's lines that name an image: how it is built, and not where."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.template import trust_as_template as trusted
from ansible_collections.slipway.fleet.plugins.action.inspect import ActionModule
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.roles import RoleVariables
from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import ImageRequest

ROOT = Path(__file__).resolve().parents[3]


def test_the_lines_of_an_example_can_be_given_without_its_inventory() -> None:
    lines = yaml.safe_load((ROOT / "inventories/single/group_vars/web/fastapi_image.yml").read_text())
    assert "inventory_dir" in lines["fastapi_image_context"]
    given = {name: trusted(value) if isinstance(value, str) else value for name, value in lines.items()}
    loader = DataLoader()
    variables = RoleVariables(loader, ("fastapi_image", "fastapi_app")).beside(
        {"fastapi_app_name": "inspect", "fastapi_image_source": "build", **given, "fastapi_image_target": "production"}
    )
    action = ActionModule.__new__(ActionModule)
    action._templar = Templar(loader=loader, variables=variables)
    request = action._request(variables["__fastapi_image_request"])
    assert (request.source, request.dockerfile, request.target) == ("build", "Dockerfile", "production")
    assert (request.context, request.bundle) == (None, None)


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("/nowhere/shop", "/nowhere/shop does not exist; name the directory"),
        ("./shop", "{here}/shop does not exist; name the directory"),
        ("../shop", "{here}/../shop does not exist; name the directory"),
        ("~/shop", "{here}/shop does not exist; name the directory"),
        ("~nobody-of-that-name/shop", "{here}/~nobody-of-that-name/shop does not exist; name the directory"),
        ("projects/shop/", "{here}/projects/shop does not exist; name the directory"),
        ("./Dockerfile", "{here}/Dockerfile is no directory; name the directory"),
    ],
)
def test_a_path_is_no_name_of_an_image(what: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Dockerfile").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    action = ActionModule.__new__(ActionModule)
    with pytest.raises(ImageError) as refused:
        action._looked({"what": what, "name": ""}, ImageRequest(""))
    assert str(refused.value).startswith(told.format(here=tmp_path))


def test_a_build_that_fails_is_told_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    action = ActionModule.__new__(ActionModule)
    action._task = SimpleNamespace(check_mode=False)
    request = ImageRequest("", build_secrets={"TOKEN": "t0ken"})

    def fails(*_: object) -> None:
        raise ImageError("`docker buildx` failed: it printed t0ken")

    monkeypatch.setattr("ansible.plugins.action.ActionBase.run", lambda *_: {})
    monkeypatch.setattr(action, "validate_argument_spec", lambda _: (None, {"what": ".", "image_from": "image"}))
    monkeypatch.setattr(action, "_request", lambda _: request)
    monkeypatch.setattr(action, "_looked", fails)
    with pytest.raises(AnsibleActionFail) as failed:
        action.run(task_vars={"image": {}})
    assert failed.value.message == "`docker buildx` failed: it printed ********"
