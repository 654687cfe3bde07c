"""Makes `ansible_collections.slipway.fleet` importable in tests, as it is inside Ansible."""

from __future__ import annotations

from pathlib import Path

from ansible.plugins.loader import init_plugin_loader

ROOT = Path(__file__).resolve().parents[1]

init_plugin_loader([str(ROOT / ".collections")])
