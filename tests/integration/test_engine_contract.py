# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The contract against the real engine through the real client: what the fake promises is true."""

from __future__ import annotations

import pytest

from ansible_collections.ironpost.container_guard.tests.engine_contract import EngineContract, World
from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld


class TestDockerEngine(EngineContract):
    @pytest.fixture
    def world(self, docker_world: DockerWorld) -> World:
        return docker_world
