# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action plugin of the module removal: what the host returns is checked on the controller."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.action import HostAction
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.errors import AnswerError


class ActionModule(HostAction):
    """Let the host remove what it keeps."""

    module = "removal"
    needed = ("removed", "kept", "left")
    from_archive = False  # Python reads further files of it to the end

    def check(self, found: dict[str, t.Any]) -> None:
        """Whether the paths are texts. Raises AnswerError."""
        for key in self.needed:
            if not all(isinstance(path, str) for path in found.get(key) or ()):
                raise AnswerError(f"{key} holds what is no text")
