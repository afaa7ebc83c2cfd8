# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Event filter: makes alerts of what any source receives from detectors."""

from __future__ import annotations

DOCUMENTATION = r"""
---
short_description: Make alerts of what any source receives from detectors
description:
  - "Reads the message of a detector in an event, and makes it the event that the source C(alerts) would have made of
    it, C({alerts: [...], meta: {hosts: [...]}}). A rulebook answers it by the same rule."
  - The message is what the event holds beside C(meta). Where that is nothing but C(payload), as with
    C(eda.builtin.webhook) and the event streams of an EDA controller, or C(body), it is what is in there. It may hold
    many alerts.
  - No text in an event is a template to Ansible. Nothing else of the event is left, neither headers nor hosts that a
    sender wrote into C(meta).
  - An event without any alert is dropped. The log says why, of each reason once a minute, and how many there were.
options:
  config:
    description:
      - Absolute path of a YAML or JSON file of options. It is read again where it was changed, within a second of the
        next event. What cannot be used is logged, and the options before stay.
      - Without it, the path is that in the environment variable E(GUARD_CONFIG). Without that, options are those in the
        environment, in variables called C(GUARD_) and the name in capitals, such as E(GUARD_LOOKUP_HOSTS). Lists stand
        there with commas or as JSON, dictionaries as JSON.
      - ansible-rulebook does not template the arguments of filters, which is why options are no arguments.
    type: path
notes:
  - An alert that was taken by another source than C(alerts) is held in memory and can be lost. There is no spool, no
    receipt and no second try, and each event is a playbook run of its own.
  - "The options in the file: C(hosts), C(host_map), C(lookup_hosts), C(detector), C(severities) and C(body_limit), for
    which see docs/filters.md. Options of the filter C(decide) are ignored."
"""

EXAMPLES = r"""
- name: Answer what an event stream brings
  hosts: all
  sources:
    - eda.builtin.webhook:
        port: 5000
        token: "{{ token }}"
      filters:
        - ironpost.container_guard.normalize:
            config: /etc/container-guard/filters.yml
        - ironpost.container_guard.decide:
            config: /etc/container-guard/filters.yml
  rules:
    - name: Answer the alerts of an event
      condition: event.alerts is defined
      action:
        run_playbook:
          name: ironpost.container_guard.respond
"""

import pathlib
import sys
import typing as t

# The rulebook engine runs this file by its path, outside of any package, so the collection must be made importable. Not
# resolve(): a checkout is reached by a symlink that gives the collection its name.
_COLLECTIONS = str(pathlib.Path(__file__).absolute().parents[7])
if _COLLECTIONS not in sys.path:
    sys.path.append(_COLLECTIONS)

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import filters

# The engine runs this file once for each source, so what is remembered is of one source.
_FILTER = filters.normalize()


def main(event: object, config: object = None, **others: object) -> dict[str, t.Any] | list[dict[str, t.Any]]:
    """The event, or events, of the alerts in a message; an empty list where there is none. Never raises."""
    return _FILTER(event, config, **others)
