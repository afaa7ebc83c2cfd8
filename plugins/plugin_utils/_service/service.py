# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The host service: an intake in front, the engine of the modules behind it, in one process that goes on."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import pathlib
import signal
import socket
import stat
import typing as t
from collections.abc import Mapping, Sequence

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.client import DockerEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.inspections import Inspections
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.inventory import Inventory
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.lazy import connected_when_asked
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import Retry
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.watcher import Watcher
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.ground_truth import HostTruth
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import ActionLog
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.answerer import Answerer, Setting
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import accept, signals
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.delivery import Deliveries
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.source import (
    Intake,
    limits_of,
    settings_of,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.spool import Spool
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.tls import Tls
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.status import guard_version
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.answering import Answering, Host
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.config import Config
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.holding import Ground, Holder
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.measured import Measures
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.mode import Mode
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.policies import DeployedPolicies
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.reporting import reporter_of
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.state_watch import StateWatch
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.systemd import Manager

logger = logging.getLogger(__name__)

ACTOR = "service"
"""Who answers, for the records."""
STARTING, READY, DEGRADED, DRAINING, STOPPED = "starting", "ready", "degraded", "draining", "stopped"
_LOOK = 1.0
"""Seconds between two looks at how the service is."""
_FILL_PAUSE = 0.02
"""Seconds between two containers that are inspected in order to know them: at the start that are many."""
_FILL_LOOK = 5.0
_SOCKET_MODE = 0o660
_FOLLOWED_WITHIN = 10.0
"""Seconds from the start after which events that are not followed are a trouble."""


async def serve(config: Config, manager: Manager) -> None:
    """Answer alerts on this host until SIGTERM or SIGINT.

    Raises:
        ValueError: certificate files cannot be used.
        OSError: an address cannot be listened on.
        SpoolError: the spool cannot be used.
    """
    policies = DeployedPolicies(pathlib.Path(config.policy_set))
    policies.refresh()
    async with contextlib.AsyncExitStack() as stack:
        # Before anything else: who starts a second one by mistake reads that the port is in use.
        sockets = [stack.enter_context(each) for each in listen(config, manager)]
        spool = await Spool.open(config.intake.spool_directory, limits_of(config.intake))
        stack.push_async_callback(spool.close)
        service = Service(config, manager, policies, spool)
        await service.run(sockets)


def listen(config: Config, manager: Manager) -> list[socket.socket]:
    """The sockets where alerts are taken: those of the service manager, or those that the configuration names.

    Raises OSError.
    """
    handed_over = manager.sockets()
    if handed_over:
        return handed_over
    with contextlib.ExitStack() as opened:
        found = [opened.enter_context(each) for each in accept.listen(config.intake.host, config.intake.port)]
        if config.socket:
            found.append(opened.enter_context(_listen_at(config.socket)))
        opened.pop_all()
    return found


def _listen_at(path: str) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if os.path.lexists(path) and stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)  # of one that was killed
        before = os.umask(0o777 & ~_SOCKET_MODE)
        try:
            listening.bind(path)
        finally:
            os.umask(before)
        listening.listen(1024)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        raise OSError(error.errno, f"cannot listen at {path}: {error.strerror}") from None
    return listening


class Service:
    """The parts of the service at work.

    Args:
        config: of the service.
        manager: that is told how it is.
        policies: that are deployed.
        spool: open.

    Attributes:
        state: C(starting), C(ready), C(degraded), C(draining) or C(stopped).
    """

    def __init__(self, config: Config, manager: Manager, policies: DeployedPolicies, spool: Spool) -> None:
        self.state = STARTING
        self._config = config
        self._manager = manager
        self._policies = policies
        self._files = StateDir(config.state_dir)
        retry = Retry(max_attempts=config.retry_max_attempts, backoff_base=config.retry_backoff_base / 1000)
        self._engine = engine = engine_of(config)
        self._inventory = inventory = Inventory(engine, inspections=Inspections())
        isolator = Isolator(
            engine,
            Journal(self._files),
            HostTruth(config.docker_host),
            retry,
            remembered=inventory.remembered,
        )
        setting = Setting(
            host=config.host,
            docker_host=config.docker_host,
            actor=ACTOR,
            delivered=True,
            aged=True,
            concurrency=config.max_concurrent_actions,
            retry=retry,
        )
        self._mode = Mode(pathlib.Path(config.mode))
        ground = Ground(
            host=config.host,
            docker_host=config.docker_host,
            actor=ACTOR,
            concurrency=config.max_concurrent_actions,
            engine=engine,
            inventory=inventory,
            files=self._files,
            isolator=isolator,
            policies=lambda: policies.in_force,
        )
        self._reporter = reporter = reporter_of(config, inventory)
        self._holder = holder = Holder(ground, self._recorded, reporter.breached if reporter else _nobody)
        self._watcher = Watcher(inventory, engine, holder.note)
        host = Host(
            config.host,
            Answerer(engine, self._files, setting, isolator),
            engine,
            inventory,
            lambda: policies.in_force,
            self._mode.read,
            self._recorded,
        )
        self._state_watch = StateWatch(self._files, self._shown)
        self._answering = Answering(host, self._tell)
        self._deliveries = Deliveries(spool, settings_of(config.intake), self._answering.put)
        tls = Tls(config.intake) if config.intake.certfile else None
        self._measures = Measures(lambda: holder.breaches, inventory.numbers, lambda: self.state)
        watching = [reporter.link] if reporter else []
        self._intake = Intake(config.intake, spool, self._deliveries, policies, tls, vital=[self], watching=watching)
        self._intake.health.further = self._measures.families
        self._spool = spool
        self._began = asyncio.get_running_loop().time()
        self._version = guard_version()
        self._said: list[str] = []
        self._followed = ("", 0)

    def troubles(self) -> list[str]:
        """What makes it degraded, beside what concerns the intake alone; a sentence each."""
        found = self._policies.troubles()
        watch = self._watcher.state
        late = asyncio.get_running_loop().time() - self._began > _FOLLOWED_WITHIN
        if not watch.connected_since and (watch.last_error or late):
            why = watch.last_error.message if watch.last_error else "they are not told"
            found.append(f"the events of the engine are not followed: {why}")
        found += [*self._mode.troubles(), *self._holder.troubles(), *self._state_watch.troubles()]
        return [*found, *(self._reporter.troubles() if self._reporter else ())]

    async def run(self, sockets: Sequence[socket.socket]) -> None:
        """Answer until it is asked to stop, and let end what is under way. Raises what a part raises."""
        gc.freeze()
        if self._reporter:
            self._reporter.catch_up(ActionLog(self._files), ACTOR)
        async with signals.stop_asked() as stop:
            with _reloading(self._policies), self._holder, self._watcher:
                # What a reboot, or a restart of the engine, has set free is held again before anything else.
                self._holder.look()
                working = [self._answering.run(self._deliveries), self._fill(), self._tend(stop)]
                working.append(self._state_watch.run())
                working += [self._reporter.run(self._beat)] if self._reporter else []
                tasks = [asyncio.create_task(part) for part in working]
                intake = asyncio.create_task(self._intake.run(stop, sockets))
                try:
                    done, _pending = await asyncio.wait([intake, *tasks], return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
                finally:
                    for task in [intake, *tasks]:
                        task.cancel()
                    await asyncio.wait([intake, *tasks])
        self.state = STOPPED

    async def _tend(self, stop: asyncio.Event) -> t.NoReturn:
        """See how the service is, and tell the service manager."""
        while True:
            troubles = self._intake.health.troubles()
            before = self.state
            self.state = DRAINING if stop.is_set() else DEGRADED if troubles else READY
            if self.state == DRAINING and before != DRAINING:
                self._manager.stopping("draining: what is under way is answered")
            elif (self.state, troubles) != (before, self._said):
                self._say(before, troubles)
            self._said = troubles
            self._manager.alive()
            watch = self._watcher.state
            # Whenever events are followed anew, something may have happened that nobody told of.
            if watch.connected_since and self._followed != (watch.connected_since, watch.renewals):
                self._followed = (watch.connected_since, watch.renewals)
                self._holder.look()
            if self.state == DRAINING:
                await asyncio.sleep(_LOOK)
            else:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stop.wait(), _LOOK)

    def _say(self, before: str, troubles: Sequence[str]) -> None:
        status = f"{self.state}: {'; '.join(troubles)}" if troubles else f"{self.state}: {self._policies.digest[:19]}"
        if before == STARTING:
            self._manager.ready(status)
        else:
            self._manager.status(status)
        (logger.warning if troubles else logger.info)("The service is %s", status)

    def _shown(self) -> dict[str, t.Any]:
        """What the service says of itself."""
        return {"state": self.state, "troubles": list(self._said), "policy_set_digest": self._policies.digest}

    def _recorded(self, events: Sequence[ActionEvent]) -> None:
        """Something was put on record."""
        self._measures.take(events)
        if self._reporter:
            self._reporter.recorded(events)

    async def _fill(self) -> t.NoReturn:
        """Get to know containers before there is an alert about them."""
        while not await asyncio.to_thread(self._watcher.wait_in_step, _FILL_LOOK):
            pass
        while True:
            try:
                more = await asyncio.to_thread(self._inventory.fill)
            except GuardError:  # the watch tells of the engine
                more = False
            await asyncio.sleep(_FILL_PAUSE if more else _FILL_LOOK)

    async def _tell(self, unanswered: Sequence[Mapping[str, t.Any]]) -> None:
        """What nobody answered is in the log, as the intake has put it there, and goes to the controller."""
        if self._reporter:
            await asyncio.to_thread(self._reporter.unanswered, unanswered)

    async def _beat(self) -> dict[str, t.Any]:
        """How the service is, for the controller."""
        troubles = self._intake.health.troubles()
        return {
            "state": DRAINING if self.state == DRAINING else DEGRADED if troubles else READY,
            "troubles": troubles,
            "version": self._version,
            "policy_set_digest": self._policies.digest,
            "isolated": await asyncio.to_thread(self._holder.number),
            "accounts": dict(self._spool.accounts),
        }


def _nobody(_what: object) -> None:
    """There is nobody to tell."""


def engine_of(config: Config) -> Engine:
    """The engine, connected when it is asked for the first time, and again where that failed."""
    return connected_when_asked(lambda: DockerEngine(config.docker_host, config.action_timeout))


@contextlib.contextmanager
def _reloading(policies: DeployedPolicies) -> t.Iterator[None]:
    """SIGHUP has the policies read again."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, policies.ask)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
