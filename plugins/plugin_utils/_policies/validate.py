# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is wrong with the content of a policy file, by the schema and by what it means."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re
import reprlib
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.sources import source_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import (
    ACTION_TYPES,
    Action,
    check_actions,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.evidence import ARCHIVE, MAX_PATHS
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import (
    MATCHING_CONTAINERS,
    Policy,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.schema import POLICY, POLICY_FILE
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._policies.spelling import action_type

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
    "minProperties": "it holds none of policies, protect, limits and mode",
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
_MAX_UNKNOWN_KEYS = 5
_POSSIBLE_NAME = re.compile(r"[a-zA-Z0-9_.*?-]+")
_POSSIBLE_IMAGE = re.compile(r"[a-zA-Z0-9_./:@*?\[\]-]+")
_REGULAR_EXPRESSION = re.compile(r"\.[*+]|\A\^|\$\Z|\[.+\]|\|")

Path = tuple[object, ...]


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something to mend.

    Attributes:
        path: the keys and places in lists that lead to it.
        message: what is wrong.
        hint: what was probably meant, or what to do; may be empty.
        at_key: whether it is the last key of the path, not its value.
        level: C(error) or C(warning).
    """

    path: Path
    message: str
    hint: str = ""
    at_key: bool = False
    level: str = "error"


def shown(value: object) -> str:
    """The value, shortened, as people can recognise it."""
    return _SHOWN.repr(value)


def file_problems(content: t.Mapping[t.Any, t.Any]) -> t.Iterator[Problem]:
    """What is wrong with a file, its policies aside."""
    return _schema_problems("file", content)


def policy_problems(value: t.Mapping[t.Any, t.Any]) -> t.Iterator[Problem]:
    """What the schema has against a policy."""
    yield from _schema_problems("policy", value)


def policy_remarks(value: t.Mapping[str, t.Any], policy: Policy) -> t.Iterator[Problem]:
    """What is wrong with a policy that the schema has nothing against.

    Args:
        value: the policy in the canonical spelling.
        policy: the same.
    """
    yield from _action_remarks("actions" if "actions" in value else "action", policy.actions)
    if policy.fallback:
        yield from _action_remarks("fallback", policy.fallback)
    repeated = [action.type for action in policy.fallback if any(_same(action, other) for other in policy.actions)]
    if repeated:
        message = "fallback: {} is among the actions, and is used only where none of them can work"
        yield _warning(("fallback",), message.format(", ".join(repeated)), "name other actions")
    if not policy.target_filter:
        if policy.scope == MATCHING_CONTAINERS:
            message = "matching_containers without a target_filter means every container of the host"
            yield Problem(("scope",), message, "say in target_filter which containers such an alert is about")
        else:
            hint = "say which in target_filter if that is not what you want"
            yield _warning(("target_filter",), "it may reach any container", hint)
    if policy.scope == MATCHING_CONTAINERS:
        yield from _source_remarks(policy.sources)
    if len(policy.evidence.paths) > MAX_PATHS:
        message = f"evidence: there are {len(policy.evidence.paths)} paths to archive"
        yield Problem(("evidence",), message, f"a case has at most {MAX_PATHS}")
    for name in ("sources", "rules", "tags", "hosts"):
        yield from _glob_remarks((name,), value.get(name, ()))
    yield from _glob_remarks(("action", "networks"), value.get("action", {}).get("networks", ()))
    yield from _approval_remarks(("action",), value.get("action", {}))
    for key in ("actions", "fallback"):
        for index, action in enumerate(value.get(key, ())):
            yield from _glob_remarks((key, index, "networks"), action.get("networks", ()))
            yield from _approval_remarks((key, index), action)
    target_filter = value.get("target_filter", {})
    yield from _filter_remarks(("target_filter",), target_filter)
    yield from _filter_remarks(("target_filter", "exclude"), target_filter.get("exclude", {}))


def _source_remarks(sources: t.Sequence[str]) -> t.Iterator[Problem]:
    """What is doubtful about the sources of a policy for alerts that say nothing about containers."""
    if not sources:
        message = "matching_containers without sources answers any detector that says nothing about containers"
        yield _warning(("scope",), message, "name in sources those that you trust with it, such as suricata")
    elif all(source_of(source).names_containers for source in sources):
        message = f"it never answers: {', '.join(sources)} do name containers, and never come to matching_containers"
        yield _warning(("sources",), message, "leave the scope out, or name other detectors")


def _action_remarks(key: str, actions: t.Sequence[Action]) -> t.Iterator[Problem]:
    try:
        check_actions(actions)
    except PolicyError as error:
        yield Problem((key,), f"{key}: {error.message}", error.remedy)


def _approval_remarks(path: Path, value: t.Mapping[str, t.Any]) -> t.Iterator[Problem]:
    if "approval_timeout" in value and not value.get("approval"):
        at = (*path, "approval_timeout")
        yield Problem(at, f"{_place(at)}the action waits for no approval", "add approval: true", at_key=True)


def _filter_remarks(path: Path, value: t.Mapping[str, t.Any]) -> t.Iterator[Problem]:
    # What can match nothing protects nothing and excludes nothing: as dangerous as it is quiet.
    for name, possible, what in (
        ("container_names", _POSSIBLE_NAME, "a container name"),
        ("image_patterns", _POSSIBLE_IMAGE, "an image reference"),
    ):
        yield from _glob_remarks((*path, name), value.get(name, ()))
        for index, pattern in enumerate(value.get(name, ())):
            if not possible.fullmatch(pattern):
                at = (*path, name, index)
                message = f"{_place(at)}{shown(pattern)} holds a character that {what} cannot have"
                yield Problem(at, message, "write one glob an entry, without blanks; globs know * and ? only")
    for index, label in enumerate(value.get("labels", ())):
        key, _separator, pattern = label.partition("=")
        at = (*path, "labels", index)
        if key.strip() != key or pattern[:1] in ("=", " ") or key.endswith("!") or ": " in key:
            message = f"{_place(at)}{shown(label)} is neither key nor key=glob"
            yield Problem(at, message, "write key=glob without blanks around =; use exclude for the opposite")
        if "*" in key or "?" in key:
            message = f"{_place(at)}{shown(label)} has a wildcard in its key, which is taken as it stands"
            yield _warning(at, message, "only what stands behind = is a glob")
        yield from _glob_remarks((*path, "labels"), [pattern], index)


def protect_remarks(value: t.Mapping[str, t.Any]) -> t.Iterator[Problem]:
    """What is doubtful about what is protected."""
    yield from _filter_remarks(("protect",), value)
    for name in ("container_names", "image_patterns"):
        for index, pattern in enumerate(value.get(name, ())):
            if not pattern.strip("*"):
                message = f"protect.{name}: {pattern} protects every container, so none is ever isolated"
                yield _warning(("protect", name, index), message, "name what must not be isolated")


def _glob_remarks(path: Path, patterns: t.Sequence[str], first: int = 0) -> t.Iterator[Problem]:
    for index, pattern in enumerate(patterns, start=first):
        if _REGULAR_EXPRESSION.search(pattern):
            at = (*path, index)
            yield _warning(
                at, f"{_place(at)}{shown(pattern)} reads like a regular expression", "globs know * and ? only"
            )


def _warning(path: Path, message: str, hint: str) -> Problem:
    return Problem(path, message, hint, level="warning")


def _same(action: Action, other: Action) -> bool:
    # Where a container cannot be stopped, another grace does not help.
    return (action.type, action.networks) == (other.type, other.networks)


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


def _schema_problems(of: str, value: object) -> t.Iterator[Problem]:
    for problem in _validator(of).iter_errors(value):
        if problem.validator == "additionalProperties":
            yield from _unknown_keys(problem)
        else:
            yield _described(problem)


def _unknown_keys(problem: jsonschema.ValidationError) -> t.Iterator[Problem]:
    schema: t.Any = problem.schema
    found: t.Any = problem.instance
    path = tuple(problem.absolute_path)
    known = sorted(schema["properties"])
    for key in [key for key in found if key not in known][:_MAX_UNKNOWN_KEYS]:
        name = text.display(str(key), 64)
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else "known keys: {}".format(", ".join(known))
        if "policies" in known and name in POLICY["properties"]:
            hint = "it is a key of a policy: put it into an entry of policies"
        elif "type" in known and action_type(name) in ACTION_TYPES:
            hint = f"did you mean type: {action_type(name)}?"
        yield Problem((*path, key), f"{_place(path)}unknown key {name}", hint, at_key=True)


def _described(problem: jsonschema.ValidationError) -> Problem:
    # The types of jsonschema allow for problems without a schema; iter_errors raises none of that kind.
    schema: t.Any = problem.schema
    wanted: t.Any = problem.validator_value
    found: t.Any = problem.instance
    path = tuple(problem.absolute_path)
    at = _place(path)
    if problem.validator == "enum":
        near = difflib.get_close_matches(text.display(found, 64).lower(), wanted, 1)
        message = f"{at}{shown(found)} is not one of {', '.join(wanted)}"
        hint = f"did you mean {near[0]}?" if near else ""
        if found == ARCHIVE:
            hint = "say of what: {type: archive, paths: [/etc]}"
        return Problem(path, message, hint)
    if problem.validator == "required":
        missing = ", ".join(key for key in wanted if key not in found)
        return Problem(path, f"{at}{missing} is missing", _missing_hint(missing, found, schema))
    message = _MESSAGES[str(problem.validator)].format(found=shown(found), wanted=wanted, type=_TYPES.get(str(wanted)))
    hints = {"pattern": schema.get("description", ""), "type": _type_hint(str(wanted), found)}
    at_key = problem.validator == "not"
    return Problem(path, f"{at}{message}", hints.get(str(problem.validator), ""), at_key)


def _place(path: t.Iterable[object]) -> str:
    where = ".".join(str(part) for part in path)
    return f"{where}: " if where else ""


def _missing_hint(missing: str, found: t.Mapping[t.Any, t.Any], schema: t.Mapping[str, t.Any]) -> str:
    if missing == "type":
        return "one of {}".format(", ".join(schema["properties"]["type"]["enum"]))
    if missing == "id":
        # Records name policies by their ids, so none is made up; but one can be proposed.
        words = re.findall("[a-z0-9]+", text.display(found.get("name"), 64).lower())
        return "for example id: {}".format("-".join(words)) if words else ""
    return ""


def _type_hint(wanted: str, found: object) -> str:
    if found is None or isinstance(found, (dict, list)):
        return ""
    return {"array": "put it in brackets", "string": "put it in quotes"}.get(wanted, "")
