#!/usr/bin/python
# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring evidence to the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: evidence_fetch
short_description: Bring the evidence of a container to the controller, and verify it there
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - Packs a case that M(ironpost.container_guard.evidence) has collected on the host, fetches it, unpacks it on the
    controller, and verifies it there. The case on the host stays.
  - Only packing needs the rights of C(become). On the controller, everything is done by the user who runs Ansible,
    whatever C(ansible_become) says. On the way, the case is in a temporary file of the user who logs in.
  - A host is not trusted. Only plain files whose names cannot lead elsewhere are unpacked, into a directory that did
    not exist before.
extends_documentation_fragment:
  - ironpost.container_guard.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - A case is brought once; a second time it exists already, which is an error.
options:
  case_id:
    description: Name of the case.
    type: str
    required: true
  directory:
    description: Directory of the case on the host.
    type: str
    required: true
  manifest_sha256:
    description: SHA-256 of its manifest, as returned when it was collected.
    type: str
    required: true
  dest:
    description:
      - Directory on the controller, absolute or relative to where Ansible runs. The case comes to O(case_id) in it.
      - In a job of AWX this is the container of the execution environment, and what is below C(/runner) is deleted with
        the job. Say a path that is mounted there, or O(url). Otherwise a warning says so.
    type: path
    required: true
  url:
    description:
      - Where each file of the case is put by HTTP as well, once it is verified, as C(URL/CASE/FILE); the manifest comes
        last. Neither proxies nor redirects are followed.
      - Begins with C(https://) or C(http://), and holds no password.
    type: str
    default: ''
  token:
    description: Sent to O(url) as C(Authorization), C(Bearer) and this.
    type: str
    default: ''
  temporary:
    description: The case goes on from O(dest) by another task, so there is no warning where it is deleted with a job.
    type: bool
    default: false
requirements:
  - tar on the host
seealso:
  - module: ironpost.container_guard.evidence
"""

EXAMPLES = r"""
- name: Collect
  ironpost.container_guard.evidence:
    container: shop-7
  register: case

- name: Bring it to the controller
  ironpost.container_guard.evidence_fetch:
    case_id: "{{ case.case_id }}"
    directory: "{{ case.directory }}"
    manifest_sha256: "{{ case.manifest_sha256 }}"
    dest: evidence/{{ inventory_hostname }}
"""

RETURN = r"""
directory:
  description: Directory of the case on the controller.
  type: str
  returned: success
url:
  description: Where it was put, or empty.
  type: str
  returned: success
error:
  description: Kind, message and remedy.
  type: dict
  returned: failure
"""

from ansible_collections.ironpost.container_guard.plugins.module_utils._module.evidence_fetch import main

if __name__ == "__main__":
    main()
