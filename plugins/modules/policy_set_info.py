#!/usr/bin/python
# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which policy set is deployed on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: policy_set_info
short_description: Which policies are deployed here, since when, and from which files
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Reads the policy set that M(ironpost.container_guard.policy_set) put in place on a host, and checks that it was not
    changed since.
  - Where none is deployed, the module says so and does not fail. Where one was changed or is not whole, it fails with
    the kind V(policy_set_damaged).
extends_documentation_fragment:
  - ironpost.container_guard.attributes
  - ironpost.container_guard.attributes.info
options:
  path:
    description: File on the host.
    type: path
    default: /etc/container-guard/policy_set.json
    aliases: [policy_set]
requirements:
  - Python 3.8 or newer on the host; ansible-core from 2.20 on wants 3.9 or newer there
seealso:
  - module: ironpost.container_guard.policy_set
  - module: ironpost.container_guard.decision_info
"""

EXAMPLES = r"""
- name: Look at what is deployed
  ironpost.container_guard.policy_set_info:
  register: deployed

- name: Make sure that the whole fleet has the same policies
  ansible.builtin.assert:
    that: deployed.digest == hostvars[ansible_play_hosts[0]].deployed.digest
"""

RETURN = r"""
deployed:
  description: Whether a policy set is deployed.
  type: bool
  returned: success
path:
  description: File on the host.
  type: str
  returned: success
previous:
  description:
    - Digest of the set that a rollback would put in place, or V(none). After a rollback, that of the deployed one.
  type: str
  returned: success
digest:
  description: Digest of the policy set. Equal policies have equal digests, whatever files they stand in.
  type: str
  returned: when RV(deployed)
policies:
  description: The policies with all their keys, in the order in which they are asked.
  type: list
  elements: dict
  returned: when RV(deployed)
protect:
  description: What is never isolated.
  type: dict
  returned: when RV(deployed)
limits:
  description: How much the guard may do by itself. What is left at its default may be missing.
  type: dict
  returned: when RV(deployed)
mode:
  description: V(audit) where no policy of the set acts, whatever its own mode; else V(enforce).
  type: str
  returned: when RV(deployed)
deployed_at:
  description: When the set was put in place, RFC 3339.
  type: str
  returned: when RV(deployed)
files:
  description:
    - Names of the files on the controller that it was compiled from. Unlike everything that decides, they and
      RV(deployed_at) are not covered by the digest.
  type: list
  elements: str
  returned: when RV(deployed)
error:
  description: Kind, message and remedy.
  type: dict
  returned: failure
"""

from ansible_collections.ironpost.container_guard.plugins.module_utils._module.policy_set_info import main

if __name__ == "__main__":
    main()
