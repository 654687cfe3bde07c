# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""What the variables of slipway.fleet.docker_engine must be beyond their types."""

from __future__ import annotations

from collections.abc import Iterator

from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.values import Like, Values

NETWORKS = Like(
    "docker_engine_networks",
    "[a-zA-Z0-9][a-zA-Z0-9_.-]*",
    "letters, digits, dots, dashes and underscores, a letter or a digit first",
)


def host(value_of: Values) -> Iterator[str]:
    """A sentence for each thing that keeps an engine from a host."""
    if "distribution" in value_of("ansible_facts"):
        yield from _source(value_of)
    else:
        yield (
            "The facts of this host were not gathered. Let the play gather them: gather_facts true, with at least "
            "distribution and hardware in gather_subset."
        )
    yield from NETWORKS.broken(value_of)


def _source(value_of: Values) -> Iterator[str]:
    source, platform = value_of("docker_engine_source"), value_of("__docker_engine_platform").strip()
    sources = {name: known["platforms"] for name, known in value_of("__docker_engine_sources").items()}
    here = [name for name, platforms in sources.items() if platform in platforms]
    if source in here:
        return
    everywhere = sorted({known for platforms in sources.values() for known in platforms})
    advice = (
        f"Set docker_engine_source: {' or '.join(here)} (group_vars, docker_engine.yml)."
        if here
        else f"Use a host with {', '.join(everywhere)}."
    )
    yield f"docker_engine_source is {source}, which has no Docker Engine with Compose v2 for {platform}. {advice}"
