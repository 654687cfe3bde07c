# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The content key of a package, without a host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: package_content
short_description: The content key that slipway.fleet.package gives to a package
description:
  - A hash of the lock and of the code, the same on every controller. No host is asked. It is that of a package with
    the defaults of all options that are not here; O(slipway.fleet.package#module:operation=identify) takes all of them.
options:
  _terms: {description: Directory with the code., required: true}
  files:
    description: Files and directories below it that the app sees below C(/srv).
    type: list
    elements: str
    default: []
  lock: {description: Lock below the directory; empty for the one that is found., type: str, default: ""}
author: [Slipway contributors]
"""

EXAMPLES = r"""
- name: Tell what would be released
  ansible.builtin.debug:
    msg: "{{ lookup('slipway.fleet.package_content', '/srv/code', files=['app'], lock='requirements/app.lock') }}"
"""

RETURN = r"""
_raw: {description: One key for each directory., type: list, elements: str}
"""

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.slipway.fleet.plugins.module_utils.package.packages import PackageError
from ansible_collections.slipway.fleet.plugins.plugin_utils.package.source import PackageSource


class LookupModule(LookupBase):  # type: ignore[misc]
    """See DOCUMENTATION."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        files, lock = self.get_option("files"), self.get_option("lock")
        try:
            return [PackageSource(Path(term), files, lock).key() for term in terms]
        except PackageError as error:
            raise AnsibleLookupError(str(error)) from error
