#!/usr/bin/python
# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Collect evidence of a container, and check later that it is what was collected."""

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence
short_description: Collect evidence of a container, and check it later
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Takes what the engine knows of one container into a new directory of the host, a case, with a manifest that says
    what is there, what is not and why, and by which hashes it can be recognised.
  - It is taken in a fixed order, what vanishes first and what is cheap before what is large, and leaves the container
    alone. Each item is bounded in size and time. One that fails does not keep the others from being collected.
  - While it goes on, C(manifest.json) in the directory says how far it is. A collection that was interrupted shows
    there.
  - Nothing that the container holds is returned. It stays in the files, which whoever has broken into the container may
    have written.
extends_documentation_fragment:
  - ironpost.container_guard.attributes
  - ironpost.container_guard.engine
  - ironpost.container_guard.engine.state
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run collects a new case, as the container may have changed. With O(state=verified) nothing is changed.
options:
  container:
    description:
      - Full id, at least the first 12 digits of it, or exact name of the container. With
        O(state=collected), this or O(wanted) is required.
      - Where one container has the id and another the name, the module refuses to choose.
    type: str
  wanted:
    description:
      - What M(ironpost.container_guard.alert_response) returned as C(evidence_wanted), instead of O(container). Each is
        a case of its own, with a record in the action log. O(collect), O(paths), O(reason) and O(trace_id) are those in
        here.
    type: list
    elements: dict
    suboptions:
      container:
        description: Id, name and image of the container.
        type: dict
        required: true
      collect:
        description: As O(collect).
        type: list
        elements: str
        default: []
      paths:
        description: As O(paths).
        type: list
        elements: str
        default: []
      case:
        description: Id of a case that was begun, which is gone on with, or empty.
        type: str
        default: ''
      action_event:
        description: Id of the record of the action that it is collected for.
        type: str
        default: ''
      reason:
        description: Why.
        type: str
        default: ''
      trace_id:
        description: Trace id of the alert.
        type: str
        default: ''
      alert_id:
        description: Id of the alert.
        type: str
        default: ''
      policy_id:
        description: The policy.
        type: str
        default: ''
  max_concurrent_actions:
    description: How many containers of O(wanted) are worked on at the same time, from V(1) to V(100).
    type: int
    default: 10
  state:
    description:
      - V(collected) collects a new case.
      - V(verified) compares the files of O(case) with its manifest, and fails where anything is not as it was
        collected. It needs neither a Docker engine nor the docker SDK, so that it works where the case was copied to.
    type: str
    choices: [collected, verified]
    default: collected
  collect:
    description:
      - What to collect, beside O(paths).
      - V(inspect) is how the container is configured, and its state. V(changes) are the files that differ from its
        image. V(logs) are the last lines it wrote, where its logging driver keeps them.
      - V(top) are its processes, and V(stats) what they use. Only a container that runs or is paused has these.
      - V(export) is its file system as a tar archive, without volumes and what is in memory.
    type: list
    elements: str
    choices: [inspect, top, stats, changes, logs, export]
    default: [inspect, top, changes, logs]
  paths:
    description:
      - Absolute paths in the container to take as tar archives, up to 100. Volumes are included, tmpfs is not. A
        symbolic link is taken as one.
    type: list
    elements: str
    default: []
  max_bytes:
    description:
      - Size at which each item is cut, from 64 KiB to 1 TiB in bytes. The default is 100 MiB.
      - Items are also cut, or the collection is refused, where less than 256 MiB of the file system would stay free.
    type: int
    default: 104857600
  log_lines:
    description: For V(logs), how many of the last lines, from V(1) to V(10000000).
    type: int
    default: 10000
  item_timeout:
    description: Seconds after which each item is cut, from V(1) to V(86400).
    type: int
    default: 60
  host:
    description: Name of this host for the manifest. Without it, its own host name.
    type: str
    default: ''
  reason:
    description: Why, for the manifest. At most 1024 characters are kept.
    type: str
    default: ''
  trace_id:
    description:
      - Identifier that ties this run to an alert or a ticket, at most 128 letters, digits and any of C(._:-).
      - Without it, a UUID is made.
    type: str
    default: ''
  case:
    description:
      - With O(state=verified), the id of a case in O(state_dir), or the absolute path of the directory of one.
    type: str
  manifest_sha256:
    description:
      - With O(state=verified), the hash that RV(manifest_sha256) was when the case was collected.
      - Without it, a change is not found where the manifest and C(SHA256SUMS) were changed along with a file.
    type: str
    default: ''
seealso:
  - module: ironpost.container_guard.isolation
"""

EXAMPLES = r"""
- name: Collect what a suspicious container does and has changed
  ironpost.container_guard.evidence:
    container: web-1
    reason: "INC-4711: shell in the shop front end"
  register: evidence

- name: Collect its whole file system and a volume, up to 2 GiB each
  ironpost.container_guard.evidence:
    container: web-1
    collect: [inspect, top, stats, changes, logs, export]
    paths: [/var/lib/shop]
    max_bytes: 2147483648
    item_timeout: 600

- name: Collect what policies want of the containers that were isolated
  ironpost.container_guard.evidence:
    wanted: "{{ answer.evidence_wanted }}"

- name: Check that it is still what was collected
  ironpost.container_guard.evidence:
    state: verified
    case: "{{ evidence.case_id }}"
    manifest_sha256: "{{ evidence.manifest_sha256 }}"
"""

RETURN = r"""
collected:
  description:
    - A record, as in C(responses[].event) of M(ironpost.container_guard.alert_response), of each of O(wanted). The
      outcome is V(collected), or V(failed) where nothing could be collected, and then the module fails, too.
  type: list
  elements: dict
  returned: with O(wanted)
  contains:
    outcome:
      description: V(collected) or V(failed).
      type: str
    evidence:
      description: Where it is. The hash of the manifest is in the action log, too, so that a changed case is found out.
      type: dict
      contains:
        case_id:
          description: Name of the case.
          type: str
        directory:
          description: Directory of the case on the host.
          type: str
        manifest_sha256:
          description: SHA-256 of its manifest.
          type: str
        action_event:
          description: Id of the record of the action that it was collected for.
          type: str
case_id:
  description: Id of the case, which is the name of its directory; empty in check mode.
  type: str
  returned: when the container or the case was found
  sample: 20261124T223010Z-6bc1b4be90d6-a1b2c3
directory:
  description: Absolute path of the case; empty in check mode.
  type: str
  returned: when the container or the case was found
manifest_sha256:
  description:
    - Hash of C(manifest.json), which holds the hashes of all other files. Kept elsewhere, it shows any change of the
      case. Empty in check mode.
  type: str
  returned: when the container or the case was found
container:
  description: The container.
  type: dict
  returned: when the container or the case was found
  contains:
    id:
      description: Full id.
      type: str
    name:
      description: Name without the slash.
      type: str
    image:
      description: Reference of its image.
      type: str
evidence:
  description: The items of the case, in the order in which it is collected.
  type: list
  elements: dict
  returned: when the container or the case was found
  contains:
    kind:
      description: V(inspect), V(top), V(stats), V(changes), V(logs), V(archive) or V(export).
      type: str
    path:
      description: For V(archive), the path in the container.
      type: str
    file:
      description: Its file in the directory, or empty.
      type: str
    status:
      description:
        - V(collected); V(truncated) where a limit cut it; V(unavailable) where a container in this state has none;
          V(failed), where what came before is kept. V(pending) in check mode.
      type: str
    reason:
      description: Why it is not whole, or what it cannot hold.
      type: str
    bytes:
      description: Size of the file.
      type: int
    sha256:
      description: Hash of the file.
      type: str
    started:
      description: When the engine was asked, RFC 3339.
      type: str
    ended:
      description: When the last of it was on disk.
      type: str
problems:
  description: With O(state=verified), what is not as it was collected.
  type: list
  elements: str
  returned: when the container or the case was found
trace_id:
  description: The identifier of this run, or with O(state=verified) that of the run that collected the case.
  type: str
  returned: when the container or the case was found
error:
  description: What went wrong, or V(none).
  type: dict
  returned: always
  contains:
    kind:
      description: Stable name, such as V(not_found), V(ambiguous), V(engine_unreachable), V(no_space), V(case_missing),
        V(nothing_collected), V(manifest_not_written) or V(case_changed).
      type: str
    message:
      description: What failed, and on what.
      type: str
    remedy:
      description: What to do.
      type: str
"""

from ansible_collections.ironpost.container_guard.plugins.module_utils._module.evidence import main

if __name__ == "__main__":
    main()
