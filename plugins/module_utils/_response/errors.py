# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of responding."""

from __future__ import annotations

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError


class ActionLogError(GuardError):
    """The action log cannot be written."""

    default_kind = "action_log_error"
