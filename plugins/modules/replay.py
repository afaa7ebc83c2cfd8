#!/usr/bin/python
# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Replay recorded alerts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: replay
short_description: Show what a directory of policies would have done about recorded alerts
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Reads recorded alerts and policies on the controller, and counts for each policy what it would have done, at the
    times of the alerts themselves. No host is connected to, and no container is touched.
  - Isolation, O(ignore:release_after), O(ignore:cooldown), limits and protection count as they do on hosts. An alert
    whose container is isolated already is a repeat.
  - The memory it takes does not grow with the number of alerts. Where a bound was reached, RV(report.notes) says so.
  - Every few seconds a line tells how far it is.
extends_documentation_fragment:
  - ironpost.container_guard.attributes
attributes:
  check_mode:
    support: full
    details:
      - The alerts are replayed all the same. Only O(report) is not written.
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  alerts:
    description:
      - File on the controller with messages of detectors, in any of the shapes that are taken over HTTP, as loggers and
        log shippers write them. It may be compressed with gzip, bzip2, xz or zstd, whatever its name, and be UTF-8 or
        UTF-16. Python older than 3.14 reads zstd where C(backports.zstd) is installed.
      - Prefixes of syslog, C(journalctl), C(docker logs), compose and CRI are passed over. Messages are taken out of
        JSON of the engine, of journald, fluent-bit, Vector, Filebeat, Loki, Splunk and CloudEvents, and put together
        where they were split. An object may go on over lines, and have text before or behind it.
      - What holds no JSON, and a line of more than 10 MiB, is skipped, and JSON that is no alert is refused. Both are
        counted by reason, and a run that found nothing, or skipped more than it read, warns.
      - Paths are absolute, or relative to the directory in which Ansible was started.
    type: path
    required: true
  src:
    description: Directory or file with policies on the controller, as M(ironpost.container_guard.policy_set) takes it.
    type: path
    required: true
  containers:
    description:
      - File on the controller with what is known of the containers beyond the alerts, such as their labels, which few
        detectors tell. Either what C(docker inspect) prints, or a JSON list or JSON lines of objects with C(id),
        C(name), C(image) and C(labels). At most 256 MB.
      - Without it, and for containers that are not in it, an alert that comes to a policy which asks for what is not
        known is counted as undecidable.
    type: path
  host_map:
    description: Host name that the detector says to the inventory name that policies ask for.
    type: dict
    default: {}
  report:
    description: File on the controller for RV(report), as JSON. Its directory exists.
    type: path
requirements:
  - jsonschema and PyYAML on the controller
seealso:
  - module: ironpost.container_guard.policy_set
"""

EXAMPLES = r"""
- name: What would these policies have done yesterday?
  ironpost.container_guard.replay:
    alerts: /var/log/falco/events.json.1.gz
    src: /srv/policies
    containers: /srv/containers.json
  register: replayed
  delegate_to: localhost
  run_once: true

- name: Show it
  ansible.builtin.debug:
    var: replayed.table

- name: Refuse policies that would have isolated more than three containers
  ansible.builtin.assert:
    that: replayed.report.policies | sum(attribute='isolations') <= 3
"""

RETURN = r"""
table:
  description: The report as lines of text, for people.
  type: list
  elements: str
  returned: success
report:
  description: What would have happened.
  type: dict
  returned: success
  contains:
    digest:
      description: Digest of the policy set.
      type: str
    totals:
      description: Numbers of lines and alerts.
      type: dict
      contains:
        lines:
          description: Lines of the file.
          type: int
        skipped:
          description: Lines, or texts in wrappers, that hold no JSON that can be read.
          type: int
        refused:
          description: Messages that are JSON, and no alert.
          type: int
        passed_over:
          description: Messages of detectors that need no answer, such as that an alert is resolved.
          type: int
        alerts:
          description: Alerts. One line can hold several.
          type: int
        answered:
          description: Alerts that came to a policy.
          type: int
        unwanted:
          description: Alerts that came to none.
          type: int
        without_container:
          description: Alerts that name no container, neither by an id nor by a name.
          type: int
        without_time:
          description: Alerts without a readable time. They count at the time of the one before.
          type: int
        out_of_order:
          description: Alerts with a time before that of the one before.
          type: int
    span:
      description: The earliest (C(first)) and latest (C(last)) time of an alert, RFC 3339, or empty, and the
        C(seconds) between them.
      type: dict
    policies:
      description: The policies, in the order in which they are asked.
      type: list
      elements: dict
      contains:
        id:
          description: Id of the policy.
          type: str
        mode:
          description: V(enforce), V(audit) or V(disabled).
          type: str
        approval:
          description: V(stop) or V(kill) where that waits for approval, and the container is only isolated before; else
            empty.
          type: str
        alerts:
          description: Alerts that came to the policy, which is the sum of the following numbers.
          type: int
        isolations:
          description: Alerts about which a container would have been isolated.
          type: int
        repeats:
          description: Alerts about a container that was isolated already.
          type: int
        cooldown:
          description: Alerts that the cooldown of the policy turned down.
          type: int
        limit:
          description: Alerts that the limit of isolations of a host turned down.
          type: int
        protected:
          description: Alerts about protected containers.
          type: int
        audit:
          description: Alerts that a policy in mode V(audit) recorded.
          type: int
        undecidable:
          description: Alerts that the policy might answer. It asks for what is not known of the container, such as the
            tag of its image where the detector tells the repository only, or the alert says nothing about containers,
            and which of its host the policy would reach is known there only.
          type: int
        no_container:
          description: Alerts about the host, or about a container that Docker does not run. They are recorded, and
            nothing is done.
          type: int
        unresolved:
          description: Alerts that mean a container and say neither an id nor a name. They are recorded, and nothing is
            done.
          type: int
        not_simulated:
          description: Alerts about containers beyond the number that is remembered.
          type: int
        containers:
          description: Number of containers that the alerts are about.
          type: int
        sample:
          description: The first of these containers, with C(host), C(id), C(name) and C(image) as far as they are
            known; at most 20.
          type: list
          elements: dict
    unwanted:
      description: The most frequent rules that no policy wants, at most 50, with the C(rule), its C(severity), the
        number of C(alerts), and the policies that came C(nearest) to one of them, with what they lack.
      type: list
      elements: dict
    skipped:
      description: The most frequent reasons to skip lines, at most 50, with the C(reason), the number of C(lines), and
        the number of the first such C(line).
      type: list
      elements: dict
    refused:
      description: The most frequent reasons to refuse messages, at most 50, with the C(reason), their number in
        C(lines), and the number of the first such C(line).
      type: list
      elements: dict
    notes:
      description: What to know when reading the numbers, such as bounds that were reached.
      type: list
      elements: str
error:
  description: What went wrong.
  type: dict
  returned: failure
  contains:
    kind:
      description: V(alerts_missing), V(alerts_unreadable), V(policies_missing), V(policies_invalid),
        V(containers_missing), V(containers_invalid), V(dependency_missing), V(write_failed), V(invalid_option) or
        V(not_on_controller).
      type: str
    message:
      description: What failed.
      type: str
    remedy:
      description: What to do.
      type: str
    findings:
      description: For V(policies_invalid), each problem as M(ironpost.container_guard.policy_set) returns it.
      type: list
      elements: dict
"""

from ansible_collections.ironpost.container_guard.plugins.module_utils._module.replay import main

if __name__ == "__main__":
    main()
