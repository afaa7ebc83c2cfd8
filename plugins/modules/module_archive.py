#!/usr/bin/python
# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the modules on hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: module_archive
short_description: Keep the modules of this collection on hosts, so that they need not be sent for every task
version_added: 0.1.0
author:
  - Ironpost contributors (@ironpost)
description:
  - To run a module, ansible-core sends it with all that it imports, and the host compiles it, for every task anew. This
    module puts that on the host once, compiled. With the variable C(guard_archive) true, tasks of this collection then
    send their options alone, to a command on the host.
  - An archive is named by the SHA-256 of its content, which is that of this collection and of ansible-core. After an
    upgrade of either, the archive is not found, and modules are sent as ever, until this module is run again.
  - Commands are used only where pipelining is on (C(ansible_pipelining)), as they read the options from standard input.
    They need no temporary files on the host.
  - They run by the Python by which this module was run there, whatever C(ansible_python_interpreter) says by then. Run
    it again where another one is to count, as one that has the docker SDK.
  - Archives are put below C(/opt/container-guard). The one before is kept.
  - That directory and C(/opt) have to belong to root, and nobody else may write them, or the module fails. A task that
    finds it otherwise runs nothing from there, and is sent.
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
  state:
    description:
      - With V(present) the archive of this controller is put in place. One that was changed, or that runs by another
        Python, is replaced.
      - With V(absent) all archives are removed.
    type: str
    choices: [present, absent]
    default: present
  digest:
    description: Set by the action plugin. Leave it out.
    type: str
  content:
    description: Set by the action plugin. Leave it out.
    type: str
requirements:
  - Python 3.8 or newer on the host; ansible-core from 2.20 on wants 3.9 or newer there
"""

EXAMPLES = r"""
- name: Keep the modules on the host
  ironpost.container_guard.module_archive:

- name: Have them sent for every task again
  ironpost.container_guard.module_archive:
    state: absent
"""

RETURN = r"""
digest:
  description: SHA-256 of the archive, empty with O(state=absent).
  type: str
  returned: success
path:
  description: Directory on the host.
  type: str
  returned: success
needed:
  description: Whether the host wants the content, which the action plugin then sends; V(false) at the end.
  type: bool
  returned: success
error:
  description: Kind, message and remedy. Kinds are V(write_failed), V(unsafe_directory), V(invalid_archive) and
    V(invalid_option).
  type: dict
  returned: failure
"""

from ansible_collections.ironpost.container_guard.plugins.module_utils._module.module_archive import main

if __name__ == "__main__":
    main()
