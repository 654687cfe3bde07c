"""What a task of slipway.fleet.image says where it fails."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.slipway.fleet.plugins.action.image import ActionModule
from ansible_collections.slipway.fleet.plugins.module_utils.image.local import ImageError


def test_a_build_that_fails_is_told_without_its_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    action = ActionModule.__new__(ActionModule)
    arguments = {"name": "app", "source": "build", "build_secrets": {"TOKEN": "t0ken"}}
    action._task = SimpleNamespace(args=arguments, no_log=False)

    def fails(*_: object) -> None:
        raise ImageError("`docker buildx` failed: it printed t0ken")

    monkeypatch.setattr("ansible.plugins.action.ActionBase.run", lambda *_: {})
    monkeypatch.setattr(action, "_run", fails)
    with pytest.raises(AnsibleActionFail) as failed:
        action.run(task_vars={})
    assert failed.value.message == "`docker buildx` failed: it printed ********"
