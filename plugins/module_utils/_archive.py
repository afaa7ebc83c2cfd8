# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Archives of what hosts run: what controller and host have to agree on.

The one of modules is what ansible-core would send to a host to run the modules of this collection, lying there already,
and compiled. Its name is the SHA-256 of its content. A controller with another version of the collection, or of
ansible-core, finds that it is not there, and sends the module as ever. The one of the host service is made likewise.
"""

from __future__ import annotations

import hashlib
import os
import re
import typing as t

DIRECTORY = "/opt/container-guard"
"""Where archives are put on hosts, each in a directory that is called like its digest."""
SERVICE_DIRECTORY = f"{DIRECTORY}/service"
"""The same for those of the host service."""
MODULES, SERVICE = "modules", "service"
"""What there are archives of."""
OWNER = 0
"""Whom alone it belongs to, as well as the directory above it: what is in it is run by root, too."""
PLUGINS = "ansible_collections/ironpost/container_guard/plugins"
"""Where the plugins of the collection are in an archive."""
NAMED = re.compile(r"[0-9a-f]{64}|\.new-.*")
"""What they are called, and what is left of one that was not put in place; all else is not ours."""
COMMANDS = "bin"
"""Where in it a command stands for each module, which reads the options from its standard input."""


def command_of(digest: str, module: str, environment: str = "") -> str:
    """The line for a POSIX shell that runs a module of an archive.

    It ends with 126 or 127 before it runs anything where the archive is not there, or cannot be run, and where others
    than its owner could have put something in its place.

    Args:
        digest: of the archive.
        module: its name, without the collection.
        environment: assignments that go before a command, quoted for the shell.
    """
    looks = f"find -H {os.path.dirname(DIRECTORY)} {DIRECTORY} -maxdepth 0"
    # Where find is missing, or finds nothing there, it says so, and that is no empty text.
    unsafe = rf"$({looks} \( ! -user {OWNER} -o -perm -20 -o -perm -2 \) 2>&1)"
    command = f"{environment} {DIRECTORY}/{digest}/{COMMANDS}/{module}".strip()
    return f'if test -z "{unsafe}"; then {command}; else exit 127; fi'


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
