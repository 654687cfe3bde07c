"""What every run loads before its first task: all of it costs every command, whatever that one does."""

from __future__ import annotations

import json
import subprocess
import sys

LOADED = """
import json, sys
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader()
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.preload import preload
preload()
print(json.dumps([name.partition(".fleet.plugins.")[2] for name in sys.modules]))
"""


def test_no_run_loads_what_only_hosts_do_with_backups() -> None:
    said = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True).stdout
    loaded = json.loads(said)
    assert "plugin_utils.views.backups" in loaded, "the filters are loaded"
    of_backups = {name for name in loaded if name.startswith("module_utils.backup.")}
    assert of_backups == {"module_utils.backup.confirming"}
