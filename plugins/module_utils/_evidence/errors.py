# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of collecting evidence."""

from __future__ import annotations

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError


class EvidenceError(GuardError):
    """Nothing was collected.

    Kinds: C(evidence_error), C(invalid_evidence), C(no_space), C(case_missing), C(case_ended).
    """

    default_kind = "evidence_error"
