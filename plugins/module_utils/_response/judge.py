# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deciding alerts on one host: which container is meant, what the policies say, and what must not be touched."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import age, text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert, ContainerRef, Subject
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.sources import source_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import utc_now
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.container import Container
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import ResolutionError, Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.journal import Journal
from ansible_collections.ironpost.container_guard.plugins.module_utils._outcomes import (
    AMBIGUOUS,
    AUDIT,
    EXPIRED,
    FAILED,
    GONE,
    MUTED,
    NO_CONTAINER,
    NO_POLICY,
    NOT_TOLD,
    OTHER_HOST,
    OUTCOMES,
    OWN_EFFECT,
    PROTECTED,
    STALE,
    TOO_MANY_MATCHES,
    UNKNOWN_HOST,
    UNRESOLVED,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action, preceded
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.decision import ISOLATE, Decision
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import (
    ALERT_CONTAINER,
    ENFORCE,
    Policy,
    stricter,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.locating import Locator
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.mutes import Mute
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.neighbours import neighbour_warnings
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.own_effects import OwnEffects
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.protection import Protection

_NOT_ONE = {"ambiguous": AMBIGUOUS, "stale": STALE, "no_container": NO_CONTAINER}


class Verdict(t.NamedTuple):
    """A decision, and what it came from.

    Attributes:
        alert: with this host as its inventory host.
        decision: what is to be done.
        policy: that answers, or None.
        error: why what the decision needs cannot be known, or None.
        recorded: whether it is worth a record, where a policy wants the alert.
        warnings: what the reader should know of the alert beside the decision.
    """

    alert: Alert
    decision: Decision
    policy: Policy | None = None
    error: GuardError | None = None
    recorded: bool = True
    warnings: tuple[str, ...] = ()

    @property
    def leaves_record(self) -> bool:
        """Whether a policy made the decision, or would have, had one container been meant."""
        return self.recorded and self.decision.outcome not in (NO_POLICY, OTHER_HOST)

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is done about it, and nobody is told."""
        meaning = OUTCOMES.get(self.decision.outcome)  # there is none for a decision that acts
        return meaning is not None and meaning.green and meaning.told == NOT_TOLD

    def turned_down(self, outcome: str, *reasons: str) -> Verdict:
        """The verdict with another outcome, and why."""
        return self._replace(decision=self.decision.turned_down(outcome, *reasons))


class Judge:
    """Decides alerts on one host, and touches nothing.

    Reasons are worked out when they are read. An engine that is connected when it is asked is not connected for alerts
    about other hosts, about no container of Docker, that no policy wants, or that are too old.

    Args:
        policies: the compiled policy set.
        resolver: finds containers.
        host: inventory name of this host; empty where it has none.
        docker_host: where the engine is reached, so that a proxy in front of it is not cut off.
        mode: C(audit) to watch only, C(enforce) to leave it to the policies. The strictest of this, the policy set and
            the policy counts. Raises PolicyError (C(invalid_option)) for another.
        now: this moment by the clock of the controller that received the alerts; None where their age does not count,
            as that of alerts which a person gives.
        clock: this moment by the clock of this host.
        journal: of this host, which knows what isolated containers were; None where there is none.
        absent: inventory names of hosts that nobody answers for, and why that is so.
        mutes: that hold now.
    """

    def __init__(
        self,
        policies: PolicyEngine,
        resolver: Resolver,
        host: str = "",
        docker_host: str = "",
        mode: str = ENFORCE,
        now: datetime.datetime | None = None,
        clock: t.Callable[[], datetime.datetime] = utc_now,
        journal: Journal | None = None,
        absent: t.Mapping[str, str] | None = None,
        mutes: t.Sequence[Mute] = (),
    ) -> None:
        self._policies = policies
        self._resolver = resolver
        self._absent = absent or {}
        self._locator = Locator(resolver, journal)
        self._own_effects = OwnEffects(journal) if journal else None
        self._protection = Protection(resolver, policies, docker_host)
        self._host = host
        self._mode = stricter(ENFORCE, mode)
        self._mutes = mutes
        self._now = now
        skew = age.clock_skew(clock(), now) if now else ""
        self.warnings = (skew,) if skew else ()
        """What the reader should know of this host."""

    def decide(self, alert: Alert) -> list[Verdict]:
        """What is to be done about the alert on this host: one verdict, or one for each container it reaches.

        Raises EngineError.
        """
        addressed = self._addressed(alert)
        if addressed is False and alert.inventory_host in self._absent:
            why = self._absent[alert.inventory_host]
            return [_verdict(alert, UNKNOWN_HOST, why, recorded=False)]
        if addressed is False:
            return [_verdict(alert, OTHER_HOST, f"it is about host {alert.inventory_host}")]
        if self._host:
            # Policies ask for the host that the container is on, and it is looked for here.
            alert = dataclasses.replace(alert, inventory_host=self._host)
        not_docker = alert.subject is Subject.NOT_DOCKER
        if not self._policies.wants(alert, ALERT_CONTAINER if not_docker else None):
            return [self._judged(alert, None)]
        if not_docker:
            name = f", {alert.container.name}" if alert.container.name else ""
            return [
                _verdict(alert, NO_CONTAINER, f"it is about the host or a container that Docker does not run{name}")
            ]
        skew = age.skew_of(alert) if self._now else ""
        mute = self._mute_of_host(alert) if addressed else None
        verdicts = self._decide_muted(alert, mute) if mute else self._decide_in_time(alert, addressed is True)
        return [verdict._replace(warnings=(skew,)) for verdict in verdicts] if skew else verdicts

    def neighbour_warnings(self, container_id: str, actions: t.Iterable[t.Mapping[str, t.Any]]) -> tuple[str, ...]:
        """What to say of other containers once this one was isolated by these actions."""
        return neighbour_warnings(self._resolver, container_id, actions)

    def _addressed(self, alert: Alert) -> bool | None:
        """Whether the alert is about this host; None where that is not known."""
        if alert.inventory_host:
            return alert.inventory_host == self._host
        return True if alert.host and alert.host == self._host else None

    def _mute_of_host(self, alert: Alert) -> Mute | None:
        return next((mute for mute in self._mutes if mute.of_host and mute.covers(alert)), None)

    def _decide_muted(self, alert: Alert, mute: Mute) -> list[Verdict]:
        """The verdicts on an alert about a host that is muted: nobody is told of it, not even where it fails."""
        try:
            verdicts = self._decide_in_time(alert, host_known=True)
        except EngineError as error:
            return [_verdict(alert, MUTED, str(error), str(mute))]
        return [
            verdict if verdict.is_quiet else verdict._replace(error=None).turned_down(MUTED, str(mute))
            for verdict in verdicts
        ]

    def _decide_in_time(self, alert: Alert, host_known: bool) -> list[Verdict]:
        return self._too_old(alert) or self._decide_wanted(alert, host_known)

    def _too_old(self, alert: Alert) -> list[Verdict]:
        most = self._policies.limits.max_alert_age
        if self._now is None or not most:
            return []
        seconds = age.age_of(alert, self._now).total_seconds()
        return (
            [_verdict(alert, EXPIRED, f"it is {seconds:.0f} seconds old, of at most {most}")] if seconds > most else []
        )

    def _decide_wanted(self, alert: Alert, host_known: bool) -> list[Verdict]:
        note = _how_to_name_it(alert)
        try:
            if alert.subject is not Subject.NOTHING:
                return [self._judged(alert, self._locator.named(alert, host_known), note)]
            container = self._at_an_address(alert, host_known)
            if container is None:
                return self._decide_matching(alert, host_known)
            alert = dataclasses.replace(
                alert, container=ContainerRef(container.id, addresses=alert.container.addresses)
            )
            return [self._judged(alert, container, (f"it is at one end of the flow, {_flow(alert)}",))]
        except ResolutionError as error:
            missing = GONE if alert.container.id else UNRESOLVED
            outcome = _NOT_ONE.get(error.kind, missing)
            # Where the host is not known all hosts are asked, and all but one of them do not have the container.
            return [_verdict(alert, outcome, str(error), *note, recorded=host_known or outcome != GONE)]
        except EngineError as error:
            if not self._resolver.listed:
                raise
            # One container that cannot be inspected must not keep others from being isolated.
            return [_verdict(alert, FAILED, str(error), error=error)]

    def _at_an_address(self, alert: Alert, host_known: bool) -> Container | None:
        """The container whose address the alert says, where a policy for alerts that name one wants it."""
        if not self._policies.wants(alert, ALERT_CONTAINER):
            return None
        return self._locator.addressed(alert, host_known)

    def _decide_matching(self, alert: Alert, host_known: bool) -> list[Verdict]:
        if not host_known:
            return [_verdict(alert, UNRESOLVED, "it names no container, and its host is not known to be this one")]
        unreadable: dict[str, EngineError] = {}
        containers = self._resolver.all(unreadable, lambda name: self._policies.may_reach(alert, name))
        wanted = []
        for container in containers:
            try:
                verdict = self._judged(alert, container)
            except EngineError as error:  # of a container that shares its network
                unreadable[container.name] = error
            else:
                wanted += [verdict] if verdict.policy else []
        failed = [
            _verdict(alert, FAILED, f"it may mean container {text.display(name, 80)}: {error}", error=error)
            for name, error in unreadable.items()
        ]
        if not wanted:
            return failed or [self._judged(alert, None)]
        acting = sum(verdict.decision.outcome == ISOLATE for verdict in wanted)
        most = self._policies.limits.max_containers_per_alert
        if acting > most:
            reason = f"it names no container, and {acting} containers match, of at most {most}"
            wanted = [
                verdict.turned_down(TOO_MANY_MATCHES, reason) if verdict.decision.outcome == ISOLATE else verdict
                for verdict in wanted
            ]
        return wanted + failed

    def _judged(self, alert: Alert, container: Container | None, notes: t.Sequence[str] = ()) -> Verdict:
        judgement = self._policies.judge(alert, container)
        policy = judgement.policy
        decision = Decision(
            outcome=judgement.outcome,
            alert_id=alert.id,
            trace_id=alert.trace_id,
            container=_shown(container) if container else None,
            explain=lambda: (*judgement.explain(), *notes),
        )
        if policy is None or container is None:
            return Verdict(alert, decision)
        decision = dataclasses.replace(
            decision,
            policy_id=policy.id,
            actions=preceded(policy.actions),
            fallback=preceded(policy.fallback),
            evidence=policy.evidence,
            release_after=policy.release_after,
        )
        verdict = Verdict(alert, decision, policy)
        return self._held_back(verdict, policy, container) if decision.outcome == ISOLATE else verdict

    def _held_back(self, verdict: Verdict, policy: Policy, container: Container) -> Verdict:
        """The verdict of a policy that would isolate the container, or why it must not. Raises EngineError."""
        reason = self._own_effects.explain(verdict.alert, container.id) if self._own_effects else ""
        if reason:
            return verdict.turned_down(OWN_EFFECT, reason)
        decision = verdict.decision
        reason = self._protection.reason(container, decision.actions)
        reason = reason or self._excluded_owner(container, policy, decision.actions)
        if reason:
            return verdict.turned_down(PROTECTED, reason)
        if self._mode == AUDIT:
            return verdict.turned_down(AUDIT, "only watching was asked for (mode audit)")
        mutes = [mute for mute in self._mutes if mute.means(policy.id, container)]
        for mute in mutes:
            if mute.covers(verdict.alert):
                return verdict.turned_down(MUTED, str(mute))
        if mutes:
            verdict = verdict.turned_down(ISOLATE, f"{mutes[0]}; but the alert is critical")
        reason = self._protection.reason(container, decision.fallback) if decision.fallback else ""
        reason = reason or self._excluded_owner(container, policy, decision.fallback)
        if reason:
            verdict = verdict.turned_down(ISOLATE, f"without a fallback: {reason}")
            verdict = verdict._replace(decision=dataclasses.replace(verdict.decision, fallback=()))
        return verdict

    def _excluded_owner(self, container: Container, policy: Policy, actions: t.Sequence[Action]) -> str:
        """Why the actions would reach a container that the policy excludes, or empty. Raises EngineError.

        Who uses the network of another is cut off by taking that one off its networks.
        """
        if not policy.exclude or all(action.type != "network_disconnect" for action in actions):
            return ""
        owner = self._resolver.network_owner(container.id)
        met = [condition for condition in policy.exclude.conditions(owner) if condition.met] if owner else []
        if owner is None or not met:
            return ""
        return f"it uses the network of container {owner.name}, which policy {policy.id} excludes: {met[0]}"


def _verdict(
    alert: Alert, outcome: str, *reasons: str, error: GuardError | None = None, recorded: bool = True
) -> Verdict:
    decision = Decision(outcome=outcome, alert_id=alert.id, trace_id=alert.trace_id, explain=lambda: reasons)
    return Verdict(alert, decision, error=error, recorded=recorded)


def _how_to_name_it(alert: Alert) -> tuple[str, ...]:
    """What makes the detector say which container it means, where it does not."""
    how = source_of(alert.source).how_to_say_the_id if alert.subject is Subject.UNIDENTIFIED else ""
    return (text.display(f"its container has no id: {how.format(rule=alert.rule)}"),) if how else ()


def _flow(alert: Alert) -> str:
    return " - ".join(alert.container.addresses)


def _shown(container: Container) -> dict[str, t.Any]:
    # Image references and label values come from whoever starts containers.
    return {name: text.display(value) for name, value in container.to_dict().items()}
