#!/usr/bin/python
# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What would be decided about alerts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: decision_info
short_description: What the policies of this host say about alerts, without acting
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - For each alert, finds the containers that it means, as M(ironpost.container_guard.alert_response) does, and asks the
    deployed policy set. Touches no container and leaves no record.
  - Decides by the containers of this host, or by given ones, which need not exist and for which no Docker engine is
    asked. Nor is one asked where the alerts are about other hosts, or no policy wants them.
  - What the guard did before does not count. A cooldown or C(limits.max_isolations_per_window) may keep
    M(ironpost.container_guard.alert_response) from an isolation that this module shows.
extends_documentation_fragment:
  - ironpost.container_guard.attributes
  - ironpost.container_guard.attributes.info
  - ironpost.container_guard.engine
  - ironpost.container_guard.engine.state
options:
  alerts:
    description:
      - The alerts, as O(ironpost.container_guard.alert_response#module:alerts) takes them.
      - An element that is no alert is reported in RV(rejected); the others are decided.
    type: list
    elements: dict
    required: true
  host:
    description:
      - Inventory name of this host. Alerts about other hosts are left to them.
      - Without it, only alerts that name their container by id find one, as a name says nothing across hosts.
      - Required with O(containers). An alert that does not say its inventory host is then taken to be about this one.
    type: str
    default: ''
  policy_set:
    description:
      - File on the host that M(ironpost.container_guard.policy_set) put in place. Where it does not exist,
        the module fails with the kind V(policy_set_missing).
    type: path
    default: /etc/container-guard/policy_set.json
  now:
    description:
      - Decide as if it were this moment by the clock of the controller, RFC 3339. Alerts that are older by then than
        C(limits.max_alert_age) of the policy set are V(expired).
      - Without it, alerts have no age.
    type: str
    default: ''
  containers:
    description: Decide as if these were the containers of the host.
    type: list
    elements: dict
    suboptions:
      name:
        description: Name, without the slash. Unique.
        type: str
        required: true
      image:
        description: Image reference.
        type: str
        default: ''
      labels:
        description: Labels, key to value.
        type: dict
        default: {}
      id:
        description: Full id, or as many digits of it as the alerts have, from 12 on. Without it, no alert can mean the
          container by its id.
        type: str
seealso:
  - module: ironpost.container_guard.alert_response
  - module: ironpost.container_guard.policy_set_info
"""

EXAMPLES = r"""
- name: Would the policies here answer this alert?
  ironpost.container_guard.decision_info:
    host: "{{ inventory_hostname }}"
    alerts:
      - source: falco
        rule: Terminal shell in container
        severity: critical
        inventory_host: "{{ inventory_hostname }}"
        container: {name: web-1}
  register: would

- name: See why, or why not
  ansible.builtin.debug:
    var: would.decisions[0].reasons

- name: And if it were another container?
  ironpost.container_guard.decision_info:
    host: "{{ inventory_hostname }}"
    alerts:
      - {source: falco, rule: Terminal shell in container, severity: critical, container: {name: db-1}}
    containers:
      - name: db-1
        image: postgres:16
        labels: {env: prod}
"""

RETURN = r"""
decisions:
  description: One for each alert, and for each container that it reaches, in the order of the alerts.
  type: list
  elements: dict
  returned: success
  contains:
    alert:
      description: Index of the alert in O(alerts), from 0.
      type: int
    outcome:
      description:
        - V(isolate) is the only one that would act. V(audit) is by a policy, or a policy set, in that mode.
        - V(protected), V(muted), V(too_many_matches), V(ambiguous), V(stale), V(unresolved) and V(expired) would keep
          the guard from acting; the reasons name the mute. V(failed) is about a container that the engine does not tell
          of.
        - V(no_policy), V(other_host), V(gone) and V(no_container), which is about the host or a container that Docker
          does not run, ask for nothing here.
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
      description: Seconds until the container is to be released; V(0) for never.
      type: int
    reasons:
      description:
        - The conditions of the policy that were met. For V(no_policy), the policies that come closest, each with the
          conditions that were not met.
      type: list
      elements: str
    alert_id:
      description: Id of the alert.
      type: str
    trace_id:
      description: Trace id of the alert.
      type: str
rejected:
  description: Elements of O(alerts) that are no alerts, with their index, and kind and message of the error.
  type: list
  elements: dict
  returned: success
summary:
  description: How many decisions of each outcome.
  type: dict
  returned: success
  sample: {isolate: 2, no_policy: 1}
policy_set_digest:
  description: Digest of the policy set that decided.
  type: str
  returned: success
error:
  description: Kind, message and remedy.
  type: dict
  returned: failure
"""

from ansible_collections.ironpost.container_guard.plugins.module_utils._module.decision_info import main

if __name__ == "__main__":
    main()
