# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures on the Docker Engine of this machine. Its absence is an error, not a reason to skip: see make setup."""

from __future__ import annotations

import os
import typing as t

import pytest

pytest.register_assert_rewrite("ansible_collections.ironpost.container_guard.tests.engine_contract")

if t.TYPE_CHECKING:
    from ansible_collections.ironpost.container_guard.tests.integration.docker_world import DockerWorld


@pytest.fixture
def docker_world() -> t.Iterator[DockerWorld]:
    """A corner of the engine for one test, removed afterwards whatever happened."""
    from ansible_collections.ironpost.container_guard.tests.integration.docker_world import (
        DEFAULT_DOCKER_HOST,
        DockerWorld,
    )

    with DockerWorld(os.environ.get("DOCKER_HOST") or DEFAULT_DOCKER_HOST) as world:
        yield world
