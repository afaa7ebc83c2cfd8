#!/usr/bin/python
# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host lacks for the guard to act on it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_info
short_description: What a host lacks for the guard to act on it, and the command that mends it
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Looks at the Python and the docker SDK of a host, its Docker engine, the state directory, the policy set and the
    clock, and changes nothing.
  - What is missing is no failure of the module. RV(ready) says whether anything is.
  - The playbook C(ironpost.container_guard.preflight) asks all hosts, and tells it in one table.
extends_documentation_fragment:
  - ironpost.container_guard.attributes
  - ironpost.container_guard.attributes.info
  - ironpost.container_guard.engine
  - ironpost.container_guard.engine.state
options:
  policy_set:
    description: File of the policy set on the host.
    type: path
    default: /etc/container-guard/policy_set.json
    aliases: [path]
notes:
  - It asks the engine for C(/version) and C(/info) alone. Where a socket proxy refuses the latter, it is not known
    whether live-restore is on.
seealso:
  - module: ironpost.container_guard.policy_set_info
  - module: ironpost.container_guard.isolation_info
"""

EXAMPLES = r"""
- name: See what is missing
  ironpost.container_guard.preflight_info:
  register: preflight

- name: Say so
  ansible.builtin.assert:
    that: preflight.ready
    fail_msg: "{{ preflight.checks | selectattr('problem') | map(attribute='remedy') }}"
"""

RETURN = r"""
ready:
  description: Whether nothing is missing that the guard needs here.
  type: bool
  returned: success
checks:
  description: What was looked at.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description:
        - V(python), V(user), V(sdk), V(engine), V(live_restore), V(state_dir), V(space), V(policy_set) or V(clock).
      type: str
    found:
      description: What is there, in a few words.
      type: str
    state:
      description: V(ok), V(warning), V(missing), or V(unknown) where something else that is missing kept from asking.
      type: str
    problem:
      description: What is wrong with it, a word that is stable over releases; empty where nothing is.
      type: str
    what:
      description: The same for people.
      type: str
    remedy:
      description:
        - The command that mends it, or what to do. It is made on the controller, and holds nothing that the host
          said but names and paths that were checked.
      type: str
    detail:
      description: What the host says of it beyond that. A host that somebody took over says what it likes.
      type: str
policy_set_digest:
  description: Digest of the policy set that is deployed, or empty.
  type: str
  returned: success
python:
  description: Path of the Python that runs modules there.
  type: str
  returned: success
package_manager:
  description:
    - What installs packages for that Python, V(apt), V(dnf), V(zypper), V(apk) or V(pacman). Empty where it is not the
      Python of the distribution.
  type: str
  returned: success
package:
  description: The package of the distribution that has the docker SDK for that Python, or empty.
  type: str
  returned: success
user:
  description: Name of the user as whom modules run.
  type: str
  returned: success
uid:
  description: Its number.
  type: int
  returned: success
time:
  description: The time there, RFC 3339.
  type: str
  returned: success
error:
  description: Kind, message and remedy.
  type: dict
  returned: failure
"""

from ansible_collections.ironpost.container_guard.plugins.module_utils._module.preflight_info import main

if __name__ == "__main__":
    main()
