# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Policy tests: cases of an alert, a container, and what the policies are expected to say about them.

They stand in the folder C(tests) of a policy directory and are described in C(docs/policy-tests.md).
"""

from __future__ import annotations

import dataclasses
import difflib
import pathlib
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import (
    Alert,
    ContainerRef,
    Subject,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import alert_from_object
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import ACTION_TYPES
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import (
    ALERT_CONTAINER,
    AUDIT,
    MATCHING_CONTAINERS,
    SCOPES,
    Policy,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.files import (
    TESTS,
    PolicyFile,
    read_policy_files,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.findings import Finding

MAX_CASES = 10_000
"""Most cases that a policy directory may have."""
OUTCOMES = ("isolate", "audit", "protected", "no_policy")
_KEYS = ("name", "alert", "scope", "container", "host", "expect")
_MAX_SHOWN = 50


@dataclasses.dataclass(frozen=True)
class CaseContainer:
    """The container of a case, as policies see it."""

    name: str
    images: tuple[str, ...] = ()
    labels: t.Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Expectation:
    """What a policy set says, or is expected to say.

    Attributes:
        outcome: one of OUTCOMES.
        policy_id: id of the policy that answers, or empty for C(no_policy).
        actions: types of its actions, sorted; None where any will do.
        approval: whether one of them waits for approval; None where that does not matter.
    """

    outcome: str
    policy_id: str = ""
    actions: tuple[str, ...] | None = None
    approval: bool | None = None

    def __str__(self) -> str:
        policy = f" by {self.policy_id}" if self.policy_id else ""
        approval = {None: "", True: " after approval", False: " without approval"}[self.approval]
        return f"{self.outcome}{policy}" + (f" with {', '.join(self.actions)}" if self.actions else "") + approval


@dataclasses.dataclass(frozen=True)
class Case:
    """One policy test.

    Attributes:
        file: where it stands, relative to the policy directory.
        name: unique in its file.
        alert: names a container unless the case is about alerts that name none.
        container: what the alert is about; None asks whether any policy wants the alert, whatever it is about.
        expected: what the policy set must say.
    """

    file: str
    name: str
    alert: Alert
    container: CaseContainer | None
    expected: Expectation


@dataclasses.dataclass(frozen=True)
class Failure:
    """A case that did not come out as expected.

    Attributes:
        case: the case.
        actual: what the policy set says.
        reasons: why, and why not what was expected.
    """

    case: Case
    actual: Expectation
    reasons: tuple[str, ...]

    def __str__(self) -> str:
        lines = [
            f"{self.case.file}: {self.case.name}",
            f"  expected: {self.case.expected}",
            f"  actual:   {self.actual}",
            *(f"    {reason}" for reason in self.reasons),
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, t.Any]:
        """The failure as the action plugin returns it."""
        return {
            "file": self.case.file,
            "case": self.case.name,
            "expected": dataclasses.asdict(self.case.expected),
            "actual": dataclasses.asdict(self.actual),
            "reasons": list(self.reasons),
        }


class Checked(t.NamedTuple):
    """Policy tests that all passed: how many, and what to look at nevertheless."""

    passed: int
    warnings: tuple[Finding, ...] = ()


def check_cases(source: pathlib.Path, policy_set: PolicySet) -> Checked:
    """Run the policy tests beside the policies.

    Args:
        source: the policy directory. Where it has no folder C(tests), or is a file, there is nothing to run.
        policy_set: what was compiled from it.

    Raises:
        PolicyError: C(policies_invalid) where cases cannot be read, with every problem in C(details["findings"]), and
            C(policy_tests_failed) with every failing case in C(details["failures"]).
    """
    directory = source / TESTS
    if not directory.is_dir() or directory.is_symlink():
        if not directory.is_symlink() and not directory.exists():
            return Checked(0)
        raise PolicyError(
            f"{directory} is not a directory, so the policy tests cannot be run",
            remedy="Make it one, or give it another name",
        )
    cases, findings = load_cases(directory, policy_set)
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        raise PolicyError(
            f"the policy tests in {directory} have {_count(errors, 'problem')}:\n{_shown(errors)}",
            remedy="Nothing was deployed, and what was deployed before stays",
            details={"findings": [finding.to_dict() for finding in findings]},
        )
    failures = run_cases(cases, policy_set)
    if failures:
        raise PolicyError(
            f"{len(failures)} of {_count(cases, 'policy test')} in {directory} failed:\n{_shown(failures)}",
            kind="policy_tests_failed",
            remedy="Mend the policies or the tests. Nothing was deployed, and what was deployed before stays",
            details={"failures": [failure.to_dict() for failure in failures]},
        )
    return Checked(len(cases), tuple(findings))


def load_cases(directory: pathlib.Path, policy_set: PolicySet) -> tuple[list[Case], list[Finding]]:
    """The cases in a folder, and what is wrong with those that are left out.

    Args:
        directory: a folder of files, as policies are read.
        policy_set: what they are about, as a case must expect a policy that exists.
    """
    try:
        files, findings = read_policy_files(directory)
    except OSError as error:
        return [], [Finding(TESTS, f"cannot be read: {error.strerror}")]
    findings = [dataclasses.replace(finding, file=f"{TESTS}/{finding.file}") for finding in findings]
    policies = [policy.id for policy in policy_set.policies]
    cases: list[Case] = []
    for file in files:
        cases += _cases_of(file, policies, findings)
        if len(cases) > MAX_CASES:
            findings.append(Finding(TESTS, f"there are more than {MAX_CASES} cases"))
            break
    if not cases and not findings:
        findings.append(Finding(TESTS, "there is no case, so nothing is tested", level="warning"))
    return cases, findings


def run_cases(cases: t.Iterable[Case], policy_set: PolicySet) -> list[Failure]:
    """The cases of which the policy set says something else than expected."""
    engine = PolicyEngine(policy_set)
    policies = {policy.id: policy for policy in policy_set.policies}
    failures = []
    for case in cases:
        expected = case.expected
        if expected.outcome == "no_policy" and not _answered(engine, case):
            continue  # without asking for reasons, as finding the nearest misses reads every policy
        actual, reasons = _ask(engine, policy_set, case)
        if expected.actions is None:
            actual = dataclasses.replace(actual, actions=None)
        if expected.approval is None:
            actual = dataclasses.replace(actual, approval=None)
        if actual == expected:
            continue
        if expected.policy_id not in ("", actual.policy_id):
            why_not = _why_not(policies[expected.policy_id], case)
            reasons = (why_not, *(reason for reason in reasons if not reason.startswith(f"{expected.policy_id}: ")))
        failures.append(Failure(case, actual, reasons))
    return failures


def _answered(engine: PolicyEngine, case: Case) -> bool:
    """Whether a policy answers the case, or, where it has no container, could."""
    # Judging an alert without a container always says no_policy, so that such a case could not fail.
    return bool(engine.decide(case.alert, case.container)) if case.container else engine.wants(case.alert)


def _ask(engine: PolicyEngine, policy_set: PolicySet, case: Case) -> tuple[Expectation, tuple[str, ...]]:
    """What the set says about a case, and why."""
    if case.container:
        judgement = engine.judge(case.alert, case.container)
        if judgement.policy is None:
            return Expectation("no_policy"), judgement.reasons
        actions = tuple(sorted(action.type for action in judgement.policy.actions))
        waits = any(action.approval for action in judgement.policy.actions)
        return Expectation(judgement.outcome, judgement.policy.id, actions, waits), judgement.reasons
    for policy in policy_set.policies:
        conditions = policy.alert_conditions(case.alert)
        if policy.enabled and all(condition.met for condition in conditions):
            outcome = "audit" if engine.mode_of(policy) == AUDIT else "isolate"
            return Expectation(outcome, policy.id), (*map(str, conditions), "it may reach some container")
    return Expectation("no_policy"), ()


def _why_not(policy: Policy, case: Case) -> str:
    """Why the policy does not answer the case."""
    if not policy.enabled:
        return f"{policy.id}: it is disabled"
    conditions = policy.alert_conditions(case.alert)
    if case.container:
        conditions += policy.target_conditions(case.container)
    unmet = [str(condition) for condition in conditions if not condition.met]
    return f"{policy.id}: " + ("; ".join(unmet) or "it matches too, and is asked later")


class _Wrong(Exception):
    """What is wrong with a case."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def _cases_of(file: PolicyFile, policies: t.Sequence[str], findings: list[Finding]) -> list[Case]:
    """The cases of a file. What is wrong with the others is added to the findings."""
    where = f"{TESTS}/{file.name}"
    try:
        values = _mapping(file.content, "the file", ("cases",), ("cases",))["cases"]
        if not isinstance(values, list):
            raise _Wrong("cases is not a list")
    except _Wrong as error:
        findings.append(Finding(where, str(error), error.hint))
        return []
    cases: list[Case] = []
    seen: set[str] = set()
    for index, value in enumerate(values):
        name = text.display(value.get("name"), 128) if isinstance(value, dict) else ""
        try:
            case = _case(where, value, policies)
            if name in seen:
                raise _Wrong("the name is used already", "names are unique in a file")
            seen.add(name)
            cases.append(case)
        except _Wrong as error:
            line, column = file.positions.of(("cases", str(index)))
            message = f"case {name or f'number {index + 1}'}: {error}"
            findings.append(Finding(where, message, error.hint, line=line, column=column))
    return cases


def _case(file: str, value: object, policies: t.Sequence[str]) -> Case:
    content = _mapping(value, "the case", _KEYS, ("name", "alert", "expect"))
    scope = _one_of(content.get("scope", ALERT_CONTAINER), "scope", SCOPES)
    container = _container(content.get("container"))
    alert = _alert(content["alert"], scope, container)
    host = content.get("host")
    if host is not None:
        if not text.host_name(host):
            raise _Wrong("host is not the name of a host")
        alert = dataclasses.replace(alert, inventory_host=host)
    expected = _expectation(content["expect"], policies)
    if container is None and expected.policy_id:
        raise _Wrong("it expects a policy to answer, but has no container", "say in container what the alert is about")
    return Case(file, text.display(_text(content["name"], "name"), 128), alert, container, expected)


def _alert(value: object, scope: str, container: CaseContainer | None) -> Alert:
    try:
        alert = alert_from_object(value)
    except AlertError as error:
        raise _Wrong(f"alert: {error.message}", error.remedy) from error
    if alert.subject is Subject.NOT_DOCKER:
        return alert  # no policy answers it, whichever is expected to
    if scope != ALERT_CONTAINER:
        if alert.container:
            raise _Wrong(f"the alert names the container {alert.container}", "leave it or the scope out")
        if alert.subject is Subject.UNIDENTIFIED:
            hint = f"leave the scope out: no policy of {MATCHING_CONTAINERS} answers it"
            raise _Wrong("the alert means a container, and does not say which", hint)
        return alert
    if alert.container:
        if container and alert.container.name not in ("", container.name):
            raise _Wrong(f"the alert names {alert.container.name}, but the container is {container.name}")
        return alert
    fields = value.get("output_fields") if isinstance(value, dict) else None
    said = isinstance(fields, dict) and not fields.keys().isdisjoint(("container.id", "container_id"))
    if isinstance(value, dict) and ("container" in value or said):
        raise _Wrong("the alert itself says that it names no container", "leave that out, or name the container")
    # Nobody wants to write ids into tests. Left as it is, the alert would be one that names no container, and policies
    # of the common scope would never answer it.
    return dataclasses.replace(alert, container=ContainerRef(name=container.name if container else "any"))


def _container(value: object) -> CaseContainer | None:
    if value is None:
        return None
    content = _mapping(value, "container", ("name", "image", "images", "labels"), ("name",))
    if not text.container_name(content["name"]):
        raise _Wrong("container.name is not the name of a container")
    if "image" in content and "images" in content:
        raise _Wrong("container has image and images", "images holds all of them")
    images = content.get("images", [content["image"]] if "image" in content else [])
    labels = content.get("labels", {})
    if not isinstance(images, list):
        raise _Wrong("container.images is not a list")
    if not isinstance(labels, dict):
        raise _Wrong("container.labels is not a mapping")
    return CaseContainer(
        text.container_name(content["name"]),
        tuple(_text(image, "an image of the container") for image in images),
        {_text(key, "a label"): _text(label, f"label {key}", empty=True) for key, label in labels.items()},
    )


def _expectation(value: object, policies: t.Sequence[str]) -> Expectation:
    content = _mapping(value, "expect", ("policy", "outcome", "actions", "approval"), ("policy",))
    policy, actions, approval = content["policy"], content.get("actions"), content.get("approval")
    if policy is not None:
        _one_of(policy, "expect.policy", policies)
    outcome = _one_of(content.get("outcome", "isolate" if policy else "no_policy"), "expect.outcome", OUTCOMES)
    if (outcome == "no_policy") != (policy is None):
        raise _Wrong(f"expect.outcome is {outcome}, but expect.policy is {policy or 'null'}")
    if approval is not None and (not isinstance(approval, bool) or policy is None):
        raise _Wrong("expect.approval is neither true nor false, or no policy is expected")
    if actions is None:
        return Expectation(outcome, policy or "", approval=approval)
    if not isinstance(actions, list) or not actions or policy is None:
        raise _Wrong("expect.actions is not a list of types of the actions of a policy")
    types = sorted(_one_of(action, "expect.actions", ACTION_TYPES) for action in actions)
    return Expectation(outcome, policy, tuple(types), approval)


def _mapping(value: object, what: str, known: t.Sequence[str], required: t.Sequence[str]) -> dict[str, t.Any]:
    if not isinstance(value, dict):
        raise _Wrong(f"{what} is not a mapping")
    unknown = [text.display(key, 64) for key in value if key not in known]
    if unknown:
        near = [match for key in unknown for match in difflib.get_close_matches(key, known, 1)]
        hint = f"did you mean {', '.join(near)}?" if near else f"known keys: {', '.join(known)}"
        raise _Wrong(f"{what} has the unknown key {', '.join(unknown[:5])}", hint)
    missing = [key for key in required if key not in value]
    if missing:
        raise _Wrong(f"{what} lacks {', '.join(missing)}")
    return value


def _one_of(value: object, what: str, known: t.Sequence[str]) -> str:
    if isinstance(value, str) and value in known:
        return value
    near = difflib.get_close_matches(text.display(value, 128).lower(), known, 1)
    hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(known[:10])}"
    raise _Wrong(f"{what} {text.display(value, 128) or 'of no text'} is unknown", hint)


def _text(value: object, what: str, empty: bool = False) -> str:
    if isinstance(value, str) and (value.strip() or empty):
        return value
    raise _Wrong(f"{what} is not text", "put it in quotes" if isinstance(value, (bool, int, float)) else "")


def _count(items: t.Sequence[object], name: str) -> str:
    return f"{len(items)} {name}" + ("" if len(items) == 1 else "s")


def _shown(items: t.Sequence[Finding | Failure]) -> str:
    """One after the other, indented, and not more than anybody reads."""
    lines = [f"  {line}" for item in items[:_MAX_SHOWN] for line in str(item).splitlines()]
    more = len(items) - _MAX_SHOWN
    return "\n".join([*lines, f"  and {more} more"] if more > 0 else lines)
