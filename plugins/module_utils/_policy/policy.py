# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The policy: when an alert is of interest, which containers it may reach, and what then happens to them."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert, Subject
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.sources import source_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy import breach
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.breach import OnBreach
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.evidence import NO_EVIDENCE, Evidence
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.glob import compiled

ENFORCE, AUDIT = "enforce", "audit"
MODES = (ENFORCE, AUDIT)
"""How far policies may go, from the laxest to the strictest."""
ALERT_CONTAINER, MATCHING_CONTAINERS = "alert_container", "matching_containers"
SCOPES = (ALERT_CONTAINER, MATCHING_CONTAINERS)


class Target(t.Protocol):
    """What a policy can see of a container."""

    @property
    def name(self) -> str:
        """As the engine names it, without the slash."""

    @property
    def images(self) -> tuple[str, ...]:
        """The names by which policies may know its image."""

    @property
    def labels(self) -> t.Mapping[str, str]:
        """Its labels."""


@dataclasses.dataclass(frozen=True)
class Condition:
    """One condition of a policy, and whether it is met.

    Attributes:
        field: the key of the policy, such as C(rules).
        met: whether it is met.
        wanted: what the policy asks for.
        found: what the alert or the container has.
    """

    field: str
    met: bool
    wanted: str
    found: str

    def __str__(self) -> str:
        verb = "matches" if self.met else "does not match"
        # Labels and image references come from whoever starts containers.
        return text.display(f"{self.field} {self.wanted} {verb} {self.found}")


@dataclasses.dataclass(frozen=True)
class TargetFilter:
    """Globs over names, image references and labels. A list matches when one of its entries does.

    Attributes:
        container_names: globs for the name.
        image_patterns: globs for the image reference as given, and for its short form.
        labels: C(key), or C(key=glob) for the value.
    """

    container_names: tuple[str, ...] = ()
    image_patterns: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()

    @classmethod
    def from_dict(cls, value: t.Mapping[str, t.Any] | None) -> TargetFilter:
        """The filter in a mapping that the schema has checked."""
        return cls(**{name: tuple((value or {}).get(name) or ()) for name in cls._fields()})

    @classmethod
    def _fields(cls) -> tuple[str, ...]:
        return tuple(field.name for field in dataclasses.fields(cls))

    def to_dict(self) -> dict[str, list[str]]:
        """The lists that are not empty."""
        return {name: list(getattr(self, name)) for name in self._fields() if getattr(self, name)}

    def __bool__(self) -> bool:
        return bool(self.container_names or self.image_patterns or self.labels)

    def conditions(self, target: Target) -> list[Condition]:
        """One condition for each list that is not empty."""
        found = []
        if self.container_names:
            found.append(_any_of("container_names", self.container_names, [target.name]))
        if self.image_patterns:
            found.append(_any_of("image_patterns", self.image_patterns, image_forms(target.images)))
        if self.labels:
            met = any(_label_matches(wanted, target.labels) for wanted in self.labels)
            labels = sorted(f"{key}={value}" for key, value in target.labels.items())
            found.append(Condition("labels", met, _listed(self.labels), _listed(labels)))
        return found


NO_FILTER = TargetFilter()


@dataclasses.dataclass(frozen=True)
class Policy:
    """One policy.

    Attributes:
        id: unique in its set.
        name, description: for people.
        enabled: a disabled policy never matches.
        priority: lower is asked first; policies of one priority are asked in the order of their ids.
        mode: C(enforce) acts, C(audit) only records what it would have done.
        severity_threshold: least severity of an alert.
        sources, rules, tags: globs over the alert; empty for any.
        hosts: globs over the host that the alert is about: its inventory name, or what the detector says where that is
            not known.
        scope: C(alert_container) answers alerts that mean one container, with that one. C(matching_containers)
            answers alerts that say nothing about containers, with the containers of their host that the filter matches.
        target_filter: every list of it that is not empty must match.
        exclude: a container that matches any list of it is not reached.
        actions: what is done, at least one.
        fallback: what is done instead where none of the actions can work on the container; may be empty.
        evidence: what to collect of the container.
        cooldown: seconds in which the policy does not act again on a container that it acted on; 0 for none.
        release_after: seconds until the container is to be released; 0 for never.
        on_breach: what is done where somebody undoes an isolation.
    """

    id: str
    actions: tuple[Action, ...]
    name: str = ""
    description: str = ""
    enabled: bool = True
    priority: int = 100
    mode: str = "enforce"
    severity_threshold: Severity = Severity.INFO
    sources: tuple[str, ...] = ()
    rules: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    scope: str = ALERT_CONTAINER
    target_filter: TargetFilter = NO_FILTER
    exclude: TargetFilter = NO_FILTER
    fallback: tuple[Action, ...] = ()
    evidence: Evidence = NO_EVIDENCE
    cooldown: int = 0
    release_after: int = 0
    on_breach: OnBreach = breach.DEFAULT

    @classmethod
    def from_dict(cls, value: t.Mapping[str, t.Any]) -> Policy:
        """The policy in a mapping that the schema has checked."""
        target_filter = value.get("target_filter") or {}
        actions = value.get("actions") or [value["action"]]
        return cls(
            id=value["id"],
            actions=tuple(Action.from_dict(action) for action in actions),
            name=value.get("name") or value["id"],
            description=value.get("description") or "",
            enabled=value.get("enabled", True),
            priority=value.get("priority", 100),
            mode=value.get("mode", "enforce"),
            severity_threshold=Severity.parse(value.get("severity_threshold", "info")),
            sources=tuple(value.get("sources") or ()),
            rules=tuple(value.get("rules") or ()),
            tags=tuple(value.get("tags") or ()),
            hosts=tuple(value.get("hosts") or ()),
            scope=value.get("scope", ALERT_CONTAINER),
            target_filter=TargetFilter.from_dict(target_filter),
            exclude=TargetFilter.from_dict(target_filter.get("exclude")),
            fallback=tuple(Action.from_dict(action) for action in value.get("fallback") or ()),
            evidence=Evidence.from_list(value.get("evidence") or ()),
            cooldown=value.get("cooldown", 0),
            release_after=value.get("release_after", 0),
            on_breach=OnBreach.from_value(value.get("on_breach")),
        )

    def to_dict(self) -> dict[str, t.Any]:
        """The policy in its one canonical spelling, which from_dict reads back to an equal policy."""
        target_filter: dict[str, t.Any] = self.target_filter.to_dict()
        if self.exclude:
            target_filter["exclude"] = self.exclude.to_dict()
        return {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "enabled": self.enabled,
            "priority": self.priority,
            "mode": self.mode,
            "severity_threshold": str(self.severity_threshold),
            "sources": list(self.sources),
            "rules": list(self.rules),
            "tags": list(self.tags),
            "hosts": list(self.hosts),
            "scope": self.scope,
            "target_filter": target_filter,
            "actions": [action.to_dict() for action in self.actions],
            "fallback": [action.to_dict() for action in self.fallback],
            "evidence": self.evidence.to_list(),
            "cooldown": self.cooldown,
            "release_after": self.release_after,
            # Sets of older versions keep their digests.
            **({} if self.on_breach == breach.DEFAULT else {"on_breach": self.on_breach.to_dict()}),
        }

    def alert_conditions(self, alert: Alert) -> list[Condition]:
        """The conditions on the alert. This plain reading is what the engine must agree with."""
        severity = alert.severity
        met = severity >= self.severity_threshold
        found = [Condition("severity_threshold", met, str(self.severity_threshold), str(severity))]
        found.append(Condition("scope", self.scope == scope_of(alert), self.scope, _subject(alert)))
        for field, wanted, values in (
            ("sources", self.sources, [alert.source]),
            ("rules", self.rules, [alert.rule]),
            ("tags", self.tags, list(alert.tags)),
            ("hosts", self.hosts, hosts_of(alert)),
        ):
            if wanted:
                found.append(_any_of(field, wanted, values))
        return found

    def target_conditions(self, target: Target) -> list[Condition]:
        """The conditions on the container. This plain reading is what the engine must agree with."""
        found = self.target_filter.conditions(target)
        for condition in self.exclude.conditions(target):
            if condition.met:
                found.append(dataclasses.replace(condition, field=f"exclude.{condition.field}", met=False))
        return found


def stricter(mode: str, other: str) -> str:
    """The stricter of two modes. Raises PolicyError where one is none."""
    for given in (mode, other):
        if given not in MODES:
            raise PolicyError(
                f"the mode {text.display(given, 80)!r} is unknown",
                kind="invalid_option",
                remedy="Use {}".format(" or ".join(MODES)),
            )
    return max(mode, other, key=MODES.index)


def scope_of(alert: Alert) -> str:
    """The scope of the policies that may answer the alert; empty where none may."""
    if alert.subject in (Subject.CONTAINER, Subject.UNIDENTIFIED):
        return ALERT_CONTAINER
    if alert.subject is Subject.NOTHING and not source_of(alert.source).names_containers:
        return MATCHING_CONTAINERS
    return ""


def scopes_of(alert: Alert) -> tuple[str, ...]:
    """The scopes of all policies that might: what is at an address may turn out to be one container."""
    scope = scope_of(alert)
    return (ALERT_CONTAINER, scope) if alert.container.addresses and scope == MATCHING_CONTAINERS else (scope,)


_NAMES_ONE = "an alert that names a container"
_SUBJECTS = {
    Subject.CONTAINER: _NAMES_ONE,
    Subject.UNIDENTIFIED: "an alert that means a container and does not say which",
    Subject.NOT_DOCKER: "an alert about the host, or a container that Docker does not run",
    Subject.NOTHING: "an alert that says nothing about containers",
}


def _subject(alert: Alert) -> str:
    if alert.container:
        return _NAMES_ONE
    named = alert.subject is Subject.NOTHING and source_of(alert.source).names_containers
    return _SUBJECTS[alert.subject] + (f", from {alert.source}, which names them" if named else "")


def hosts_of(alert: Alert) -> list[str]:
    """The name of the host that the alert is about: what the detector says counts only where nobody else knows."""
    return [host for host in (alert.inventory_host or alert.host,) if host]


def image_forms(images: t.Iterable[str]) -> list[str]:
    """The references and their short forms: without C(docker.io/library/), and with the implied tag C(latest)."""
    forms: dict[str, None] = {}
    for image in images:
        short = image
        for prefix in ("docker.io/", "library/"):
            if short.startswith(prefix):
                short = short[len(prefix) :]
        for form in (image, short):
            forms[form] = None
            if lacks_tag(form):
                forms[f"{form}:latest"] = None
    return list(forms)


def lacks_tag(image: str) -> bool:
    """Whether an image reference says no tag, and no digest.

    To the engine it then means C(latest). A detector that says it so may only have left the tag out.
    """
    return "@" not in image and ":" not in image.rpartition("/")[2] and not image.startswith("sha256:")


def _any_of(field: str, patterns: t.Sequence[str], values: t.Sequence[str]) -> Condition:
    met = any(compiled(pattern).matches(value) for pattern in patterns for value in values)
    return Condition(field, met, _listed(patterns), _listed(values))


def _label_matches(wanted: str, labels: t.Mapping[str, str]) -> bool:
    key, separator, pattern = wanted.partition("=")
    return key in labels and (not separator or compiled(pattern).matches(labels[key]))


def _listed(values: t.Sequence[str]) -> str:
    shown = ", ".join(values[:5]) + (", ..." if len(values) > 5 else "")
    return f"[{shown}]"
