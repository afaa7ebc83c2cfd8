# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What can go wrong with the testbed."""

from __future__ import annotations


class TestbedError(Exception):
    """A test host cannot be built, started or used; the message says why and what to do."""

    __test__ = False  # pytest takes every class called Test... for a test
