"""Where it is said that nothing was changed, nothing was: each place is known, with why that is so.

A place that comes later in some run says of what it has changed nothing: `nothing of the edge was changed`.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ansible_collections.slipway.fleet.plugins.modules import lock

ROOT = Path(__file__).resolve().parents[2]
SAID = re.compile("nothing was changed(?! in )", re.IGNORECASE)
KNOWN = {
    "plugins/action/rollout.py": "it is before any host is asked, and is of the app alone after others",
    "plugins/module_utils/backup/postgres.py": "of one function, not to be shown",
    "plugins/modules/doctor.py": "it changes nothing itself and comes first",
    "plugins/plugin_utils/fleet/lease.py": "of hosts that are not held nothing is changed",
    "plugins/plugin_utils/fleet/preflight.py": "it is before all else",
    "plugins/plugin_utils/fleet/run.py": "it says so where no host has told of a change",
    "plugins/plugin_utils/fleet/singletons.py": "it is part of the preflight",
    "plugins/plugin_utils/views/lock.py": "it takes the words away",
}


def test_each_place_is_known() -> None:
    paths = [path for part in ("playbooks", "plugins", "roles") for path in (ROOT / part).rglob("*.*")]
    texts = {path: path.read_text() for path in paths if path.suffix in {".py", ".yml", ".j2"}}
    found = {str(path.relative_to(ROOT)) for path, text in texts.items() if SAID.search(" ".join(text.split()))}
    assert found == KNOWN.keys()


@pytest.mark.parametrize(
    ("state", "said"),
    [
        ("held", "a rotation did not begin; "),
        ("frozen", "the lock was not changed; "),
        ("free", "the lock was not changed; "),
        ("given_back", ""),
        ("shown", ""),
    ],
)
def test_a_lock_that_is_refused_says_what_did_not_happen(state: str, said: str) -> None:
    """In site.yml a host is held once more after the release, and `nothing was changed` was told then."""
    assert lock.undone(state, "a rotation") == said
