# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The evidence that policies want of the containers that were acted on.

It is collected once all containers of a batch are cut off, so that none waits for the evidence of another. Only what a
container has while it has processes is taken before they are ended.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.collection import Case, Collection
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.collector import Collector
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.manifest import Request
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.wanted import VOLATILE
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import Cause
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.evidence import Evidence
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent


class _Wanted(t.NamedTuple):
    event: ActionEvent
    collect: t.Callable[[], Case]


class Gathering:
    """Collects the evidence of one batch on one host.

    Args:
        collector: of the host.
        concurrency: how many containers are worked on at a time, 1 to 100.
    """

    def __init__(self, collector: Collector, concurrency: int) -> None:
        self._collector = collector
        self._concurrency = concurrency
        self._wanted: list[_Wanted] = []

    def begin(self, container_id: str, evidence: Evidence, cause: Cause) -> Collection | None:
        """Take what is gone once the processes end; None where that cannot be begun, which must not keep it running."""
        try:
            collection = self._begin(container_id, evidence, cause)
            collection.take(VOLATILE)
        except Exception:  # whatever it is: collect() meets it again, and says so
            return None
        return collection

    def want(self, event: ActionEvent, evidence: Evidence, cause: Cause, begun: Collection | None = None) -> None:
        """Remember to collect, or to go on with what was begun, of the container that the event is about."""
        container_id = (event.container or {})["id"]

        def collect() -> Case:
            return (begun or self._begin(container_id, evidence, cause)).finish()

        self._wanted.append(_Wanted(event, collect))

    def collect(self) -> list[ActionEvent]:
        """Collect all that is wanted: a record of each."""
        with concurrent.futures.ThreadPoolExecutor(self._concurrency) as pool:
            return list(pool.map(_collected, self._wanted))

    def _begin(self, container_id: str, evidence: Evidence, cause: Cause) -> Collection:
        request = Request(cause.reason, cause.trace_id, cause.alert_id, cause.policy_id)
        return self._collector.begin(container_id, evidence.kinds, evidence.paths, request)


def _collected(wanted: _Wanted) -> ActionEvent:
    about = wanted.event
    event = ActionEvent(
        "collected",
        trace_id=about.trace_id,
        alert_id=about.alert_id,
        policy_id=about.policy_id,
        host=about.host,
        container=about.container,
    )
    try:
        case = wanted.collect()
    except GuardError as error:
        return event.with_error(error)
    except Exception as error:  # a defect of the guard must not lose the evidence of the other containers
        return event.with_error(GuardError(f"internal error: {error!r}", kind="internal_error"))
    manifest = case.manifest
    evidence = {
        "case_id": manifest.case_id,
        "directory": case.directory,
        "manifest_sha256": manifest.sha256,
        "action_event": about.id,
    }
    event = dataclasses.replace(event, changed=True, evidence=evidence, warnings=tuple(case.shortcomings))
    if not case.kept:
        return dataclasses.replace(
            event,
            outcome="failed",
            error=GuardError("no evidence could be collected", kind="no_evidence").to_dict(),
        )
    return event
