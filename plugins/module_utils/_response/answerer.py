# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Answering alerts on one host: all that it takes, put together.

A module does it once, the host service for as long as it lives.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import utc_now
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import NO_RETRY, Retry
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.ground_truth import HostTruth
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import FAILED, OUTCOMES
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.decision import Decision
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import ENFORCE
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_event import ActionEvent
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.action_log import ActionLog
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.answered import Answered
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.intents import Intents
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.judge import Judge
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.limits import Limiter
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.mutes import Mutes
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.responder import Responder, Response
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir

if t.TYPE_CHECKING:
    from ansible_collections.ironpost.container_guard.plugins.module_utils._response.gathering import Gathering


class Policies:
    """A policy set, and what is worked out of it once.

    Args:
        policy_set: as it is deployed.

    Attributes:
        digest: of the set.
        engine: the compiled set.
        periods: by policy id, seconds within which repeats of a decision are one record.
        want_evidence: whether any of its policies does.
        on_breach: by policy id, what is done where somebody undoes an isolation of it.
    """

    def __init__(self, policy_set: PolicySet) -> None:
        self.digest = policy_set.digest
        self.engine = PolicyEngine(policy_set)
        self.periods = {policy.id: policy.cooldown for policy in policy_set.policies if policy.cooldown}
        self.on_breach = {policy.id: policy.on_breach for policy in policy_set.policies}
        self.want_evidence = any(policy.evidence for policy in policy_set.policies)


@dataclasses.dataclass(frozen=True)
class Setting:
    """Where and how alerts are answered.

    Attributes:
        host: inventory name of this host; empty where it has none.
        docker_host: URL by which the engine is reached.
        actor: who answers, for the records.
        delivered: alerts come from an intake, which delivers them again until they are answered; those that a person
            gives count each time.
        aged: alerts have an age, by the clock of whoever received them.
        check: only say what would be done.
        concurrency: how many containers are worked on at a time, 1 to 100.
        retry: how often to try again what may pass.
        clock: this moment, by the clock of whoever received the alerts.
        absent: inventory names of hosts that nobody answers for, and why that is so.
    """

    host: str = ""
    docker_host: str = ""
    actor: str = ""
    delivered: bool = False
    aged: bool = False
    check: bool = False
    concurrency: int = 10
    retry: Retry = NO_RETRY
    clock: t.Callable[[], datetime.datetime] = utc_now
    absent: t.Mapping[str, str] = dataclasses.field(default_factory=dict)


class Answerer:
    """Answers alerts on one host, batch by batch, and puts on record what was done.

    Args:
        engine: of the host.
        files: its state directory, whose C(warnings) say what did not work.
        setting: where and how.
        isolator: isolates; None to make one.
    """

    def __init__(self, engine: Engine, files: StateDir, setting: Setting, isolator: Isolator | None = None) -> None:
        self._engine = engine
        self._files = files
        self._setting = setting
        self._journal = Journal(files)
        self._isolator = isolator
        self._log = ActionLog(files)
        self._answered = Answered(files) if setting.delivered else None
        self._intents: Intents | None = None
        self._gathering: Gathering | None = None
        self._periods: t.Mapping[str, int] = {}

    @property
    def log(self) -> ActionLog:
        """The action log of the host."""
        return self._log

    def answer(
        self, alerts: t.Sequence[Alert], policies: Policies, resolver: Resolver | None = None, mode: str = ENFORCE
    ) -> tuple[list[Response], tuple[str, ...]]:
        """Decide and act: one response for each alert and container, and what the reader should know of this host.

        Args:
            alerts: a batch of them.
            policies: by which.
            resolver: finds the containers; None to ask the engine for all of them.
            mode: C(audit) to watch only, C(enforce) to leave it to the policies.
        """
        self._periods = policies.periods
        self._intents = None if self._setting.check else Intents(self._log, self._files.warnings)
        self._gathering = self._gathering_for(policies)
        if not alerts:
            return [], ()
        setting = self._setting
        judge = Judge(
            policies.engine,
            resolver or Resolver(self._engine),
            setting.host,
            setting.docker_host,
            mode,
            setting.clock() if setting.aged else None,
            journal=self._journal,
            absent=setting.absent,
            mutes=Mutes(self._files).holding(setting.clock()),
        )
        responder = Responder(
            judge,
            self._isolating(),
            self._journal,
            Limiter(self._files, policies.engine.limits),
            host=setting.host,
            actor=setting.actor,
            concurrency=setting.concurrency,
            check=setting.check,
            answered=self._answered,
            intents=self._intents,
            gathering=self._gathering,
        )
        return responder.respond(alerts), judge.warnings

    def unanswered(self, alert: Alert, error: GuardError) -> Response:
        """The response to an alert that could not even be decided."""
        event = ActionEvent(
            FAILED,
            trace_id=alert.trace_id,
            alert_id=alert.id,
            source=alert.source,
            rule=alert.rule,
            host=self._setting.host,
            actor=self._setting.actor,
            timeline={"accepted": alert.received_at},
        ).with_error(error)
        return Response(Decision(FAILED, alert.id, alert.trace_id, explain=lambda: (str(error),)), event)

    def record(self, responses: t.Sequence[Response]) -> set[str]:
        """Put on record what was done; the ids of events that have a record. Raises ActionLogError."""
        if self._setting.check:
            return set()
        ends = self._intents.ends if self._intents else []
        return self._log.append([*ends, *(one.event for one in responses if one.event)], self._periods)

    def remember(self, responses: t.Sequence[Response], recorded: t.Collection[str]) -> None:
        """Remember what was answered, so that it is not answered again where it is delivered again.

        Args:
            responses: the answers.
            recorded: ids of the events that have a record.
        """
        if not self._answered or self._setting.check:
            return
        # An alert that reaches several containers is answered once it is for all of them.
        unanswered = {one.key for one in responses if not OUTCOMES[one.outcome].answers}
        answers = [response.answer for response in responses if response.event]
        self._answered.remember(
            # Repeats that are only counted have no record of their own.
            answer if answer.record_id in recorded else answer._replace(record_id="")
            for answer in answers
            if answer.key not in unanswered
        )

    @property
    def gathering(self) -> Gathering | None:
        """What evidence of the last batch is to be collected, as that may take long; None where there is none."""
        return self._gathering

    def _isolating(self) -> Isolator:
        if self._isolator is None:
            setting = self._setting
            truth = HostTruth(setting.docker_host)
            self._isolator = Isolator(self._engine, self._journal, truth, setting.retry, now=setting.clock)
        return self._isolator

    def _gathering_for(self, policies: Policies) -> Gathering | None:
        if self._setting.check or not policies.want_evidence:
            return None
        # Most policies want none, and what is not imported costs no time.
        from ansible_collections.ironpost.container_guard.plugins.module_utils._evidence.collector import Collector
        from ansible_collections.ironpost.container_guard.plugins.module_utils._response.gathering import Gathering

        collector = Collector(self._engine, self._files.path, self._setting.host)
        return Gathering(collector, self._setting.concurrency, self._setting.host, actor=self._setting.actor)
