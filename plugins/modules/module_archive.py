#!/usr/bin/python
# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the modules, or the host service, on hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: module_archive
short_description: Keep the modules of this collection, or its host service, on hosts
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
  - With O(archive=service) it is what the role C(ironpost.container_guard.host_service) runs, with the docker SDK of
    the controller and without ansible-core. That is named by its content, too, and has the command
    C(bin/container-guard).
    What the host has installed stays as it is.
  - Archives are put below C(/opt/container-guard). Of those of modules the one before is kept. Those of the host
    service stay until the role removes them, which knows which of them are in use.
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
  archive:
    description: What it is that the host keeps.
    type: str
    choices: [modules, service]
    default: modules
  python:
    description: Python that runs it, by default the one by which this module is run. With O(archive=service) it has to
      be 3.11 or newer and have the package C(aiohttp), 3.8 or newer, as that of Debian 12 is.
    type: path
  digest:
    description: Set by the action plugin. Leave it out.
    type: str
  content:
    description: Set by the action plugin. Leave it out.
    type: str
requirements:
  - Python 3.8 or newer on the host; ansible-core from 2.20 on wants 3.9 or newer there
  - With O(archive=service), the docker SDK for Python, 7.1 or newer, on the controller
"""

EXAMPLES = r"""
- name: Keep the modules on the host
  ironpost.container_guard.module_archive:

- name: Have them sent for every task again
  ironpost.container_guard.module_archive:
    state: absent

- name: Keep the host service there
  ironpost.container_guard.module_archive:
    archive: service
    python: /usr/bin/python3
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
  description: Kind, message and remedy. Kinds are V(write_failed), V(unsafe_directory), V(invalid_archive),
    V(invalid_option), and with O(archive=service) V(python_too_old), V(aiohttp_missing) and, of the controller,
    V(sdk_missing).
  type: dict
  returned: failure
"""

from ansible_collections.ironpost.container_guard.plugins.module_utils._module.module_archive import main

if __name__ == "__main__":
    main()
