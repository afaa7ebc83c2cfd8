#!/usr/bin/python
# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is isolated on a host, and whether that still holds."""

from __future__ import annotations

DOCUMENTATION = r"""
module: isolation_info
short_description: What is isolated here, and whether journal and engine agree
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Lists the isolations in the journal of a host, compares each with what the engine says, and checks the chain of the
    action log.
extends_documentation_fragment:
  - ironpost.container_guard.attributes
  - ironpost.container_guard.attributes.info
  - ironpost.container_guard.engine
  - ironpost.container_guard.engine.state
options:
  trace_id:
    description:
      - Trace id of an alert or of a request, of which RV(records) tells.
    type: str
    default: ''
  policy_set:
    description:
      - File on the host that M(ironpost.container_guard.policy_set) put in place, of which RV(policy_set) tells.
    type: path
    default: /etc/container-guard/policy_set.json
seealso:
  - module: ironpost.container_guard.isolation
  - module: ironpost.container_guard.mute
"""

EXAMPLES = r"""
- name: Look at what is isolated
  ironpost.container_guard.isolation_info:
  register: guard

- name: What did this host do about an alert?
  ironpost.container_guard.isolation_info:
    trace_id: 5a1f7c52-0c5e-4a54-9a3e-6a8d1b9f4c77

- name: Say so when somebody undid an isolation
  ansible.builtin.assert:
    that: guard.agree
    fail_msg: "{{ guard.isolations | rejectattr('agree') }}"
"""

RETURN = r"""
isolations:
  description:
    - The isolations of the journal, oldest first. Where the engine does not answer the module fails, and they are
      returned all the same, each with the breach V(unreadable).
  type: list
  elements: dict
  returned: always
  contains:
    container:
      description: Id and name of the container.
      type: dict
    since:
      description: When the isolation began, RFC 3339.
      type: str
    phase:
      description: V(isolated) once verified; V(isolating) or V(releasing) where a run was interrupted or failed.
      type: str
    actions:
      description: What it holds up, as the actions are called.
      type: list
      elements: str
    expires_at:
      description: When it is to end, RFC 3339, or empty.
      type: str
    claims:
      description: Who wants it held, as in M(ironpost.container_guard.isolation).
      type: list
      elements: dict
    awaiting_approval:
      description: What policies want beyond it and wait for somebody to approve of now, as in
        C(responses[].event.approval) of M(ironpost.container_guard.alert_response). V(approved) and V(refused) of
        C(state) of M(ironpost.container_guard.isolation) decide.
      type: list
      elements: dict
    for_sharers:
      description: Ids of isolated containers that use its network, for the sake of which it is off.
      type: list
      elements: str
    reason:
      description: Why, by the first who asked.
      type: str
    actor:
      description: Who that was, as claimed.
      type: str
    trace_id:
      description: Of the alert or the request.
      type: str
    alert_id:
      description: Of the alert, or empty.
      type: str
    policy_id:
      description: Of the policy, or empty.
      type: str
    intended:
      description: Id of the line of the action log that was written before acting, or empty.
      type: str
    before:
      description: State before the isolation.
      type: dict
    now:
      description: State now, or V(none) where the container no longer exists.
      type: dict
    agree:
      description: Whether the engine says what the journal says.
      type: bool
    breaches:
      description: What does not agree. The module M(ironpost.container_guard.isolation) with C(recorded) mends it.
      type: list
      elements: dict
      contains:
        kind:
          description:
            - V(unpaused), V(running), V(restarting), V(restarted), V(reconnected) and V(restart_policy) say what was
              undone. V(ended) means that its processes ended, and what they had in memory is lost.
            - V(removed) means that the container is gone, V(recreated) that another one has its name besides.
            - V(contradiction) means that answers of the engine exclude each other, V(unreadable) that it gave none, and
              V(interrupted) that a run of the guard did not end.
          type: str
        message:
          description: What was found.
          type: str
damaged:
  description: Entries of the journal that cannot be read, and why.
  type: list
  elements: str
  returned: always
agree:
  description: Whether journal and engine agree on all isolations.
  type: bool
  returned: always
cut_off_by_others:
  description: Containers that the engine shows as cut off and the journal does not know, once for each way.
  type: list
  elements: dict
  returned: always
  contains:
    id:
      description: Full id.
      type: str
    name:
      description: Name without the slash.
      type: str
    how:
      description: V(paused) or V(no network).
      type: str
mutes:
  description: What is muted on this host now, as in M(ironpost.container_guard.mute).
  type: list
  elements: dict
  returned: always
action_log:
  description: Whether the action log is whole.
  type: dict
  returned: always
  contains:
    records:
      description: How many records there are.
      type: int
    intact:
      description: Whether each record fits the one before.
      type: bool
    first_break:
      description: Number of the first line that does not, counted from the oldest file, or V(none).
      type: int
    last_hash:
      description: Hash of the last record. Kept elsewhere, it also shows whether the newest records were removed.
      type: str
    files:
      description: How many files of it are kept.
      type: int
    oldest:
      description: Time of the oldest record that is kept, RFC 3339, or empty.
      type: str
    follows:
      description: Hash of the record before the oldest one; zeros where no record was forgotten.
      type: str
    interrupted:
      description:
        - Attempts to act that have no end on record, at most 100 of the newest. They were cut short, or are being made.
      type: list
      elements: dict
policy_set:
  description: The policy set that is deployed.
  type: dict
  returned: always
  contains:
    path:
      description: File on the host.
      type: str
    digest:
      description: Its digest, or empty where there is none that can be read.
      type: str
    deployed_at:
      description: When it was put in place, RFC 3339, or empty.
      type: str
    problem:
      description: Why it cannot be read, or empty.
      type: str
records:
  description:
    - The records of the action log with O(trace_id), oldest first, at most 100 of the newest, as in
      C(responses[].event) of M(ironpost.container_guard.alert_response). Empty without O(trace_id).
  type: list
  elements: dict
  returned: always
error:
  description: Kind, message and remedy, where the engine did not answer.
  type: dict
  returned: failure
"""

from ansible_collections.ironpost.container_guard.plugins.module_utils._module.isolation_info import main

if __name__ == "__main__":
    main()
