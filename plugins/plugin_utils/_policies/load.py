# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a policy directory to a compiled policy set, or to all that is wrong with it."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import pathlib
import reprlib
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
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

IMPORT_ERROR = ""
try:
    import jsonschema
except ImportError as error:
    jsonschema = None  # type: ignore[assignment]  # checked before it is used
    IMPORT_ERROR = str(error)

# What is wrong, by the keyword of the schema that is not satisfied.
_MESSAGES = {
    "maxItems": "the list has more than {wanted} entries",
    "maxLength": "{found} is longer than {wanted} characters",
    "maximum": "{found} is larger than {wanted}",
    "minItems": "the list is empty",
    "minLength": "the text is empty",
    "minProperties": "it holds neither policies nor protect",
    "minimum": "{found} is smaller than {wanted}",
    "not": "it is not an option of this type of action",
    "oneOf": "there must be either actions or action",
    "pattern": "{found} cannot stand here",
    "type": "{found} is not {type}",
}
_TYPES = {
    "array": "a list",
    "boolean": "true or false",
    "integer": "a whole number",
    "object": "a mapping",
    "string": "text",
}
_SHOWN = reprlib.Repr()
_SHOWN.maxstring = 80
_MAX_SHOWN_KEYS = 5


@functools.cache
def _validator(of: str) -> t.Any:
    """The validator of a C(file), or of a C(policy)."""
    base = jsonschema.Draft202012Validator
    # JSON schema takes 10.0 for an integer. Written out it is not the same as 10, so equal sets would differ in digest.
    integer = base.TYPE_CHECKER.redefine(
        "integer", lambda _checker, value: isinstance(value, int) and not isinstance(value, bool)
    )
    # A file is validated policy by policy, so that each problem names its policy.
    file = {**POLICY_FILE, "properties": {**POLICY_FILE["properties"], "policies": {"type": "array"}}}
    extended = jsonschema.validators.extend(base, type_checker=integer)  # type: ignore[no-untyped-call]  # no stubs
    return extended(file if of == "file" else POLICY)


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
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        raise PolicyError(
            "the policies in {} have {} problem{}:\n{}".format(
                source, len(errors), "" if len(errors) == 1 else "s", "\n".join(f"  {finding}" for finding in errors)
            ),
            remedy="Nothing was deployed, and what was deployed before stays",
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
    return LoadedPolicies(policy_set, tuple(findings))


class _Draft:
    """The policies read so far. What is wrong with them is added to the findings, and left out."""

    def __init__(self, findings: list[Finding]) -> None:
        self._findings = findings
        self._policies: list[Policy] = []
        self._protect: dict[str, list[str]] = {}
        self._count = 0
        self._file_of: dict[str, str] = {}

    def add_file(self, file: PolicyFile) -> None:
        """Validate a file, and take what it holds."""
        content = file.content
        if not isinstance(content, dict):
            hint = "it holds one policy, or policies: with a list"
            self._findings.append(Finding(file.name, "it is not a mapping", hint))
            return
        # A file is one policy, or holds a list of them and what is protected.
        if content.keys() & POLICY["properties"].keys() and not content.keys() & POLICY_FILE["properties"].keys():
            content = {"policies": [content]}
        problems = list(_validator("file").iter_errors(content))
        self._findings += [Finding(file.name, *_described(problem)) for problem in problems]
        if not problems:
            for name, values in content.get("protect", {}).items():
                self._protect.setdefault(name, []).extend(values)
        policies = content.get("policies")
        for number, value in enumerate(policies if isinstance(policies, list) else (), start=1):
            self._add_policy(file.name, f"number {number}", value)

    def _add_policy(self, file: str, place: str, value: t.Any) -> None:
        self._count += 1
        if not isinstance(value, dict):
            self._findings.append(Finding(file, f"{_SHOWN.repr(value)} is not a mapping", policy_id=place))
            return
        policy_id = value.get("id")
        name = text.display(policy_id, 128) or place
        findings = [
            Finding(file, *_described(problem), policy_id=name) for problem in _validator("policy").iter_errors(value)
        ]
        if isinstance(policy_id, str):
            if policy_id in self._file_of:
                message = f"the id is used in {self._file_of[policy_id]} already"
                findings.append(Finding(file, message, "ids are unique in a set", name))
            self._file_of.setdefault(policy_id, file)
        self._findings += findings
        if findings:
            return
        policy = Policy.from_dict(value)
        try:
            check_actions(policy.actions)
        except GuardError as error:
            self._findings.append(Finding(file, error.message, error.remedy, name))
            return
        if not policy.target_filter:
            hint = "say which in target_filter if that is not what you want"
            self._findings.append(Finding(file, "it may reach any container", hint, name, level="warning"))
        self._policies.append(policy)

    def finish(self) -> PolicySet:
        """The set of all that can be used."""
        if self._count > MAX_POLICIES:
            message = f"there are {self._count} policies"
            self._findings.append(Finding(".", message, f"a set has at most {MAX_POLICIES}"))
        return PolicySet.of(self._policies, TargetFilter.from_dict(self._protect))


def _described(problem: jsonschema.ValidationError) -> tuple[str, str]:
    """What is wrong, and what was probably meant."""
    # The types of jsonschema allow for problems without a schema; iter_errors raises none of that kind.
    schema: t.Any = problem.schema
    wanted: t.Any = problem.validator_value
    found: t.Any = problem.instance
    where = ".".join(str(part) for part in problem.absolute_path)
    at = f"{where}: " if where else ""
    if problem.validator == "additionalProperties":
        known = sorted(schema["properties"])
        unknown = [text.display(str(key), 64) for key in found if key not in known][:_MAX_SHOWN_KEYS]
        near = [match for key in unknown for match in difflib.get_close_matches(key, known, 1)]
        hint = "did you mean {}?".format(", ".join(near)) if near else "known keys: {}".format(", ".join(known))
        return f"{at}unknown key {', '.join(unknown)}", hint
    if problem.validator == "enum":
        near = difflib.get_close_matches(text.display(found, 64).lower(), wanted, 1)
        hint = f"did you mean {near[0]}?" if near else ""
        return f"{at}{_SHOWN.repr(found)} is not one of {', '.join(wanted)}", hint
    if problem.validator == "required":
        return "{}{} is missing".format(at, ", ".join(key for key in wanted if key not in found)), ""
    message = _MESSAGES[str(problem.validator)].format(
        found=_SHOWN.repr(found), wanted=wanted, type=_TYPES.get(str(wanted))
    )
    hints = {"pattern": schema.get("description", ""), "type": _type_hint(str(wanted), found)}
    return f"{at}{message}", hints.get(str(problem.validator), "")


def _type_hint(wanted: str, found: object) -> str:
    if found is None or isinstance(found, (dict, list)):
        return ""
    return {"array": "put it in brackets", "string": "put it in quotes"}.get(wanted, "")
