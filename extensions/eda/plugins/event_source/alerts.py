# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Event source: takes alerts of runtime detectors over HTTP."""

from __future__ import annotations

DOCUMENTATION = r"""
---
short_description: Take alerts of runtime detectors over HTTP
description:
  - Listens for alerts about containers, in the format of Falco or in the generic one, and gathers them into events.
    A burst of alerts is one event, and so one playbook run on the hosts concerned.
  - "C(POST /alerts) and C(POST /alerts/PATH_TOKEN) take one alert, or an array of them, as JSON; a body may be
    compressed with C(Content-Encoding). The answer is 202 with the ids of the alerts, or an error as JSON that says
    what to do. C(GET /healthz) answers counters to everybody."
  - "An event is C({alerts: [...], meta: {hosts: [...]}}). RV(ignore:alerts) holds normalised alerts, whose
    C(inventory_host) is set where the host is known. RV(ignore:meta.hosts) holds the inventory hosts concerned, to
    which the engine limits a playbook run."
  - No text in an event is a template to Ansible, whatever a detector sent, so a playbook may use every field. The
    message as received is in C(raw), as base64.
options:
  host:
    description:
      - Address to listen on.
      - The default takes alerts of this machine only, as exposing a listener should be a decision. Use V(0.0.0.0), or
        better the address of one interface, for detectors on other hosts, together with O(certfile). Plain HTTP on an
        address that is not loopback is logged as a warning.
    type: str
    default: 127.0.0.1
  port:
    description: TCP port to listen on, 0 to 65535. With 0 the system chooses one, which the log tells.
    type: int
    default: 5000
  token:
    description:
      - "Senders must show this in a header, C(Authorization: Bearer TOKEN)."
      - At least 16 characters, visible ASCII only. A text that reads as a number is refused, since templating would
        turn it into one.
      - At least one of O(token), O(path_token) and O(cafile) must be set. With O(token) and O(path_token), either of
        them is enough.
    type: str
  path_token:
    description:
      - Senders must post to C(/alerts/PATH_TOKEN). For detectors that can send no header, such as Falco.
      - At least 16 characters, letters, digits, C(-), C(.), C(_) and C(~) only. Use it with O(certfile), as it is part
        of the address.
    type: str
  certfile:
    description: PEM file with the certificate chain of this listener. Enables TLS.
    type: path
  keyfile:
    description: PEM file with the private key, without a password. Not needed where O(certfile) holds the key.
    type: path
  cafile:
    description:
      - PEM file with certificate authorities. Enables mutual TLS, senders need a certificate of one of them, for
        C(/healthz) too.
      - It is required in addition to O(token) and O(path_token) where these are set, and is enough where they are not.
    type: path
  body_limit:
    description: Largest body of a request in bytes, after decompression, 1024 to 10485760.
    type: int
    default: 1048576
  read_timeout:
    description: Longest time for the body of a request to arrive in seconds, 1 to 60.
    type: float
    default: 10
  batch_window:
    description:
      - Longest time that an alert waits for company in seconds, 0 to 10.
      - An event leaves earlier when no alert arrived for an eighth of it, so a lone alert waits 25 ms by default.
    type: float
    default: 0.2
  batch_interval:
    description:
      - Least time between two events in seconds, 0 to 3600, so that a storm is one playbook run a second rather than
        one an alert. The first event after a quiet time leaves without it.
    type: float
    default: 1
  batch_max:
    description:
      - Most alerts in one event, 1 to 10000. What is more leaves in the next event.
      - O(batch_max) alerts each O(batch_interval) is what the source can pass on for long.
    type: int
    default: 500
  queue_max:
    description:
      - Most alerts held in memory, 1 to 1000000. An alert takes up to about 90 KB there, and seldom more than a few.
    type: int
    default: 10000
  hosts:
    description: Inventory names that detectors use as they are.
    type: list
    elements: str
    default: []
  host_map:
    description:
      - Host name as a detector says it, to inventory name. Falco in a container says the id of its own container unless
        C(FALCO_HOSTNAME) is set.
    type: dict
    default: {}
  lookup_hosts:
    description:
      - Inventory hosts or groups that are asked about an alert whose host is in neither O(hosts) nor O(host_map). They
        are added to the hosts of the event that holds it.
      - An empty list drops such alerts. They are logged, counted in C(/healthz), and missing in the answer.
    type: list
    elements: str
    default: [all]
notes:
  - "A request is taken as a whole or not at all. One bad element of an array refuses all of it with 400, and the
    message names the element. Where not all alerts of a request fit into O(queue_max), none is taken, and the answer is
    503 with C(Retry-After)."
  - "202 means held in memory. While the rule engine is busy, alerts wait there, up to O(queue_max). A shutdown answers
    503 to new requests and gives the engine one second to take what waits; what it did not take is lost, and the log
    says how many alerts that were. An engine that is killed loses what waits."
  - A failure to hand an event to the engine ends the source, and with it the rulebook, rather than to go on taking
    alerts that nobody answers.
"""

EXAMPLES = r"""
# Falco on the Docker hosts web-1 and web-2 posts to https://guard.example.com:5000/alerts/PATH_TOKEN
- ironpost.container_guard.alerts:
    host: 0.0.0.0
    certfile: /etc/container-guard/tls.crt
    keyfile: /etc/container-guard/tls.key
    path_token: "{{ guard_path_token }}"
    hosts: [web-1, web-2]
    host_map:
      054aab939018: web-3

# A relay on the same machine posts generic alerts. Alerts of hosts that nobody knows are dropped.
- ironpost.container_guard.alerts:
    token: "{{ guard_token }}"
    hosts: "{{ guard_hosts }}"
    lookup_hosts: []
"""

import pathlib
import sys
import typing as t

# The rulebook engine runs this file by its path, outside of any package, so the collection must be made importable. Not
# resolve(): a checkout is reached by a symlink that gives the collection its name.
_COLLECTIONS = str(pathlib.Path(__file__).absolute().parents[7])
if _COLLECTIONS not in sys.path:
    sys.path.append(_COLLECTIONS)

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import parse_options
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.server import EventQueue, serve


async def main(queue: EventQueue, args: dict[str, t.Any]) -> None:
    """Take alerts until cancelled. Raises ValueError for bad options, OSError where the port cannot be listened on."""
    await serve(queue, parse_options(args))
