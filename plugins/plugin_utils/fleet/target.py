# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""From what a host is to serve to the release itself, once it is known which image or package it has. Pure.

A release is named by its content and everything rendered. What is rendered names the image and the release's directory,
so templates get marks in their place, and the marks become text here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import Identity, Target

# Text that no inventory has, and that JSON and YAML leave as it is.
REFERENCE = "@@slipway-reference@@"
CONTENT = "@@slipway-content@@"
RELEASE = "@@slipway-release@@"
CONFIG = "@@slipway-config@@"
# Release that the host serves so far, 'none' for none: for the diff of a file against the one that it replaces.
SERVING = "@@slipway-serving@@"


def named(target: Target, identity: Identity, release_id: Any) -> Target:
    """The target with its release named and all marks replaced; `release` of an operator wins.

    Args:
        target: with marks
        identity: of its content, which must be known
        release_id: from content and the hash of the configuration to the id (filter `release_id`)
    """
    known = {REFERENCE: identity.reference, CONTENT: identity.content}
    config = hashlib.sha256(replaced(target.config, known).encode()).hexdigest()
    release = target.release or str(release_id(identity.content, config))
    marks = {**known, RELEASE: release, CONFIG: config}
    return replace(
        target,
        release=release,
        files=replaced(target.files, marks),
        contents=replaced(target.contents, marks),
        activate=replaced(target.activate, marks),
        look=replaced(target.look, marks),
    )


def replaced(value: Any, marks: Mapping[str, str]) -> Any:
    """The value with the marks in all its texts replaced."""
    if isinstance(value, str):
        for mark, text in marks.items():
            value = value.replace(mark, text)
        return value
    if isinstance(value, Mapping):
        return {key: replaced(item, marks) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [replaced(item, marks) for item in value]
    return value
