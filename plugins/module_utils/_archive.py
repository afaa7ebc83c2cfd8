# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The archive of modules: what controller and host have to agree on.

It is what ansible-core would send to a host to run the modules of this collection, lying there already, and compiled.
Its name is the SHA-256 of its content. A controller with another version of the collection, or of ansible-core, finds
that it is not there, and sends the module as ever.
"""

from __future__ import annotations

import hashlib
import typing as t

DIRECTORY = "/opt/container-guard"
"""Where archives are put on hosts, each in a directory that is called like its digest."""
PLUGINS = "ansible_collections/ironpost/container_guard/plugins"
"""Where the plugins of the collection are in an archive."""
COMMANDS = "bin"
"""Where in it a command stands for each module, which reads the options from its standard input."""


def digest_of(files: t.Mapping[str, bytes]) -> str:
    """What names an archive: 64 hexadecimal digits.

    Args:
        files: their content by their paths in the archive.
    """
    found = hashlib.sha256()
    for path in sorted(files):
        found.update(f"{path}\0{len(files[path])}\0".encode())
        found.update(files[path])
    return found.hexdigest()
