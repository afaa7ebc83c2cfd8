# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Event filter: drops alerts that no policy wants, and repeats."""

from __future__ import annotations

DOCUMENTATION = r"""
---
short_description: Drop alerts that no policy wants, and repeats
description:
  - Drops alerts that no policy could want whatever container they are about, and repeats of an alert within a time, so
    that they cost no playbook run. What is left of an event is passed on.
  - It belongs behind the filter C(normalize). An event that is not of that filter is normalised first, by the same
    options.
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
  - "The options in the file: those of C(normalize), and C(policy_set), C(policy_set_confirmed_for) and C(fold_window),
    for which see docs/filters.md."
  - There are no receipts, so which policy set a host has is not known. The set in C(policy_set) is taken for that of
    all hosts, beside the one that it replaced, for C(policy_set_confirmed_for) seconds.
"""

EXAMPLES = r"""
- name: Answer what an event stream brings
  hosts: all
  sources:
    - eda.builtin.pg_listener:
        dsn: "{{ dsn }}"
        channels: [alerts]
      filters:
        # Both take their options from the environment.
        - ironpost.container_guard.normalize:
        - ironpost.container_guard.decide:
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
_FILTER = filters.decide()


def main(event: object, config: object = None, **others: object) -> dict[str, t.Any] | list[dict[str, t.Any]]:
    """The event, or events, of the alerts that are worth an answer; an empty list where none is. Never raises."""
    return _FILTER(event, config, **others)
