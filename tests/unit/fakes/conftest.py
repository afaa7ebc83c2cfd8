# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contract is no test module, and its assertions should explain themselves as those of one do."""

import pytest

pytest.register_assert_rewrite("ansible_collections.ironpost.container_guard.tests.engine_contract")
