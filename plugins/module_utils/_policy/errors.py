# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Errors of policies and policy sets."""

from __future__ import annotations

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError


class PolicyError(GuardError):
    """A policy or a policy set cannot be used.

    Kinds: C(policies_invalid), C(policies_missing), C(policy_tests_failed), C(policy_set_missing),
    C(policy_set_damaged), C(invalid_action), C(invalid_option).
    """

    default_kind = "policies_invalid"
