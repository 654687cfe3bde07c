#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Documentation of the action plugin of the same name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rollout
short_description: Take a fleet to one release as one transaction
description:
  - Afterwards every host serves what its variables for role fastapi_app say, or each serves what it served before.
  - Runs once for all hosts of the play, on the controller. It looks at every host, holds the app on those that are to
    be changed, has the image or package, stages and checks the release there, migrates once, and goes over the hosts
    in batches. When a host fails, those that had switched go back. Hosts that serve the release already are left alone.
  - What a host is to serve is computed first, from the variables and templates of role fastapi_app; where a host has a
    value that cannot be used, nobody is asked and nothing is changed. The role's variables are there in a play that
    has the role, or by O(roles).
  - It speaks to every host over one channel, made with the connection and the become settings of the inventory.
  - O(batches), O(reconnect), O(same_content), O(migrations) and what O(probe) has are also given by variables of these
    names, such as C(slipway_batches) and C(slipway_probe_urls).
  - Shows a line for each host, a table at the end, and writes a report. In check mode it shows the plan and changes
    nothing.
options:
  operation:
    description:
      - V(deploy) takes every host to the release that its variables make. V(rollback) takes all of them back to one
        earlier release, which is the C(release) of the target or else the newest good one that every host has.
        V(restart) starts what serves anew.
    type: str
    choices: [deploy, rollback, restart]
    default: deploy
  contents:
    description:
      - Where V(image) and V(package) come from, each with the name of the variable that has the C(request) and, where
        there is one, of the one that has what is C(wrong) with it. Without it they are on the host already.
    type: dict
    default: {}
  roles:
    description: Roles of this collection whose variables are read here, since the play has not loaded them.
    type: list
    elements: str
    default: []
  hosts:
    description:
      - Hosts to take there, without it all of the play. With it a host that does not get there fails the task.
      - Without it such hosts are in RV(wrong), and the task succeeds, so that a play can fail each of them by name.
    type: list
    elements: str
  batches:
    description: Sizes of the batches, numbers or percentages of the hosts; the last one as often as needed.
    type: list
    elements: raw
    default: [1, "25%", "100%"]
  reconnect:
    description:
      - Seconds that a host which goes away in its turn is asked again before it counts as unreachable, and the fleet
        goes back. It ends or undoes its own transaction meanwhile. 0 asks once.
    type: float
    default: 60.0
  same_content:
    description: Whether a deploy that brings another image or package than the one that serves is refused.
    type: bool
    default: false
  migrations: {description: Directory of Alembic revisions on the controller, for the plan., type: path}
  savers:
    description:
      - Hosts that make a set before pending migrations are applied, as C(backup) of the target says what one that
        cannot be made means. They are asked for nothing else, and only where something is pending.
    type: list
    elements: str
    default: []
  unsaved:
    description:
      - Hosts that say that the database is elsewhere, where no set that is made before migrations has it; plan, run and
        record say so.
    type: list
    elements: str
    default: []
  rehearsers:
    description:
      - By the name of a host that makes sets and has no app, the host of the app on which pending migrations are
        rehearsed with its newest set.
    type: dict
    default: {}
  besides:
    description:
      - What refuses the run besides all that is found here. It is said together with that, and nothing is changed.
    type: list
    elements: str
    default: []
  page_goes:
    description: Whether the playbook takes the maintenance page away after this task. It is only said.
    type: bool
    default: false
  directory: {description: Where reports go; without it C(reports/INVENTORY)., type: path}
  probe:
    description: Requests through the edge while the fleet turns over.
    type: dict
    default: {}
    suboptions:
      urls:
        description:
          - Edges to ask in turn; without it the load balancers, or else the hosts, each as its variables for role
            C(haproxy) make it, or at its C(slipway_url).
        type: list
        elements: str
        default: []
      path:
        description: Path to ask for; without it C(fastapi_app_version_path), else C(fastapi_app_health_path).
        type: str
      ca_file: {description: Certificates to trust instead of the controller's own., type: path}
      rate: {description: Requests a second; 0 sends none., type: float, default: 10.0}
      must_pass:
        description:
          - Whether a failed request fails the task. Without it the task fails where the app answered nothing during the
            whole run, though it had answered before.
        type: bool
        default: false
extends_documentation_fragment: [slipway.fleet.of_the_roles]
author: [Slipway contributors]
attributes:
  check_mode:
    description: >-
      Shows the plan. What a host lacks is a warning where the whole run is in check mode, since one that would first
      provision the host would mend some of it; where the task alone is, it is refused.
    support: full
  diff_mode: {description: Shows the release's files against those of the release that serves., support: full}
"""

EXAMPLES = r"""
- name: Take the fleet to the release
  slipway.fleet.rollout:
    roles: [fastapi_app]
    batches: [1, "50%"]
  run_once: true
  register: rollout_result
"""

RETURN = r"""
verdict:
  description: One of good, nothing, reverted, held, failed, refused or planned.
  returned: always
  type: str
message: {description: The verdict in a sentence., returned: always, type: str}
release: {description: The release that the run was about., returned: when it is known, type: str}
wrong:
  description: For each host that does not serve what the run was about a sentence that says what it serves and why.
  returned: always
  type: dict
hosts: {description: What became of each host., returned: when hosts were asked, type: list, elements: dict}
probe: {description: Figures of the probe., returned: when hosts were asked, type: dict}
report: {description: Path of the report, empty when none was written., returned: when hosts were asked, type: str}
"""
