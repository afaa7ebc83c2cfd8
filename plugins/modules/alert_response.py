#!/usr/bin/python
# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answer alerts with what the policies say."""

from __future__ import annotations

DOCUMENTATION = r"""
module: alert_response
short_description: Answer alerts with what the policies of this host say
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - For each alert, finds the one container on this host that it means, asks the deployed policy set, and isolates the
    container where a policy says so. Leaves a record of every attempt in the action log.
  - Where the alerts come from an event of the event source, the task tells the source what became of them as soon as
    the host has answered, failed or turned out to be unreachable. In check mode it tells nothing.
  - Where the event says no address for that, the result has it as C(receipts), for the playbook to hand on in the
    artifacts of its job. It is made on the controller; what a host returns by that name is dropped.
  - All alerts are decided before anything is touched. Different containers are then worked on at the same time.
  - An alert that does not mean exactly one container of this host isolates none.
  - An alert of the event source that was answered on this host before gets its first answer, and nothing is done.
  - Where the engine does not answer, alerts that need it are V(failed) and the others are answered.
extends_documentation_fragment:
  - ironpost.container_guard.attributes
  - ironpost.container_guard.engine
  - ironpost.container_guard.engine.retry
  - ironpost.container_guard.engine.state
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - Containers are changed once. Every run adds a record to the action log for each alert that a policy wants.
options:
  alerts:
    description:
      - The alerts, as the event source C(ironpost.container_guard.alerts) emits them, as a detector sends them, or in
        the generic shape. A message that holds several alerts is given as these.
      - An element that is no alert is reported in RV(rejected); the others are answered.
      - Of these, a host is sent those that are about it or about no host that is known, and the first host of the run
        those about hosts that take no part in it.
      - A task need not say them. They are then those in the variable C(guard_alerts), or those of the event of the
        rulebook, read as they were given, as text of alerts is no template.
    type: list
    elements: dict
    required: true
  given:
    description:
      - Whether a person gave the alerts. They have no age then, and those that were answered before are answered anew.
      - A task need not say it. It is V(true) for those in the variable C(guard_alerts).
    type: bool
    default: false
  absent_hosts:
    description:
      - Hosts that alerts are about and that are not in the inventory, or take no part in the run, and which of these.
        The outcome is V(unknown_host) then.
      - A task need not say it.
    type: dict
    default: {}
  host:
    description:
      - Inventory name of this host, which a task need not say. Alerts about other hosts are left to them.
    type: str
    default: ''
  policy_set:
    description:
      - File on the host that M(ironpost.container_guard.policy_set) put in place. Where it does not exist,
        no alert is answered, and the module fails with the kind V(policy_set_missing).
    type: path
    default: /etc/container-guard/policy_set.json
  mode:
    description:
      - V(audit) only records what would be done, whatever the policies say. V(enforce) leaves it to the policy set and
        to each policy. The strictest of the three counts.
    type: str
    default: enforce
  actor:
    description:
      - Who answers, for the records. It is text for people.
      - By default V(rulebook) for alerts that the event source of the collection received.
    type: str
    default: ''
  controller_time:
    description:
      - This moment by the clock of the controller, RFC 3339, such as C(2026-04-05T12:43:02Z). Alerts that
        are older than C(max_alert_age) of the policy set are then V(expired), and isolations are dated by that clock.
      - A task need not say it. Alerts in the variable C(guard_alerts), and those that the event source did not receive,
        have no age.
    type: str
  fail_on_error:
    description:
      - Whether the module fails, with all results, when one of the alerts is none, or ended with an outcome that is not
        green. The page on outcomes says which are.
    type: bool
    default: true
seealso:
  - module: ironpost.container_guard.policy_set
  - module: ironpost.container_guard.isolation
"""

EXAMPLES = r"""
- name: Answer the alerts of a rulebook event
  ironpost.container_guard.alert_response:

- name: What would a Falco alert do here?
  ironpost.container_guard.alert_response:
    alerts:
      - priority: Critical
        rule: Terminal shell in container
        time: "2026-04-05T12:43:02.928967267Z"
        output_fields:
          container.id: 6bc1b4be90d6
  check_mode: true
"""

RETURN = r"""
responses:
  description: One for each alert and container, in the order of the alerts.
  type: list
  elements: dict
  returned: always
  contains:
    decision:
      description: What was decided.
      type: dict
      contains:
        outcome:
          description:
            - V(isolate) is the only one that acts. The page on outcomes says what the others mean. Of an alert that was
              answered before it is the first outcome.
          type: str
        policy_id:
          description: The policy that answers, or empty.
          type: str
        container:
          description: Id, name and image, or V(none).
          type: dict
        actions:
          description: What the policy does.
          type: list
          elements: dict
        fallback:
          description: What is done instead where none of the actions can work on the container.
          type: list
          elements: dict
        evidence:
          description: What the policy wants collected. Kinds are text, archives a mapping with C(type) and C(paths).
          type: list
          elements: raw
        release_after:
          description: Seconds until the container is to be released, V(0) for never.
          type: int
        reasons:
          description: Why; for V(no_policy), what the nearest policies missed.
          type: list
          elements: str
        alert_id:
          description: Id of the alert.
          type: str
        trace_id:
          description: Trace id of the alert.
          type: str
    event:
      description: The record in the action log, or V(none).
      type: dict
      contains:
        id:
          description: Id of the record.
          type: str
        time:
          description: When the record was made, RFC 3339.
          type: str
        outcome:
          description: As in M(ironpost.container_guard.isolation), or the outcome of a decision that does not act.
          type: str
        changed:
          description: Whether something was changed.
          type: bool
        trace_id:
          description: Trace id of the alert.
          type: str
        alert_id:
          description: Id of the alert.
          type: str
        policy_id:
          description: The policy.
          type: str
        source:
          description: The detector.
          type: str
        rule:
          description: The rule of the detector.
          type: str
        actor:
          description: Who asked for it, as he says. Empty where nobody said.
          type: str
        count:
          description: For how many alerts the record stands.
          type: int
        intended:
          description: Id of the line of the action log that was written before acting, or empty.
          type: str
        host:
          description: Inventory name.
          type: str
        container:
          description: Id, name and image.
          type: dict
        actions:
          description: What was asked for.
          type: list
          elements: dict
        steps:
          description: As in M(ironpost.container_guard.isolation).
          type: list
          elements: dict
        before:
          description: State before.
          type: dict
        after:
          description: State afterwards.
          type: dict
        error:
          description: Kind, message and remedy, or V(none).
          type: dict
        warnings:
          description: What the reader should know although it worked.
          type: list
          elements: str
        reasons:
          description: Why.
          type: list
          elements: str
        timeline:
          description: When it was V(accepted), V(decided), V(acted) and V(verified), RFC 3339.
          type: dict
        evidence:
          description: V(none); see RV(evidence_wanted).
          type: dict
        approval:
          description:
            - What the policy wants beyond the isolation, and waits for somebody to approve of, or did. C(action) is
              V(stop) or V(kill), C(until) when the wish lapses, C(decision) V(approved), V(refused) or empty, C(actor)
              who decided and C(decided_at) when; C(policy_id), C(trace_id) of the alert, and C(grace) of a stop.
            - Else V(none).
          type: dict
        repeat_of:
          description: Id of the record that acted for another alert of this run on the same container, or empty.
          type: str
evidence_wanted:
  description:
    - The evidence that policies want of the containers that were acted on, for the option C(wanted) of
      M(ironpost.container_guard.evidence) in a task that follows. It may take long, and neither the answer nor another
      alert about this host is to wait for it.
    - Only what goes with the processes is taken by this module, before they are ended.
  type: list
  elements: dict
  returned: always
  contains:
    container:
      description: Id, name and image.
      type: dict
    collect:
      description: Kinds of evidence.
      type: list
      elements: str
    paths:
      description: Paths to archive.
      type: list
      elements: str
    case:
      description: Id of the case that was begun before the processes were ended, or empty.
      type: str
    action_event:
      description: Id of the record of the action that it is collected for.
      type: str
    reason:
      description: Why.
      type: str
    trace_id:
      description: Trace id of the alert.
      type: str
    alert_id:
      description: Id of the alert.
      type: str
    policy_id:
      description: The policy.
      type: str
answered_at:
  description: When the module was done, by the clock of the host, RFC 3339.
  type: str
  returned: always
outcomes:
  description: What became of each alert, in short. The same alerts as in RV(responses), in the same order.
  type: list
  elements: dict
  returned: always
  contains:
    alert_id:
      description: Id of the alert.
      type: str
    trace_id:
      description: Trace id of the alert.
      type: str
    container:
      description: Id and name, or V(none).
      type: dict
    policy_id:
      description: The policy that answers, or empty.
      type: str
    outcome:
      description: The outcome of the attempt, or of the decision where none was made.
      type: str
    check_mode:
      description: Whether it is only what would be.
      type: bool
    record_id:
      description: Id of its record in the action log. Empty where it has none, or is counted in that of an earlier one.
      type: str
rejected:
  description: Elements of O(alerts) that are no alerts, with their index in the whole list, and kind and message of the
    error.
  type: list
  elements: dict
  returned: always
summary:
  description: How many decisions and how many outcomes of each kind.
  type: dict
  returned: always
  sample: {decisions: {isolate: 2, no_policy: 1}, outcomes: {isolated: 2}}
policy_set_digest:
  description: Digest of the policy set that decided; empty where there is none that can be used.
  type: str
  returned: always
error:
  description: Kind, message and remedy of the first alert that was not answered, or where the module could not record.
  type: dict
  returned: failure
"""

from ansible_collections.ironpost.container_guard.plugins.module_utils._module.alert_response import main

if __name__ == "__main__":
    main()
