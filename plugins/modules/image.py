#!/usr/bin/python
# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Put one image on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: image
short_description: Put one image on a host, and nothing else
description:
  - Whatever the source, the wanted image is on the host afterwards. A host that has it is not touched.
  - An image that is built is known by a key of what it is built from (context, Dockerfile, build arguments), kept as
    the label C(slipway.content). An unchanged context builds nothing and sends nothing, from whichever controller.
options:
  name:
    description:
      - Name with tag. For V(pull) and V(ship) the image to take, for the builds the repository to tag in.
      - For V(pull) a tag is resolved to a digest once in a run, and that digest is what every host gets.
    type: str
    required: true
  source:
    description:
      - V(pull) takes it from its registry on the host.
      - V(ship) sends the image that the controller's Docker has.
      - V(build) builds it once for all hosts, where O(build_on) says, and sends the result.
      - For V(ship) and V(build) only layers that a host lacks travel, compressed, and an interrupted transfer goes on
        where it was cut.
    type: str
    choices: [pull, ship, build]
    default: pull
  context: {description: Build context on the controller., type: path}
  dockerfile: {description: Dockerfile below the context., type: str, default: Dockerfile}
  build_args: {description: Build arguments., type: dict, default: {}}
  target: {description: Stage of the Dockerfile that is the image; empty for the last one., type: str, default: ''}
  ca_file: {description: CA bundle on the controller that the build needs behind an inspecting proxy., type: path}
  build_on:
    description:
      - V(controller), or V(first) or the host's name where the task is delegated to the host that builds.
    type: str
    default: controller
  build_secrets:
    description:
      - Secrets of the build by name, for C(RUN --mount=type=secret,id=NAME) in the Dockerfile. Needs BuildKit. They
        are files in memory for the time of the build, and in no layer.
    type: dict
    default: {}
  build_ssh:
    description:
      - Whether C(RUN --mount=type=ssh) in the Dockerfile logs in by the SSH agent of the controller, on a build host by
        the one that SSH forwards there. Needs BuildKit.
    type: bool
    default: false
  build_ssh_key:
    description: A private key without a passphrase that it logs in by instead; in memory for the time of the build.
    type: str
    default: ''
  build_cache_mib: {description: MiB that BuildKit's cache on a build host may take; none is no limit., type: int}
  disk_reserve: {description: MiB that stay free on every host when an image is sent., type: int, default: 1024}
  ship_cache: {description: MiB that the controller's cache of layers may take., type: int, default: 4096}
  registry_user: {description: User of the registry. Without one nobody logs in., type: str}
  registry_password:
    description: Its password. It is on no command line, and in no file that another process could see.
    type: str
  registry_ca_file:
    description: Authorities to trust for this registry besides the system's, as a PEM file on the controller.
    type: path
  registry_resolve:
    description:
      - Who asks the registry what a name stands for. V(host) is for a controller that does not reach it.
      - With V(nobody) a host that has the name keeps what it has. Another gets what the tag stands for when it pulls.
    type: str
    choices: [controller, host, nobody]
    default: controller
  cosign_key: {description: Public key on the controller with which the image must be signed., type: path}
  cosign_log:
    description: The signature must be in the public transparency log too. This takes the internet.
    type: bool
    default: false
  bundle: {description: A bundle on the controller that has the image; then O(source) is not asked., type: path}
  sbom: {description: Have a bill of materials of the image on the controller., type: bool, default: false}
  operation:
    description:
      - V(identify) only tells name and content of the wanted image, and changes nothing.
      - V(look) tells what a host lacks of it.
      - V(prepare) builds the image if any host of the play lacks it, and stops the run when one has no room. It is
        for C(run_once), between V(look) and the task that sends.
      - V(put) has the image on the host. It needs neither of the other steps.
    type: str
    choices: [put, identify, look, prepare]
    default: put
  wrong:
    description: For V(identify) what is known to be wrong already; with any, the task fails with it.
    type: list
    elements: str
    default: []
  results: {description: For V(prepare) the name under which every host registered its V(look)., type: str}
  seen: {description: What V(look) returned; without it the host is asked., type: dict}
  prepared: {description: What V(prepare) returned; without it each host prepares for itself., type: dict}
author: [Slipway contributors]
attributes:
  check_mode: {description: Builds nothing and moves nothing and tells whether it would., support: full}
  diff_mode: {description: Has no diff., support: none}
"""

EXAMPLES = r"""
- name: Build the app's image once and put it on every host
  slipway.fleet.image:
    name: slipway/shortlinks
    source: build
    context: "{{ playbook_dir }}/.."

- name: Take it from a registry, the same content on every host
  slipway.fleet.image:
    name: registry.example.com/shortlinks:2026-11-25
    registry_user: deploy
    registry_password: "{{ vault_registry_password }}"
"""

RETURN = r"""
id: {description: Image id., returned: when known, type: str}
reference: {description: Name of this content on the host., returned: always, type: str}
content: {description: Key of the image's content., returned: always, type: str}
digest: {description: Digest in the registry; of a list of images that of the list., returned: pull, type: str}
architectures:
  description: What the image is made for, in Docker's words (amd64, arm64); empty when unknown.
  returned: always
  type: list
  elements: str
sbom: {description: Path of the bill of materials (CycloneDX) on the controller., returned: with O(sbom), type: str}
size: {description: Bytes of the layers; packed when RV(packed)., returned: when known, type: int}
packed: {description: The size is that of the layers as they travel., returned: pull, type: bool}
bytes_moved: {description: Bytes that were sent to the host., returned: for ship and build, type: int}
"""
