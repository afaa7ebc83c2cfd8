# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of a replay."""

from __future__ import annotations

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError


class ReplayError(GuardError):
    """Alerts cannot be replayed.

    Kinds: C(alerts_missing), C(alerts_unreadable), C(containers_missing), C(containers_invalid).
    """

    default_kind = "alerts_unreadable"
