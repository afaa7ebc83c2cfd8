#!/usr/bin/python
# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the guard from acting on alerts for a time."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mute
short_description: Keep the guard from acting on alerts for a time
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Mutes a policy, containers, both, or all alerts about a host, for at most 7 days. An alert that would isolate a
    container and is muted has the outcome V(muted), and its record says by whom, until when and why.
  - A mute ends by itself. It undoes nothing, and keeps nobody from isolating a container by hand.
  - Alerts of severity critical are never muted, unless with O(force).
  - Where the file of the mutes is damaged, nothing is muted, and the next mute begins it anew. A warning says so.
extends_documentation_fragment:
  - ironpost.container_guard.attributes
  - ironpost.container_guard.engine.state
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - With O(for), a second run lets the time begin anew. With O(until) it changes nothing.
options:
  policy:
    description: Id of the policy that is muted. With O(container), only on that one.
    type: str
    default: ''
  container:
    description:
      - The containers that are muted. A name, or a glob over names such as V(web-*), is compared with the name,
        whichever container has it by then. 12 to 64 hexadecimal digits are compared with the id, and mean no other
        container of the same name.
    type: str
    default: ''
  whole_host:
    description:
      - Mute all alerts about this host, for its maintenance. Those that would fail, as its engine does not answer or
        the container is not found, are V(muted), too.
      - Not with O(policy) or O(container), of which one is required otherwise.
    type: bool
    default: false
  state:
    description:
      - V(present) mutes, and replaces a mute of the same policy and container as a whole; the last word counts.
      - V(absent) ends the mute of the same policy and container.
    type: str
    choices: [present, absent]
    default: present
  for:
    description: For how long from now, in seconds, or such as V(90m), V(2h), V(1h30m) or V(7d). At most 7 days.
    type: str
    default: ''
  until:
    description: Until when, RFC 3339, at most 7 days from now. With O(state=present) either this or O(for) is required.
    type: str
    default: ''
    aliases: [ends_at]
  reason:
    description: Why, for all records of what is muted. At most 1024 characters are kept. Required with
      O(state=present).
    type: str
    default: ''
  force:
    description: Mute alerts of severity critical, too. The mute says so.
    type: bool
    default: false
  actor:
    description: Who mutes. At most 128 characters are kept. A task need not say it.
    type: str
    default: ''
  controller_time:
    description: The time on the controller, RFC 3339, by which mutes begin and end. A task need not say it.
    type: str
  policy_set:
    description: File on the host that M(ironpost.container_guard.policy_set) put in place. Where it has no such
      O(policy), a warning says so.
    type: path
    default: /etc/container-guard/policy_set.json
requirements:
  - Python 3.8 or newer on the host; ansible-core from 2.20 on wants 3.9 or newer there
seealso:
  - module: ironpost.container_guard.isolation_info
  - module: ironpost.container_guard.decision_info
"""

EXAMPLES = r"""
- name: Let a policy rest during a deployment
  ironpost.container_guard.mute:
    policy: quarantine-shells
    container: web-*
    for: 2h
    reason: "CHG-1207: migration by hand"

- name: Mute all about a host while it is upgraded
  ironpost.container_guard.mute:
    whole_host: true
    until: "2026-04-05T06:00:00Z"
    reason: engine upgrade
    force: true

- name: End it early
  ironpost.container_guard.mute:
    whole_host: true
    state: absent
"""

RETURN = r"""
mutes:
  description: All that is muted on this host, or in check mode would be.
  type: list
  elements: dict
  returned: success
  contains:
    policy:
      description: Id of the policy, or empty for each.
      type: str
    container:
      description: Name, glob or id, or empty for each. Where both are empty, all alerts about the host are muted.
      type: str
    force:
      description: Whether critical alerts are muted, too.
      type: bool
    reason:
      description: Why.
      type: str
    actor:
      description: Who muted it, as claimed.
      type: str
    since:
      description: When that was, RFC 3339.
      type: str
    until:
      description: When it ends, RFC 3339.
      type: str
error:
  description: Kind, message and remedy.
  type: dict
  returned: failure
"""

from ansible_collections.ironpost.container_guard.plugins.module_utils._module.mute import main

if __name__ == "__main__":
    main()
