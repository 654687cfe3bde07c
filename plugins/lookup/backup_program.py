# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The program that backs a host up, as one file on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
name: backup_program
short_description: Path of the file that has the program slipway-backup
description:
  - It is what C(plugins/module_utils) has for it, the same bytes for the same sources, in the controller's cache.
author: [Slipway contributors]
"""

EXAMPLES = r"""
- name: Put the program on the host
  ansible.builtin.copy:
    src: "{{ lookup('slipway.fleet.backup_program') }}"
    dest: /usr/local/lib/slipway/backup.pyz
    mode: "0644"
"""

RETURN = r"""
_raw: {description: The path., type: list, elements: path}
"""

import hashlib
from typing import Any

from ansible.plugins.lookup import LookupBase
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel import archive

# The rooms that it is made of.
ROOMS = ("host/", "backup/")


class LookupModule(LookupBase):  # type: ignore[misc]
    """See DOCUMENTATION."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[str]:
        data = archive.build({name: text for name, text in archive.sources().items() if name.startswith(ROOMS)})
        directory = archive.cache().parent / "backup"
        directory.mkdir(exist_ok=True, mode=0o700)
        kept = directory / f"{hashlib.sha256(data).hexdigest()}.pyz"
        if not kept.exists():
            archive.keep(kept, data)
        return [str(kept)]
