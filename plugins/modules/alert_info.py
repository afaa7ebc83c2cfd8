#!/usr/bin/python
# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What became of an alert."""

from __future__ import annotations

DOCUMENTATION = r"""
module: alert_info
short_description: What became of an alert, by the spool of the event source
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Reads on the controller what the event source C(ironpost.container_guard.alerts) knows of an alert that it accepted,
    whether it waits, was answered, or was not. The source may be running. No host is connected to.
  - Alerts that ended are forgotten after C(history_days) of the source. One that was folded into an earlier one is
    known by the trace id of that, which the answer to its sender named.
extends_documentation_fragment:
  - ironpost.container_guard.attributes
  - ironpost.container_guard.attributes.info
options:
  trace_id:
    description: Trace id of the alert, as the source answered it to the sender and as it is in every record.
    type: str
    required: true
  spool:
    description:
      - Directory of the spool, as the option C(spool) of the event source. Only the user that runs the source, and
        root, may read it.
      - By default C(container-guard/spool) in C($XDG_STATE_HOME), which is C(~/.local/state) unless it is set.
    type: path
seealso:
  - module: ironpost.container_guard.isolation_info
"""

EXAMPLES = r"""
- name: What became of it?
  ironpost.container_guard.alert_info:
    trace_id: 5a1f7c52-0c5e-4a54-9a3e-6a8d1b9f4c77
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
found:
  description: Whether the source knows the alert.
  type: bool
  returned: success
state:
  description: V(waiting), V(answered), V(unanswered), or V(handed_over) where no receipts are sent; empty if not found.
  type: str
  returned: success
outcome:
  description: What became of it, as the page on outcomes says; empty while it waits.
  type: str
  returned: success
received_at:
  description: When it was accepted, RFC 3339.
  type: str
  returned: success
ended_at:
  description: When it was answered, or told as unanswered, RFC 3339; empty while it waits.
  type: str
  returned: success
folded:
  description: How many repeats were folded into it.
  type: int
  returned: success
hosts:
  description:
    - For each host that is to answer, C(outcome), C(policy_id), C(record_id), C(container), C(milliseconds),
      C(attempts) and C(why), as far as they are known.
  type: dict
  returned: success
alert:
  description: The alert, as in events of the source, without the message as received.
  type: dict
  returned: success
error:
  description: Kind, message and remedy.
  type: dict
  returned: failure
"""

from ansible_collections.ironpost.container_guard.plugins.module_utils._module.alert_info import main

if __name__ == "__main__":
    main()
