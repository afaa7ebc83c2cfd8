# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of isolating and releasing."""

from __future__ import annotations

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError


class JournalError(GuardError):
    """The journal cannot be read or written. Kinds: C(journal_error), C(journal_damaged), C(journal_newer), C(busy)."""

    default_kind = "journal_error"


class Refused(GuardError):
    """The action cannot work on this container; nothing was touched."""

    default_kind = "refused"


class StepFailed(EngineError):
    """A step that is more than one call to the engine did not succeed. Of kind C(busy): as another run is in the way.

    Attributes:
        changed: something was changed on the way.
    """

    default_kind = "step_failed"

    def __init__(self, message: str, *, kind: str | None = None, changed: bool = False) -> None:
        super().__init__(message, kind=kind)
        self.changed = changed
