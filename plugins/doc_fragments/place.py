# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The documentation of `PLACE_ARGUMENT` in module_utils/release/wiring.py."""

from __future__ import annotations


class ModuleDocFragment:
    """For modules that look at an app on a host."""

    DOCUMENTATION = r"""
options:
  place:
    description: Where the app is on the host and how it is looked at.
    type: dict
    required: true
    suboptions:
      app: {description: Name of the app., type: str, required: true}
      root: {description: Directory of the app., type: path, required: true}
      socket_directory: {description: Directory with the sockets of the slots., type: path, required: true}
      ports:
        description: Ports of the host for the slots V(blue) and V(green); those that the app's name makes if not given.
        type: dict
        default: {}
      singletons: {description: Whether those of the fleet run on this host., type: bool, default: true}
      singleton_host: {description: Name of the host on which they run., type: str, default: ""}
      gate:
        description:
          - When a started slot counts as healthy; times in seconds.
          - How a release is looked at (path, version_path, statuses, host, proto) is kept with its files, in
            C(gate.json), and what stands here is for one without.
        type: dict
        default: {}
        suboptions:
          path: {description: Path that tells whether the app can serve., type: str, default: /readyz}
          version_path: {description: Path that names the release; empty for none., type: str, default: ""}
          statuses: {description: "Statuses of a good answer, codes and ranges.", type: str, default: 200-299}
          host: {description: Host name under which it is asked., type: str, default: localhost}
          proto: {description: How the app is told that the request came., type: str, default: http}
          passes: {description: Passes in a row., type: int, default: 3}
          interval: {description: Seconds between passes., type: float, default: 1.0}
          timeout: {description: Seconds for one answer., type: float, default: 5.0}
          deadline: {description: Seconds until the release is refused., type: float, default: 60.0}
          edge:
            description: Seconds that HAProxy may take to see what the slot answers already.
            type: float
            default: 20.0
      edge:
        description: How HAProxy is reached.
        type: dict
        required: true
        suboptions:
          socket: {description: Admin socket., type: path, required: true}
          backend: {description: Backend of the app., type: str, required: true}
          state_file: {description: Where HAProxy reads server states from at a reload., type: path, required: true}
"""
