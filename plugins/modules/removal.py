#!/usr/bin/python
# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take the guard off a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: removal
short_description: Take off a host what this collection keeps there
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Removes the policy set, the one before it, what M(ironpost.container_guard.module_archive) put there, and what is
    kept in O(state_dir) and in memory, by the names that this collection gives to its files. Directories are removed
    where nothing else is in them.
  - Fails with the kind V(still_isolated), and removes nothing, where a container is isolated. Without the journal it
    could not be given back.
  - Stop the rulebook before, so that no alert is being answered. The policy set is removed first, and then the journal
    is looked at again.
extends_documentation_fragment:
  - ironpost.container_guard.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: full
options:
  policy_set:
    description:
      - File on the host that M(ironpost.container_guard.policy_set) put in place. What is there and is no policy set,
        or a damaged one, stays, and is among RV(left).
    type: path
    default: /etc/container-guard/policy_set.json
  keep_records:
    description:
      - Leave the action log and the evidence where they are, so that it can be told later what was done. A guard that
        is deployed there again goes on with the same log.
    type: bool
    default: true
  state_dir:
    description: Directory on the host that holds the journal of isolations, the action log and the evidence.
    type: path
    default: /var/lib/container-guard
seealso:
  - module: ironpost.container_guard.isolation
  - module: ironpost.container_guard.isolation_info
"""

EXAMPLES = r"""
- name: Take the guard off this host, and leave its records
  ironpost.container_guard.removal:

- name: Leave nothing at all
  ironpost.container_guard.removal:
    keep_records: false
"""

RETURN = r"""
removed:
  description: Paths that are gone; in check mode those that would be.
  type: list
  elements: str
  returned: success
kept:
  description: Paths of records that stay.
  type: list
  elements: str
  returned: success
left:
  description:
    - Paths in the same directories that this collection did not make, and that stay; and what O(policy_set) names where
      it is no policy set.
  type: list
  elements: str
  returned: success
error:
  description: Kind, message and remedy.
  type: dict
  returned: failure
"""

from ansible_collections.ironpost.container_guard.plugins.module_utils._module.removal import main

if __name__ == "__main__":
    main()
