# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a policy directory to a compiled policy set, or to all that is wrong with it."""

from __future__ import annotations

import dataclasses
import pathlib
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import (
    ENFORCE,
    Policy,
    TargetFilter,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import Limits, PolicySet
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.schema import MAX_POLICIES
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.files import (
    PolicyFile,
    read_policy_files,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.findings import Finding, place_of
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.positions import Position
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.shadows import shadowed
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.spelling import Canonical
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.validate import (
    IMPORT_ERROR,
    Problem,
    file_problems,
    policy_problems,
    policy_remarks,
    protect_remarks,
    shown,
)

# What takes effect only by something else that has to be set up.
_RECORDED_ONLY = {
    "release_after": "nothing releases by release_after unless the playbook release_expired is run again and again",
}


@dataclasses.dataclass(frozen=True)
class LoadedPolicies:
    """A policy directory that may be deployed.

    Attributes:
        policy_set: compiled.
        warnings: what to look at.
        files: names of the files that it was read from.
    """

    policy_set: PolicySet
    warnings: tuple[Finding, ...]
    files: tuple[str, ...]


def load_policies(source: pathlib.Path) -> LoadedPolicies:
    """Read, validate and compile a directory of policies, or one file.

    Raises:
        PolicyError: C(policies_missing) where there is no such directory or it holds no policy file, and
            C(policies_invalid) with every problem in C(details["findings"]).
    """
    if IMPORT_ERROR:
        raise PolicyError(
            f"the controller cannot read policies: {IMPORT_ERROR}",
            kind="dependency_missing",
            remedy="Install jsonschema for the Python that runs ansible-playbook",
        )
    try:
        files, findings = read_policy_files(source)
    except OSError as error:
        raise PolicyError(
            f"the policy directory {source} cannot be read: {error.strerror}",
            kind="policies_missing",
            remedy="src is a directory on the controller, relative to the playbook or role",
        ) from error
    draft = _Draft(findings)
    for file in files:
        draft.add_file(file)
    policy_set = draft.finish()
    findings.sort(key=lambda finding: (finding.file, finding.line, finding.column))
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        raise PolicyError(
            "the policies in {} have {} problem{}:\n{}".format(
                source, len(errors), "" if len(errors) == 1 else "s", "\n".join(f"  {finding}" for finding in errors)
            ),
            remedy="Nothing of it is used, and what is deployed stays",
            details={"findings": [finding.to_dict() for finding in findings]},
        )
    if not files:
        # Files with a misspelt suffix must not deploy an empty set.
        raise PolicyError(
            "\n".join(
                [f"the policy directory {source} holds no policy file", *(f"  {finding}" for finding in findings)]
            ),
            kind="policies_missing",
            remedy="Policy files end in .yml, .yaml, .json or .toml. To deploy an empty set, say policies: [] in one",
            details={"findings": [finding.to_dict() for finding in findings]},
        )
    if not policy_set.policies:
        findings.append(Finding(".", "there is no policy, so no alert is answered", level="warning"))
    elif not any(policy.enabled for policy in policy_set.policies):
        findings.append(Finding(".", "every policy is disabled, so no alert is answered", level="warning"))
    return LoadedPolicies(policy_set, tuple(findings), tuple(file.name for file in files))


@dataclasses.dataclass(frozen=True)
class _Part:
    """A part of a file: the whole, or one policy."""

    file: PolicyFile
    canonical: Canonical
    path: tuple[object, ...] = ()
    policy_id: str = ""

    def position(self, path: t.Iterable[object], at_key: bool = False) -> Position:
        origin = self.canonical.origin((*self.path, *path))
        return self.file.positions.of(origin.path, at_key or origin.is_key)

    def place(self, path: t.Iterable[object]) -> str:
        return place_of(self.file.name, *self.position(path))

    def finding(self, problem: Problem) -> Finding:
        line, column = self.position(problem.path, problem.at_key)
        return Finding(self.file.name, problem.message, problem.hint, self.policy_id, line, column, problem.level)


class _Draft:
    """The policies read so far. What is wrong with them is added to the findings, and left out."""

    def __init__(self, findings: list[Finding]) -> None:
        self._findings = findings
        self._policies: list[Policy] = []
        self._protect: dict[str, list[str]] = {}
        self._said: dict[tuple[str, ...], tuple[t.Any, _Part]] = {}
        self._count = 0
        self._part_of: dict[str, _Part] = {}

    def add_file(self, file: PolicyFile) -> None:
        """Validate a file, and take what it holds."""
        if not isinstance(file.content, dict):
            hint = "it holds one policy, or policies: with a list"
            line, column = file.positions.of(())
            self._findings.append(Finding(file.name, "it is not a mapping", hint, line=line, column=column))
            return
        canonical = Canonical(file.content)
        content, part = canonical.content, _Part(file, canonical)
        problems = list(file_problems(content))
        self._add(part, problems)
        if not problems:
            self._add(part, protect_remarks(content.get("protect", {})))
            for name, values in content.get("protect", {}).items():
                self._protect.setdefault(name, []).extend(values)
            for name, value in content.get("limits", {}).items():
                self._say(part, ("limits", name), value, "a set has one value for each limit")
            if "mode" in content:
                self._say(part, ("mode",), content["mode"], "a set has one mode")
        policies = content.get("policies")
        for index, value in enumerate(policies if isinstance(policies, list) else ()):
            policy_id = text.display(value.get("id"), 128) if isinstance(value, dict) else ""
            policy = _Part(file, canonical, ("policies", index), policy_id or f"number {index + 1}")
            self._add_policy(policy, value)

    def _add(self, part: _Part, problems: t.Iterable[Problem]) -> bool:
        """Add what is wrong with a part. Whether it can be used nevertheless."""
        findings = [part.finding(problem) for problem in problems]
        self._findings += findings
        return all(finding.level == "warning" for finding in findings)

    def _say(self, part: _Part, path: tuple[str, ...], value: t.Any, rule: str) -> None:
        """Take what the files of a set may say once, or all the same."""
        first, by = self._said.setdefault(path, (value, part))
        if first != value:
            message = f"{'.'.join(path)}: {shown(value)} here, and {shown(first)} in {by.place(path)}"
            self._add(part, [Problem(path, message, rule)])

    def _add_policy(self, part: _Part, value: t.Any) -> None:
        self._count += 1
        if not isinstance(value, dict):
            self._add(part, [Problem((), f"{shown(value)} is not a mapping")])
            return
        valid = self._add(part, policy_problems(value))
        policy_id = value.get("id")
        first = self._part_of.setdefault(policy_id, part) if isinstance(policy_id, str) else part
        if first is not part:
            message = "the id is used in {} already".format(first.place(("id",)))
            self._add(part, [Problem(("id",), message, "ids are unique in a set")])
        if valid:
            policy = Policy.from_dict(value)
            if self._add(part, policy_remarks(value, policy)) and first is part:
                self._policies.append(policy)

    def finish(self) -> PolicySet:
        """The set of all that can be used."""
        if self._count > MAX_POLICIES:
            message = f"there are {self._count} policies"
            self._findings.append(Finding(".", message, f"a set has at most {MAX_POLICIES}"))
        limits = {path[1]: value for path, (value, _part) in self._said.items() if path[0] == "limits"}
        mode, _part = self._said.get(("mode",), (ENFORCE, None))
        policy_set = PolicySet.of(self._policies, TargetFilter.from_dict(self._protect), Limits.from_dict(limits), mode)
        self._look_at(policy_set)
        return policy_set

    def _look_at(self, policy_set: PolicySet) -> None:
        """What is doubtful about the set as a whole."""
        for policy, earlier in shadowed(policy_set.policies):
            place = self._part_of[earlier.id].place(())
            message = f"it never answers: policy {earlier.id} ({place}) is asked first and answers all that it would"
            hint = f"narrow {earlier.id} down, or give this one a lower priority"
            self._add(self._part_of[policy.id], [Problem((), message, hint, level="warning")])
        limits = policy_set.limits
        if 0 < limits.max_isolations < limits.max_containers_per_alert:
            message = f"the window lets {limits.max_isolations} containers be isolated, and an alert "
            message += str(limits.max_containers_per_alert)
            path = ("limits", "max_isolations_per_window", "count")
            hint = "raise it, or lower max_containers_per_alert"
            _value, by = self._said[path[:2]]
            self._add(by, [Problem(path, message, hint, level="warning")])
        for key, message in _RECORDED_ONLY.items():
            policies = [policy for policy in policy_set.policies if getattr(policy, key)]
            if policies:
                self._add(self._part_of[policies[0].id], [Problem((key,), message, at_key=True, level="warning")])
