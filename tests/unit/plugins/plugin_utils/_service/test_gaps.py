# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The event stream is cut a hundred times, and whatever happened in between is noticed."""

from __future__ import annotations

import pathlib
import threading
import time

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import EndpointSettings
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineUnreachable
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.inspections import Inspections
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.inventory import Inventory
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import Retry
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.watcher import Watcher
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import Cause
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.answerer import Policies
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.holding import Breach, Ground, Holder
from ansible_collections.ironpost.container_guard.tests.fakes.engine import FakeEngine
from ansible_collections.ironpost.container_guard.tests.fakes.truth import FakeTruth

CUTS = 100
PATIENCE = 60


def test_what_is_undone_while_nobody_listens_is_held_again(tmp_path: pathlib.Path) -> None:
    engine = FakeEngine()
    files = StateDir(str(tmp_path / "state"), fallback=str(tmp_path / "fallback"))
    inventory = Inventory(engine, ttl=3600, inspections=Inspections())
    isolator = Isolator(
        engine,
        Journal(files),
        FakeTruth(engine),
        Retry(max_attempts=1, sleep=lambda _seconds: None),
        remembered=inventory.remembered,
    )
    mended = threading.Semaphore(0)
    found: list[Breach] = []

    def breached(breach: Breach) -> None:
        found.append(breach)
        mended.release()

    # What is wanted here is that it is held, not that it is ended for being set free so often.
    policy = {"id": "p", "actions": [{"type": "pause"}], "on_breach": {"max_repairs": CUTS}}
    policies = Policies(PolicySet.of([Policy.from_dict(policy)]))
    ground = Ground(
        host="web-1",
        docker_host="unix:///nowhere",
        actor="service",
        concurrency=2,
        engine=engine,
        inventory=inventory,
        files=files,
        isolator=isolator,
        policies=lambda: policies,
    )
    holder = Holder(ground, breached=breached)
    web = engine.add_container("web", networks={"bridge": EndpointSettings()})
    # To the watcher each stream has gone on for long, so that it does not wait longer and longer.
    watcher = Watcher(inventory, engine, holder.note, shortest_delay=0.001, clock=lambda: 3000 * time.monotonic())
    with holder, watcher:
        assert watcher.wait_in_step(PATIENCE)
        assert isolator.isolate(web, [Action("pause")], Cause(policy_id="p")).ok
        for cut in range(CUTS):
            engine.break_streams(EngineUnreachable("cut off"))
            engine.unpause(web)
            assert mended.acquire(timeout=PATIENCE), f"cut {cut}: nobody noticed; {watcher.state}"
            assert engine.inspect_container(web)["State"]["Paused"]
    assert {breach.done for breach in found} == {"repaired"}
    assert watcher.state.reconnects >= 1
