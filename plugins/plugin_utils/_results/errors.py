# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with an answer."""

from __future__ import annotations

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError


class AnswerError(GuardError):
    """A host answered what the module never returns. Nothing of such an answer is used."""

    def __init__(self, what: str) -> None:
        """Say what is wrong, in words that do not quote the answer."""
        super().__init__(
            f"the host answered what the module never returns: {what}. Nothing of its answer is used",
            kind="bad_answer",
            remedy="Look at the host, and at what ansible_python_interpreter names there: do not count on it being as"
            " it says",
        )
