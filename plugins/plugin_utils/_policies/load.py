# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a policy directory to a compiled policy set, or to all that is wrong with it."""

from __future__ import annotations

import dataclasses
import difflib
import pathlib
import typing as t

import jsonschema

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import check_actions
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import Policy, TargetFilter
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.schema import (
    MAX_POLICIES,
    POLICY,
    POLICY_FILE,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.files import (
    PolicyFile,
    read_policy_files,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.findings import Finding

# A file is validated policy by policy, so that each problem names its policy.
_FILE = jsonschema.Draft202012Validator(
    {**POLICY_FILE, "properties": {**POLICY_FILE["properties"], "policies": {"type": "array"}}}
)
_POLICY = jsonschema.Draft202012Validator(POLICY)


@dataclasses.dataclass(frozen=True)
class LoadedPolicies:
    """A policy directory that may be deployed.

    Attributes:
        policy_set: compiled.
        warnings: what to look at.
    """

    policy_set: PolicySet
    warnings: tuple[Finding, ...]


def load_policies(source: pathlib.Path) -> LoadedPolicies:
    """Read, validate and compile a directory of policies, or one file.

    Raises:
        PolicyError: C(policies_missing) where there is no such directory or it holds no policy file, and
            C(policies_invalid) with every problem in C(details["findings"]).
    """
    try:
        files, findings = read_policy_files(source)
    except OSError as error:
        raise PolicyError(
            f"the policy directory {source} cannot be read: {error.strerror}",
            kind="policies_missing",
            remedy="src is a directory on the controller, relative to the playbook or role",
        ) from error
    if not files and not findings:
        raise PolicyError(
            f"the policy directory {source} holds no policy file",
            kind="policies_missing",
            remedy="Policy files end in .yml, .yaml, .json or .toml. To deploy an empty set, say policies: [] in one",
        )
    policies: list[tuple[str, Policy]] = []
    protect: dict[str, list[str]] = {}
    for file in files:
        _read_file(file, policies, protect, findings)
    findings += _unique_ids(policies)
    if len(policies) > MAX_POLICIES:
        findings.append(Finding(".", f"there are {len(policies)} policies", f"a set has at most {MAX_POLICIES}"))
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        raise PolicyError(
            "the policies in {} have {} problem{}:\n{}".format(
                source, len(errors), "" if len(errors) == 1 else "s", "\n".join(f"  {finding}" for finding in errors)
            ),
            remedy="Nothing was deployed, and what was deployed before stays",
            details={"findings": [finding.to_dict() for finding in findings]},
        )
    policy_set = PolicySet.of((policy for _file, policy in policies), TargetFilter.from_dict(protect))
    return LoadedPolicies(policy_set, tuple(finding for finding in findings if finding.level == "warning"))


def _read_file(
    file: PolicyFile, policies: list[tuple[str, Policy]], protect: dict[str, list[str]], findings: list[Finding]
) -> None:
    content = file.content
    if not isinstance(content, dict):
        findings.append(Finding(file.name, "it is not a mapping", "it holds one policy, or policies: with a list"))
        return
    # A file is one policy, or holds a list of them and what is protected.
    if "id" in content or "actions" in content or "action" in content:
        content = {"policies": [content]}
    problems = list(_FILE.iter_errors(content))
    findings += [Finding(file.name, *_described(problem)) for problem in problems]
    if problems:
        return
    for name, values in (content.get("protect") or {}).items():
        protect.setdefault(name, []).extend(values)
    for number, value in enumerate(content.get("policies") or (), start=1):
        name = str(value.get("id", "")) if isinstance(value, dict) else ""
        problems = list(_POLICY.iter_errors(value))
        findings += [
            Finding(file.name, *_described(problem), policy_id=name or f"number {number}") for problem in problems
        ]
        if problems:
            continue
        policy = Policy.from_dict(value)
        try:
            check_actions(policy.actions)
        except GuardError as error:
            findings.append(Finding(file.name, error.message, error.remedy, policy.id))
            continue
        if not policy.target_filter:
            hint = "say which in target_filter if that is not what you want"
            findings.append(Finding(file.name, "it may reach any container", hint, policy.id, level="warning"))
        policies.append((file.name, policy))


def _unique_ids(policies: list[tuple[str, Policy]]) -> t.Iterator[Finding]:
    seen: dict[str, str] = {}
    for file, policy in policies:
        if policy.id in seen:
            yield Finding(file, f"the id is used in {seen[policy.id]} already", "ids are unique in a set", policy.id)
        seen.setdefault(policy.id, file)


def _described(problem: jsonschema.ValidationError) -> tuple[str, str]:
    """What is wrong, and what was probably meant."""
    # The types of jsonschema allow for problems without a schema; iter_errors raises none of that kind.
    schema: t.Any = problem.schema
    wanted: t.Any = problem.validator_value
    where = ".".join(str(part) for part in problem.absolute_path)
    at = f"{where}: " if where else ""
    if problem.validator == "additionalProperties":
        known = sorted(schema["properties"])
        unknown = sorted(str(key) for key in t.cast("dict[t.Any, t.Any]", problem.instance) if key not in known)
        near = [match for key in unknown for match in difflib.get_close_matches(key, known, 1)]
        hint = "did you mean {}?".format(", ".join(near)) if near else "known keys: {}".format(", ".join(known))
        return f"{at}unknown key {', '.join(unknown)}", hint
    if problem.validator == "enum":
        known = [str(value) for value in wanted]
        near = difflib.get_close_matches(str(problem.instance).lower(), known, 1)
        hint = f"did you mean {near[0]}?" if near else ""
        return f"{at}{problem.instance!r} is not one of {', '.join(known)}", hint
    if problem.validator == "oneOf" and where == "":
        return "there must be either actions or action", ""
    if problem.validator is None:  # a schema that is false: the key belongs to another type of action
        return f"{at}not an option of this type of action", ""
    return f"{at}{problem.message}", ""
