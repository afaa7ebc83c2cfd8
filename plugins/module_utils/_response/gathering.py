# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The evidence that policies want of the containers that were acted on.

It is collected once all containers of a batch are cut off, so that none waits for the evidence of another, and once
what was done is told, as it may take long. Only what a container has while it has processes is taken before they are
ended.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.collection import Collection
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.collector import Collector
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.manifest import Request
from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.wanted import VOLATILE
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.claims import Cause
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import COLLECTED, FAILED
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.evidence import Evidence
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent

_BEFORE_THE_END = ("inspect", *VOLATILE)


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Evidence that is still to be collected.

    Attributes:
        container: id, name and image of the container.
        collect: kinds of evidence.
        paths: in the container, to archive.
        case: id of the case that was begun before its processes were ended, or empty.
        action_event: id of the record of the action that it is collected for.
        reason, trace_id, alert_id, policy_id: why, as in that record.
    """

    container: t.Mapping[str, str]
    collect: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    case: str = ""
    action_event: str = ""
    reason: str = ""
    trace_id: str = ""
    alert_id: str = ""
    policy_id: str = ""

    def to_dict(self) -> dict[str, t.Any]:
        """As modules hand it on."""
        return {**dataclasses.asdict(self), "collect": list(self.collect), "paths": list(self.paths)}


class Gathering:
    """Collects evidence on one host, and knows what of it is still to be collected.

    Args:
        collector: of the host.
        concurrency: how many containers are worked on at a time, 1 to 100.
        host: inventory name, for the records.
        actor: who collects, likewise.

    Attributes:
        wanted: what is still to be collected.
    """

    def __init__(
        self,
        collector: Collector,
        concurrency: int,
        host: str = "",
        wanted: t.Iterable[Wanted] = (),
        actor: str = "",
    ) -> None:
        self._actor = actor
        self._collector = collector
        self._concurrency = concurrency
        self._host = host
        self.wanted = list(wanted)

    def begin(self, container_id: str, evidence: Evidence, cause: Cause) -> str:
        """Take what is gone once the processes end; the id of the case.

        Empty where that cannot be begun, which must not keep the container running: collect() meets it again, and says
        so.
        """
        request = Request(cause.reason, cause.trace_id, cause.alert_id, cause.policy_id)
        try:
            collection = self._collector.begin(container_id, evidence.kinds, evidence.paths, request)
            collection.take(_BEFORE_THE_END)
        except Exception:  # whatever it is
            return ""
        return collection.case_id

    def want(self, event: ActionEvent, evidence: Evidence, cause: Cause, case: str = "") -> None:
        """Remember to collect, or to go on with the case that was begun, of the container that the event is about."""
        self.wanted.append(
            Wanted(
                container=dict(event.container or {}),
                collect=evidence.kinds,
                paths=evidence.paths,
                case=case,
                action_event=event.id,
                reason=cause.reason,
                trace_id=event.trace_id,
                alert_id=event.alert_id,
                policy_id=event.policy_id,
            )
        )

    def collect(self) -> list[ActionEvent]:
        """Collect all that is wanted: a record of each."""
        with concurrent.futures.ThreadPoolExecutor(self._concurrency) as pool:
            return list(pool.map(self._collected, self.wanted))

    def _collected(self, wanted: Wanted) -> ActionEvent:
        event = ActionEvent(
            COLLECTED,
            trace_id=wanted.trace_id,
            alert_id=wanted.alert_id,
            policy_id=wanted.policy_id,
            actor=self._actor,
            host=self._host,
            container=wanted.container,
        )
        try:
            case = self._collection(wanted).finish()
        except GuardError as error:
            return event.with_error(error)
        except Exception as error:  # a defect of the guard must not lose the evidence of the other containers
            return event.with_error(GuardError(f"internal error: {error!r}", kind="internal_error"))
        manifest = case.manifest
        evidence = {
            "case_id": manifest.case_id,
            "directory": case.directory,
            "manifest_sha256": manifest.sha256,
            "action_event": wanted.action_event,
        }
        event = dataclasses.replace(event, changed=True, evidence=evidence, warnings=tuple(case.shortcomings))
        if not case.kept:
            return dataclasses.replace(
                event,
                outcome=FAILED,
                error=GuardError("no evidence could be collected", kind="no_evidence").to_dict(),
            )
        return event

    def _collection(self, wanted: Wanted) -> Collection:
        if wanted.case:
            return self._collector.resume(wanted.case)
        request = Request(wanted.reason, wanted.trace_id, wanted.alert_id, wanted.policy_id)
        return self._collector.begin(wanted.container["id"], wanted.collect, wanted.paths, request)
