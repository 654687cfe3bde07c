# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What a template of a role becomes on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: rendered
short_description: The text that slipway.fleet.tree makes of a template
description:
  - As the lookup V(ansible.builtin.template), which copies all variables of all hosts each time.
options:
  _terms: {description: Templates below C(templates) of the role or the playbook., required: true}
author: [Slipway contributors]
"""

EXAMPLES = r"""
- name: Show the file before it is written
  ansible.builtin.debug:
    msg: "{{ lookup('slipway.fleet.rendered', 'compose.yaml.j2') }}"
"""

RETURN = r"""
_raw: {description: The text of each template., type: list, elements: str}
"""

from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.rendering import Renderer


class LookupModule(LookupBase):  # type: ignore[misc]
    """See DOCUMENTATION."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[str]:
        self.set_options(var_options=variables, direct=kwargs)
        renderer = Renderer(self._templar, self._loader)
        return [renderer.text(self._source(term, variables), variables) for term in terms]

    def _source(self, term: str, variables: Any) -> str:
        source = self.find_file_in_search_path(variables, "templates", term)
        if not source:
            raise AnsibleLookupError(f"the template {term} is not in any of {variables.get('ansible_search_path')}")
        return str(source)
