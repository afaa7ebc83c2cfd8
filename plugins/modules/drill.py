#!/usr/bin/python
# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A victim, and an alert about it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: drill
short_description: Make a harmless container and raise an alert about it, to see that it is isolated
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Makes a container on the host that only sleeps, and posts an alert about it, from the controller, to the event
    source. Whether it is isolated is seen with M(ironpost.container_guard.isolation_info). The playbook
    C(ironpost.container_guard.drill) does all of that.
  - The container is called C(container-guard-drill-...) and has the label C(container-guard.drill=true). It runs
    C(sleep) as nobody, without capabilities, in a file system that it cannot write, publishes no port, and ends by
    itself.
  - The alert has the source C(container-guard), the rule C(container-guard drill) and the severity V(high). A policy
    has to want it.
  - Only containers that this module made are removed by it.
extends_documentation_fragment:
  - ironpost.container_guard.attributes
  - ironpost.container_guard.engine
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: none
options:
  state:
    description:
      - V(present) makes a container, and posts the alert where O(url) says where to.
      - V(absent) removes it, and those that earlier drills left behind more than an hour ago.
    type: str
    choices: [present, absent]
    default: present
  container:
    description: Full id of the container to remove. Required with O(state=absent).
    type: str
  image:
    description:
      - Image that the host has, and in which there is a program C(sleep). Nothing is pulled.
      - Without it, ten of the images of the host are tried, the smallest first.
    type: str
    default: ''
  lifetime:
    description: Seconds after which the container ends by itself, from V(60) to V(3600).
    type: int
    default: 600
  host:
    description: How the alert names its host. By default its name in the inventory.
    type: str
    default: ''
  url:
    description:
      - Where the event source takes alerts, such as C(https://guard.example.com:5000/alerts); with a secret path, where
        senders use one. Connected to from the controller, without proxies.
    type: str
  token:
    description: Token of the event source. It is not sent to the host.
    type: str
  cafile:
    description: File on the controller with the authorities of the event source. By default those of the system.
    type: path
  certfile:
    description: File on the controller with a client certificate, where the event source wants one.
    type: path
  keyfile:
    description: File on the controller with its key.
    type: path
seealso:
  - module: ironpost.container_guard.isolation_info
  - module: ironpost.container_guard.decision_info
notes:
  - "A socket proxy must let through, besides: C(POST) C(/containers/create), C(DELETE) C(/containers/{id}) and, without
    O(image), C(GET) C(/images/json)."
"""

EXAMPLES = r"""
- name: Raise an alert about a container that was made for it
  ironpost.container_guard.drill:
    image: busybox:1.36
    url: https://guard.example.com:5000/alerts
    token: "{{ vault_guard_token }}"
  register: victim

- name: Remove it
  ironpost.container_guard.drill:
    state: absent
    container: "{{ victim.container.id }}"
"""

RETURN = r"""
container:
  description: The container that was made; empty where none was.
  type: dict
  returned: always
  contains:
    id:
      description: Full id.
      type: str
    name:
      description: Name.
      type: str
    image:
      description: Image.
      type: str
removed:
  description: Ids and names of containers that were removed.
  type: list
  elements: str
  returned: success
time:
  description: When that was, by the clock of the host, RFC 3339.
  type: str
  returned: success
alert:
  description: The alert, as it was posted.
  type: dict
  returned: with O(url)
trace_id:
  description: Trace id of the alert, as the event source answered it.
  type: str
  returned: with O(url), when the alert was accepted
posted_at:
  description: When the alert was posted, by the clock of the controller, RFC 3339.
  type: str
  returned: with O(url)
clock_ahead:
  description: Milliseconds by which the clock of the host is ahead of that of the controller, as far as that is known.
  type: int
  returned: with O(url)
error:
  description: Kind, message and remedy. V(no_victim) means that no container could be made, V(alert_not_taken) that the
    event source did not take the alert.
  type: dict
  returned: failure
"""

from ansible_collections.ironpost.container_guard.plugins.module_utils._module.drill import main

if __name__ == "__main__":
    main()
