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
        Hidden files and subdirectories are not.
    type: path
    required: true
  path:
    description: File on the host.
    type: path
    default: /etc/container-guard/policy_set.json
    aliases: [dest]
  compiled:
    description: Set by the action plugin. Leave it out.
    type: str
requirements:
  - jsonschema and PyYAML on the controller
  - Python 3.8 or newer on the host
seealso:
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
"""

RETURN = r"""
digest:
  description: Digest of the policy set. Equal policies have equal digests, whatever files they stand in.
  type: str
  returned: success
  sample: sha256:6deb6ee2b0229a44fd6df67baef5e5c226f3e876812243040ddc873c266b2a65
previous_digest:
  description: Digest of what was deployed before, or empty.
  type: str
  returned: success
path:
  description: File on the host.
  type: str
  returned: success
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
error:
  description: What went wrong.
  type: dict
  returned: failure
  contains:
    kind:
      description: V(policies_invalid), V(policies_missing), V(dependency_missing), V(write_failed) or
        V(invalid_option).
      type: str
    message:
      description: What failed, with every problem on a line.
      type: str
    remedy:
      description: What to do.
      type: str
    findings:
      description: For V(policies_invalid), each problem with file, line where known, policy_id, message, hint and
        level.
      type: list
      elements: dict
"""

from ansible_collections.ironpost.container_guard.plugins.module_utils._module.policy_set import main

if __name__ == "__main__":
    main()
