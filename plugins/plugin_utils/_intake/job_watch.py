# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Receipts out of the artifacts of jobs, where a controller runs the playbooks and these cannot reach the source.

The rule engine launches the jobs and tells nobody which. So they are looked for among the jobs that are new in the
controller, and only while deliveries are under way.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
import typing as t
from collections.abc import Callable, Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import timestamp
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import jobs
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.controller_api import ControllerError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.jobs import Job
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.receipts import SCHEME, ReceiptError
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.throttle import Throttle

logger = logging.getLogger(__name__)

INTERVAL = 2.0
"""Seconds between two looks."""
_LONGEST_PAUSE = 60.0
"""To which that grows while the controller cannot be asked."""
_PAGE = 50
"""Jobs of an answer."""
_PAGES = 4
"""Answers with new jobs at a look; what is beyond them is looked at next."""
_COMMIT = 10.0
"""Seconds after which the ids below one that was seen are there, too: a job has its id before others see it."""
_LOST = 60.0
"""Seconds after which the job of a delivery should be there."""

Json = t.Any


class Asks(t.Protocol):
    """What is needed of the controller."""

    async def get(self, path: str, query: Mapping[str, str | int]) -> Mapping[str, Json]:
        """The object at a path of its API. Raises ControllerError."""

    async def close(self) -> None:
        """Ask nothing any more."""


class Deliveries(t.Protocol):
    """What is needed of the deliveries."""

    def under_way(self) -> Sequence[str]:
        """Ids of those that the engine has taken, and that not all hosts have acknowledged yet."""

    async def receipt(self, authorization: str, body: bytes) -> None:
        """Take a receipt. Raises ReceiptError."""

    def run_ended(self, delivery: str, why: str, heard: bool) -> None:
        """The run of a delivery has ended; whether it is known that who has not acknowledged it did not answer."""


class JobWatch:
    """Looks for the jobs of deliveries, and takes the receipts of those that have ended.

    Args:
        api: of the controller.
        deliveries: to which the receipts go.
        key: of the spool, by which jobs of its deliveries are known.
        interval: seconds between two looks.
        now: seconds, of a clock that is never set.
        wall: seconds since the epoch.
    """

    def __init__(
        self,
        api: Asks,
        deliveries: Deliveries,
        key: bytes,
        *,
        interval: float = INTERVAL,
        now: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._deliveries = deliveries
        self._key = key
        self._interval = interval
        self._now = now
        self._wall = wall
        self._watched: dict[int, Job] = {}  # jobs that have not ended, by id
        self._since: dict[str, float] = {}  # deliveries under way, and when they were first seen to be
        self._found: set[str] = set()  # those that have a job
        self._after: int | None = None  # jobs with a larger id are asked for
        self._seen: dict[int, float] = {}  # of these, when they were looked at, by id
        self._trouble = ""
        self._throttle = Throttle(logger)

    def troubles(self) -> list[str]:
        """Why nobody knows what hosts have answered, for people."""
        lost = [since for delivery, since in self._since.items() if delivery not in self._found]
        longest = self._now() - min(lost, default=self._now())
        if self._trouble:
            return [self._trouble]
        lost_for = f"the controller shows no job of a delivery for {longest:.0f} seconds"
        hint = "its job template has to prompt for variables, and the token to be of a user who may see its jobs"
        return [f"{lost_for}: {hint}"] if longest > _LOST else []

    async def run(self) -> t.NoReturn:
        """Look for ever, until cancelled, while there is something to look for."""
        pause = self._interval
        try:
            while True:
                self._keep_to(self._deliveries.under_way())
                if self._since or self._watched or self._trouble:
                    pause = await self._look(pause)
                await asyncio.sleep(pause)
        finally:
            await self._api.close()

    async def _look(self, pause: float) -> float:
        """Look once; the seconds until the next time."""
        try:
            if self._trouble or self._since.keys() - self._found:
                await self._look_for_jobs()
            await self._look_for_ends()
        except ControllerError as error:
            self._trouble = f"receipts cannot be read: {error}"
            why = error.details.get("why")
            self._throttle.error(error.message, "%s%s", self._trouble, f" ({why})" if why else "")
            return min(pause * 2, _LONGEST_PAUSE)
        if self._trouble:
            logger.info("Receipts can be read from the controller again")
            self._trouble = ""
        return self._interval

    def _keep_to(self, under_way: Sequence[str]) -> None:
        if under_way and not (self._since or self._watched or self._trouble):
            # Others may have run thousands of jobs meanwhile, so it is begun with the newest again.
            self._after, self._seen = None, {}
        self._since = {delivery: self._since.get(delivery, self._now()) for delivery in under_way}
        self._found &= {*under_way, *(job.claim.delivery for job in self._watched.values())}

    # --- which jobs there are -----------------------------------------------------------------------------------------

    async def _look_for_jobs(self) -> None:
        """Look at each job that is new, at first at the newest."""
        now, first = self._now(), self._after is None
        query: dict[str, str | int] = {"order_by": "-id"} if first else {"order_by": "id", "id__gt": self._after or 0}
        for page in range(1, 2 if first else _PAGES + 1):
            listed, more = await self._jobs({**query, "page": page})
            new = [value for value in listed if jobs.job_id(value) not in self._seen]
            await self._look_at(new)
            self._seen.update((jobs.job_id(value), now) for value in new)
            if not more:
                break
        settled = [number for number, since in self._seen.items() if since + _COMMIT <= now]
        before = max(0, min(self._seen, default=1) - 1) if self._after is None else self._after
        self._after = max(settled, default=before)
        self._seen = {number: since for number, since in self._seen.items() if number > self._after}

    async def _look_at(self, listed: Sequence[Json]) -> None:
        key = self._key
        for job in await asyncio.to_thread(lambda: [jobs.job_of(key, value) for value in listed]):
            if job and not self._is_late(job):
                self._watched[job.id] = job
                self._found.add(job.claim.delivery)

    async def _jobs(self, query: Mapping[str, str | int]) -> tuple[list[Json], bool]:
        """A page of jobs, and whether there is another one."""
        answer = await self._api.get("jobs/", {"page_size": _PAGE, **query})
        listed = answer.get("results")
        if not isinstance(listed, list):
            raise ControllerError("what answers lists no jobs")
        return listed[:_PAGE], bool(answer.get("next"))

    # --- what became of them ------------------------------------------------------------------------------------------

    async def _look_for_ends(self) -> None:
        for number in [number for number, job in self._watched.items() if self._is_late(job)]:
            del self._watched[number]
        wanted = sorted(self._watched)
        for start in range(0, len(wanted), _PAGE):
            numbers = ",".join(map(str, wanted[start : start + _PAGE]))
            listed, _more = await self._jobs({"id__in": numbers, "status__in": ",".join(jobs.ENDED)})
            for value in listed:
                job = self._watched.get(jobs.job_id(value))
                if job:
                    await self._take(job)

    async def _take(self, job: Job) -> None:
        """Take the receipts of a job that has ended."""
        found = await self._api.get(f"jobs/{job.id}/", {})
        status = found.get("status")
        if status not in jobs.ENDED:
            return
        del self._watched[job.id]
        taken = 0
        for body in await asyncio.to_thread(jobs.receipts_in, job, found.get("artifacts")):
            try:
                await self._deliveries.receipt(f"{SCHEME} {job.capability}", body)
                taken += 1
            except ReceiptError as error:
                self._throttle.warning(error.kind, "A receipt in the artifacts of job %d: %s", job.id, error)
        delivery = job.claim.delivery
        if any(other.claim.delivery == delivery for other in self._watched.values()):
            return  # a part of the hosts is a matter of another job
        # Where a job was green and nothing was handed on, hosts may have answered: its playbook may be another.
        heard = bool(taken) or status != "successful"
        self._deliveries.run_ended(delivery, f"job {job.id} ended {status}, and nothing of this host", heard)

    def _is_late(self, job: Job) -> bool:
        """Whether its receipts would not count any more."""
        deadline = timestamp.parse_timestamp(job.claim.deadline)
        return deadline is None or deadline < datetime.datetime.fromtimestamp(self._wall(), datetime.UTC)
