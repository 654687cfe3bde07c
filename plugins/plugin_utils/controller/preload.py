# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Plugins that many tasks use, loaded before the first of them.

Every task of every host runs in a worker that is forked from ansible-playbook. What is loaded there before is there in
each of them; what is not, each of them loads anew (about 40 ms of the controller's processor for a host of a deploy).
"""

from __future__ import annotations

from pathlib import Path

from ansible.plugins.loader import filter_loader, lookup_loader, test_loader
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.run import argument_spec

# With one plugin of Ansible's own the others of its kind are loaded, too.
PLUGINS = (
    (filter_loader, "ansible.builtin.combine"),
    (filter_loader, "slipway.fleet.release_id"),
    (filter_loader, "slipway.fleet.wrong_values"),
    (test_loader, "ansible.builtin.match"),
    (lookup_loader, "slipway.fleet.rendered"),
)


def preload() -> None:
    for loader, name in PLUGINS:
        loader.get(name)
    argument_spec(str(Path(__file__).resolve().parents[3] / "roles/fastapi_app/meta/argument_specs.yml"))
