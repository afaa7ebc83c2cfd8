#!/usr/bin/python
# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploy a policy set."""

from __future__ import annotations

DOCUMENTATION = r"""
module: policy_set
short_description: Validate a directory of policies and put it in place on hosts
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Reads the policies of a directory on the controller, validates all of them, and compiles them to one canonical file
    with a digest. Hosts receive that file by an atomic rename.
  - Every problem in the directory is reported at once. Of a bad directory nothing is deployed, and what was deployed
    before stays.
  - Policy tests in the folder C(tests) of the directory are run on the controller first. Where one fails, nothing is
    deployed.
  - What was deployed before is kept beside the file, with C(.previous) behind its name, and can be rolled back to.
  - Policies need no service to be reloaded; the next alert is answered by the new set.
extends_documentation_fragment:
  - ironpost.container_guard.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  src:
    description:
      - Directory or file on the controller, absolute, or relative to the C(files) of the role or to the playbook.
      - Files ending in C(.yml), C(.yaml), C(.json) and C(.toml) are read, at most 10 MB each and 1,000 policies in all.
        Hidden files and subdirectories are not, except for the policy tests in C(tests).
      - Required with O(state=deployed), and not used with O(state=rolled_back).
    type: path
  path:
    description: File on the host.
    type: path
    default: /etc/container-guard/policy_set.json
    aliases: [dest]
  state:
    description:
      - V(deployed) puts the policies of O(src) in place. Where an equal set is deployed already, nothing changes,
        not even the names of its files and its time.
      - V(rolled_back) puts that set in place which the last deployment replaced. A second run changes nothing. The set
        that is given up is not kept on the host; to go forward again, deploy it.
    type: str
    choices: [deployed, rolled_back]
    default: deployed
  source_path:
    description:
      - File on the controller, absolute or relative to the directory of the run, that is given the compiled set before
        any host is, or goes back to the one before as the hosts do. For the option C(policy_set) of the event source,
        which drops early what no policy wants.
      - It is written by the user who runs ansible-playbook, and may be read by all.
    type: path
  compiled:
    description: Set by the action plugin. Leave it out.
    type: str
requirements:
  - jsonschema and PyYAML on the controller
  - Python 3.8 or newer on the host; ansible-core from 2.20 on wants 3.9 or newer there
seealso:
  - module: ironpost.container_guard.policy_set_info
  - module: ironpost.container_guard.alert_response
"""

EXAMPLES = r"""
- name: Deploy the policies
  ironpost.container_guard.policy_set:
    src: policies/
  register: deployed

- name: See what would change
  ironpost.container_guard.policy_set:
    src: policies/
  check_mode: true
  diff: true

- name: Go back to the policies before the last deployment
  ironpost.container_guard.policy_set:
    state: rolled_back
"""

RETURN = r"""
digest:
  description: Digest of the policy set. Equal policies have equal digests, whatever files they stand in.
  type: str
  returned: success
  sample: sha256:6deb6ee2b0229a44fd6df67baef5e5c226f3e876812243040ddc873c266b2a65
previous_digest:
  description: Digest of what was deployed before this run, or empty.
  type: str
  returned: success
deployed_at:
  description: When the set was put in place on this host, RFC 3339. Empty where that would only be done.
  type: str
  returned: success
path:
  description: File on the host.
  type: str
  returned: success
source_changed:
  description: Whether the file at O(source_path) was another one before.
  type: bool
  returned: success with O(source_path)
policies:
  description: Ids of the policies, in the order in which they are asked.
  type: list
  elements: str
  returned: success
added:
  description: Ids of policies that were not deployed before.
  type: list
  elements: str
  returned: success
removed:
  description: Ids of policies that are no longer deployed.
  type: list
  elements: str
  returned: success
modified:
  description: Ids of policies that changed.
  type: list
  elements: str
  returned: success
tests:
  description: The policy tests.
  type: dict
  returned: success with O(state=deployed)
  contains:
    passed:
      description: How many there are, all of which passed.
      type: int
error:
  description: What went wrong.
  type: dict
  returned: failure
  contains:
    kind:
      description: V(policies_invalid), V(policies_missing), V(policy_tests_failed), V(dependency_missing),
        V(no_previous), V(policy_set_damaged), V(write_failed) or V(invalid_option).
      type: str
    message:
      description: What failed, with every problem on a line.
      type: str
    remedy:
      description: What to do.
      type: str
    findings:
      description: For V(policies_invalid), each problem with file, line and column where known, policy_id, message,
        hint and level.
      type: list
      elements: dict
    failures:
      description: For V(policy_tests_failed), each failing case with file, case, expected, actual and reasons.
      type: list
      elements: dict
"""

from ansible_collections.ironpost.container_guard.plugins.module_utils._module.policy_set import main

if __name__ == "__main__":
    main()
