# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin of the module module_archive: archives are made on the controller."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._archive import SERVICE, digest_of
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results import archive
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.action import CORE, HostAction


class ActionModule(HostAction):
    """Put the archive on the host. Its content is sent where the host has not got it."""

    module = "module_archive"
    needed = ("digest", "path", "needed")
    from_archive = False  # Python reads further files of it to the end

    def ask_host(self, arguments: dict[str, t.Any], variables: dict[str, t.Any]) -> dict[str, t.Any]:
        """Ask, and send. Raises GuardError."""
        if arguments.get("state", "present") != "present":
            return super().ask_host(arguments, variables)
        of_service = arguments.get("archive") == SERVICE
        files = archive.service_content() if of_service else archive.content(CORE)
        arguments = {**arguments, "digest": digest_of(files)}
        found = super().ask_host(arguments, variables)
        if not found.get("needed"):
            return found
        return super().ask_host({**arguments, "content": archive.packed(files)}, variables)
