# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The event source as a whole: its parts put together, started, and ended in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import os
import pathlib
import socket
import typing as t
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import (
    accept,
    admission,
    files,
    health,
    receipt_listener,
    signals,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.controller_api import (
    ControllerApi,
    access_of,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.delivery import (
    Deliveries,
    DeliverySettings,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.http import Http
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.inventory import InventoryWatch
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.job_watch import JobWatch
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.limits import Connections
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.listener import ALERTS, HEALTH, Listener
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.metrics import Counters
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import ARTIFACTS, Options
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.reporting import Reports
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.runs import Runs as PlaybookRuns
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import Spool, SpoolLimits
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.tls import Tls
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.wanted import Wanted

logger = logging.getLogger(__name__)

_RECEIPT_PORT = "receipt_port"
"""Under which name the spool keeps it."""
_SHUTDOWN_TIMEOUT = 1.0
"""How long a shutdown waits for open requests, in seconds."""
_AT_ONCE = 0.1
"""The same where the source cannot go on. To aiohttp, 0 is for ever."""
_NO_RECEIPTS = "receipts are off: nobody knows which alerts were answered, and none is sent again"
_BEGINS = 3.0
"""Within how many seconds the rule engine begins the playbook run of an event."""
_RECEIPT_CONNECTIONS = 256


class EventQueue(t.Protocol):
    """What the rulebook engine hands to an event source."""

    async def put(self, event: dict[str, t.Any], /) -> None:
        """Hand over one event; waits while the engine is busy."""


async def serve(queue: EventQueue, options: Options, notes: Iterable[str] = ()) -> None:
    """Take alerts and put them into the queue as events, until SIGTERM or SIGINT, or until cancelled.

    Args:
        queue: of the engine.
        options: of the source.
        notes: what was found in its arguments, for people; told in the log and by /healthz.

    Raises:
        ValueError: certificate files cannot be used, or there is no controller to read receipts from.
        OSError: an address cannot be listened on.
        SpoolError, ReportsError: the spool cannot be used.
        Exception: what the queue raises. The source ends then, rather than to take alerts that go nowhere; they are in
            the spool.
    """
    # What is loaded by now stays: to look through it for garbage, again and again, would hold up alerts.
    gc.freeze()
    # The engine starts ansible-playbook with the environment of this process, and says nothing else of forks.
    os.environ.setdefault("ANSIBLE_FORKS", str(options.forks))
    tls = Tls(options) if options.certfile else None
    access = access_of(options) if options.receipts == ARTIFACTS else None
    api = ControllerApi(access) if access else None
    wanted = Wanted(
        pathlib.Path(options.policy_set) if options.policy_set else None,
        options.policy_set_confirmed_for,
        receipts=bool(options.receipts),
        answer_deadline=options.answer_deadline,
    )
    wanted.refresh()
    with contextlib.ExitStack() as stack:
        # Before anything else: who starts a second one by mistake reads that the port is in use.
        sockets = [stack.enter_context(each) for each in accept.listen(options.host, options.port)]
        spool = await Spool.open(options.spool_directory, limits_of(options))
        counters = Counters()
        reports = None
        try:
            reports = await Reports.open(options.spool_directory, counters) if options.takes_posts else None
            receipts = None
            if options.receipts and not api:
                last = spool.position(_RECEIPT_PORT)
                receipts = stack.enter_context(receipt_listener.listen(options.receipt_port, last or 0))
                await spool.remember(_RECEIPT_PORT, receipts.getsockname()[1])

            def confirmed(host: str, digest: str) -> None:
                intake.confirmed(host, digest)

            deliveries = Deliveries(
                spool,
                settings_of(options),
                queue.put,
                receipt_url=options.receipt_url or _url(receipts),
                confirmed=confirmed,
                runs=PlaybookRuns(options.run_timeout),
            )
            jobs = JobWatch(api, deliveries, spool.key) if api else None
            notes = [*notes, *(access.notes() if access else ())]
            reported = Reported(reports, queue.put) if reports else None
            intake = Intake(options, spool, deliveries, wanted, tls, notes, jobs, reported=reported, counters=counters)
            async with signals.stop_asked() as stop:
                await intake.run(stop, sockets, receipts)
        finally:
            if reports:
                await reports.close()
            await spool.close()


class Input(health.Watching, t.Protocol):
    """What takes alerts from topics."""

    def figures(self) -> dict[str, float]:
        """For metrics."""

    def take_no_more(self) -> None:
        """Take nothing any more, but go on to say what was answered."""

    async def run(self) -> t.NoReturn:
        """Take alerts until cancelled."""


class Reported(t.NamedTuple):
    """What host services report, and to whom that goes.

    Attributes:
        reports: takes it.
        put: hands an event to the rule engine.
    """

    reports: Reports
    put: Callable[[dict[str, t.Any]], Awaitable[None]]


class Runs(health.Deliveries, receipt_listener.TakesReceipts, t.Protocol):
    """What is needed of the deliveries."""

    async def run(self) -> t.NoReturn:
        """Deliver until cancelled."""

    async def drain(self, timeout: float) -> None:
        """Begin no delivery any more, and wait for those under way."""


class Stores(health.Spool, admission.Store, files.Positions, t.Protocol):
    """What is needed of the spool."""

    def waiting(self) -> Sequence[str]:
        """Trace ids of all alerts that wait."""

    def waits(self, trace_id: str) -> bool:
        """Whether an alert waits."""

    def watch_ends(self, watcher: Callable[[Sequence[str], Mapping[str, str]], None]) -> None:
        """Have a function called with the trace ids of alerts that have ended, and of what waits in their place."""


class Watches(health.Watching, admission.Wants, t.Protocol):
    """What is needed of the early drop."""

    def confirmed(self, host: str, digest: str) -> None:
        """A host has said which policy set it has."""

    async def watch(self) -> t.NoReturn:
        """Watch its file until cancelled."""


class Intake:
    """The parts of a source at work."""

    def __init__(
        self,
        options: Options,
        spool: Stores,
        deliveries: Runs,
        wanted: Watches,
        tls: Tls | None = None,
        notes: Iterable[str] = (),
        jobs: JobWatch | None = None,
        vital: Sequence[health.Watching] = (),
        watching: Sequence[health.Watching] = (),
        reported: Reported | None = None,
        counters: Counters | None = None,
    ) -> None:
        self._options = options
        self._reported = reported
        self._jobs = jobs
        self._deliveries = deliveries
        self._tls = tls
        self._wanted = wanted
        self._notes = [*notes, *([] if options.receipts else [_NO_RECEIPTS])]
        self._counters = counters or Counters()
        self._inventory = InventoryWatch(options) if options.inventory else None
        self._connections = Connections(
            accept.connections_possible(options.max_connections), options.max_connections_per_address
        )
        inventory = self._inventory
        self._admission = admitting = admission.Admission(
            options, spool, wanted, self._counters, (lambda: inventory.current) if inventory else (lambda: None)
        )
        self._files = [
            files.FollowedFile(file, admitting, spool, options.severities, self._counters) for file in options.files
        ]
        self._kafka = _kafka(options, admitting, spool, self._counters)
        topics = [self._kafka] if self._kafka else []
        watching = [wanted, *([inventory] if inventory else []), *self._files, *topics, *watching]
        vital = [*([jobs] if jobs else []), *([reported.reports] if reported else []), *vital]
        self.health = how = health.Health(
            spool, deliveries, self._connections, self._counters, tls, watching, self._notes, vital=vital
        )
        if self._kafka:
            how.measured.append(self._kafka.figures)
        if reported:
            how.measured.append(reported.reports.figures)
            how.heartbeat_ages = reported.reports.ages
        self._listener = Listener(options, admitting, how, reported.reports if reported else None)

    def confirmed(self, host: str, digest: str) -> None:
        """A host has said which policy set it has."""
        self._wanted.confirmed(host, digest)
        self._admission.forget()

    async def run(
        self, stop: asyncio.Event, sockets: Sequence[socket.socket], receipts: socket.socket | None = None
    ) -> None:
        """Take alerts until it is to stop, then let end what is under way. Raises what a part raises.

        Args:
            stop: set when it is to stop.
            sockets: that listen for alerts; closed at the end.
            receipts: one that listens for receipts, if there are any.
        """
        options = self._options
        http = Http("alerts", self._listener.answer, self._connections, self._counters, self._tls)
        acceptor = accept.Acceptor(
            sockets, http.protocol, self._connections, self._counters, tls=self._tls, silence=options.read_timeout
        )
        addresses = [listening.getsockname() for listening in sockets]
        parts = [self._deliveries.run(), self._wanted.watch(), *([self._inventory.run()] if self._inventory else [])]
        parts += [self._jobs.run()] if self._jobs else []
        reading = [file.run() for file in self._files]
        # What the engine is told of hosts when it is to stop would go nowhere: it waits for the next start.
        reading += [self._reported.reports.run(self._reported.put)] if self._reported else []
        async with contextlib.AsyncExitStack() as stack:
            # What is entered last ends first: no alerts any more, but deliveries and their receipts to the end. What
            # has ended by then is committed.
            topics = [await stack.enter_async_context(_task(self._kafka.run()))] if self._kafka else []
            working = topics + [await stack.enter_async_context(_task(part)) for part in parts]
            if receipts is not None:
                working.append(await stack.enter_async_context(self._receiving(receipts)))
            stack.push_async_callback(http.close, _AT_ONCE)
            taking = [await stack.enter_async_context(_task(part)) for part in (*reading, acceptor.run())]
            self._log_start(addresses)
            asked = await stack.enter_async_context(_task(stop.wait()))
            done, _pending = await asyncio.wait([*working, *taking, asked], return_when=asyncio.FIRST_COMPLETED)
            http.closing = True
            if self._kafka:
                self._kafka.take_no_more()
            for task in done:
                task.result()
            for task in taking:
                task.cancel()
            # Most senders send once: who has connected by now is heard. Others wait in the sockets, where somebody else
            # has these, too.
            await asyncio.wait(taking)
            await self._connections.heard(_SHUTDOWN_TIMEOUT)
            await http.close(_SHUTDOWN_TIMEOUT)
            await self._end_deliveries()

    async def _end_deliveries(self) -> None:
        """Begin none any more, and let end what runs. What is not answered then is delivered after a restart."""
        async with _task(self._deliveries.drain(signals.GRACE)) as drained:
            # The playbook of an event that was just handed over has begun by then.
            await asyncio.wait([drained], timeout=_BEGINS)
            await signals.playbooks_ended(signals.GRACE)
            await asyncio.wait([drained], timeout=_SHUTDOWN_TIMEOUT)

    @contextlib.asynccontextmanager
    async def _receiving(self, listening: socket.socket) -> AsyncIterator[asyncio.Task[t.Any]]:
        """Receipts are taken meanwhile."""
        connections = Connections(_RECEIPT_CONNECTIONS, _RECEIPT_CONNECTIONS)
        http = Http("receipts", receipt_listener.Receipts(self._deliveries).answer, connections, self._counters)
        acceptor = accept.Acceptor(
            [listening], http.protocol, connections, self._counters, tls=None, silence=self._options.read_timeout
        )
        try:
            async with _task(acceptor.run()) as task:
                yield task
        finally:
            await http.close(_SHUTDOWN_TIMEOUT)

    def _log_start(self, addresses: Sequence[t.Any]) -> None:
        options, scheme = self._options, "https" if self._tls else "http"
        path = ALERTS if options.takes_posts else HEALTH
        inet = [address for address in addresses if isinstance(address, tuple)]
        places = ", ".join(
            f"{scheme}://{_shown(address[0])}:{address[1]}{path}" if address in inet else f"{address}"
            for address in addresses
        )
        checks = {
            "client certificate": options.cafile and options.certificate_required,
            "token": options.all_tokens,
            "path token": options.all_path_tokens,
            "signature": options.all_hmac_secrets,
            f"{len(options.senders)} senders": options.senders,
        }
        if options.takes_posts:
            checked = ", ".join(name for name, value in checks.items() if value)
            logger.info("Taking alerts at %s (checked: %s)", places, checked)
        else:
            inputs = " and ".join([*(["files"] if options.files else []), *(["topics"] if options.kafka else [])])
            logger.info("Taking alerts from %s alone; whether it is well is said at %s", inputs, places)
        if self._connections.most < options.max_connections:
            logger.info(
                "At most %d connections at once, as this process may not open more files (max_connections is %d)",
                self._connections.most,
                options.max_connections,
            )
        if not self._tls and not all(ipaddress.ip_address(address[0]).is_loopback for address in inet):
            logger.warning("Alerts and tokens cross the network in clear text: set certfile, or listen on 127.0.0.1")
        if options.kafka and not options.kafka.tls:
            logger.warning(
                "Alerts%s cross the network in clear text: set kafka.security_protocol to SSL or SASL_SSL",
                " and the password of kafka" if options.kafka.sasl else " of kafka",
            )
        for note in self._notes:
            logger.warning("%s", note)
        if self._tls:
            self._tls.tell()


def _kafka(options: Options, admitting: admission.Admission, spool: Stores, counters: Counters) -> Input | None:
    """What reads the topics, if there are any. Raises ValueError."""
    if not options.kafka:
        return None
    # It takes a while to load, and few need it.
    from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.kafka import KafkaInput

    return KafkaInput(options.kafka, admitting, spool, options.severities, options.body_limit, counters)


@contextlib.asynccontextmanager
async def _task(coroutine: Coroutine[t.Any, t.Any, t.Any]) -> AsyncIterator[asyncio.Task[t.Any]]:
    """A task that is over at the end."""
    task = asyncio.create_task(coroutine)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


def limits_of(options: Options) -> SpoolLimits:
    """How much the spool keeps, and how many share it."""
    unbound = options.all_tokens or options.all_path_tokens
    return SpoolLimits(
        max_bytes=options.spool_max_bytes,
        max_alerts=options.spool_max_alerts,
        senders=len(options.senders) + bool(unbound or not options.senders) + bool(options.files) + bool(options.kafka),
        history_days=options.history_days,
        history_max_bytes=options.history_max_bytes,
        raw_hours=options.raw_hours,
        fold_isolated=options.fold_isolated,
    )


def settings_of(options: Options) -> DeliverySettings:
    """How alerts are delivered."""
    window = options.max_isolations_per_fleet_window
    return DeliverySettings(
        batch_window=options.batch_window,
        batch_interval=options.batch_interval,
        batch_max=options.batch_max,
        answer_timeout=options.answer_timeout,
        answer_deadline=options.answer_deadline,
        max_deliveries=options.max_deliveries,
        # What hosts share is one run, in which those that hang hold up nobody as long as there are forks.
        max_hosts=_forks(),
        receipts=bool(options.receipts),
        fleet_limit=window.count if window else 0,
        fleet_window=window.seconds if window else 0,
    )


def _shown(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _forks() -> int:
    """As many as ansible-playbook will take: a user may say it in the environment."""
    said = os.environ.get("ANSIBLE_FORKS", "")
    return int(said) if said.isdecimal() and int(said) else 5


def _url(listening: socket.socket | None) -> str:
    return "http://{}:{}{}".format(*listening.getsockname(), receipt_listener.PATH) if listening else ""
