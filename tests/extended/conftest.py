# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tests that take long, or need what nothing else does. They use the hosts of the integration tests."""

from ansible_collections.ironpost.container_guard.tests.integration.conftest import testbed as testbed
from ansible_collections.ironpost.container_guard.tests.integration.conftest import virtual_machine as virtual_machine
