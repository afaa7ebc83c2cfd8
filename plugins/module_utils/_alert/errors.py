# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of the alert intake."""

from __future__ import annotations

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError


class AlertError(GuardError):
    """A message is not an alert. Kinds: C(not_json), C(not_an_alert), C(invalid_alert)."""

    default_kind = "invalid_alert"
