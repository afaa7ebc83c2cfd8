# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The policy language as a JSON schema (draft 2020-12): the single description of what a policy file may hold.

A Python dict, because only Python files travel to targets.
"""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import SEVERITIES
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import (
    ACTION_TYPES,
    DEFAULT_APPROVAL_TIMEOUT,
    ENDING,
    MAX_APPROVAL_TIMEOUT,
    MAX_GRACE,
    MIN_APPROVAL_TIMEOUT,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.breach import ON_BREACH, THEN
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.evidence import (
    ARCHIVE,
    EVIDENCE,
    MAX_PATHS,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import MODES, SCOPES

MAX_POLICIES = 1_000
"""Most policies a set may have."""


def _globs(description: str, minimum: int = 1) -> dict[str, t.Any]:
    return {
        "description": description,
        "type": "array",
        "minItems": minimum,
        "maxItems": 256,
        "items": {"type": "string", "minLength": 1, "maxLength": 256},
    }


_FILTER_LISTS = {
    "container_names": _globs("Globs for the name of the container.", 0),
    "image_patterns": _globs("Globs for the image reference as given, or in its short form.", 0),
    "labels": {
        **_globs("Labels: key, or key=glob.", 0),
        "items": {
            "description": "key, or key=glob.",
            "type": "string",
            "minLength": 1,
            "maxLength": 512,
            "pattern": "^[^=]",
        },
    },
}

_FILTER: dict[str, t.Any] = {
    "description": "Containers. A list matches when one of its entries does; one match is enough.",
    "type": "object",
    "additionalProperties": False,
    "properties": _FILTER_LISTS,
}


def _only_for(types: t.Sequence[str], option: str) -> dict[str, t.Any]:
    # A misspelt type is a problem of its own, and says nothing about the options.
    others = [other for other in ACTION_TYPES if other not in types]
    return {
        "if": {"required": ["type"], "properties": {"type": {"enum": others}}},
        # The same as false, of which the validator would not say where it is.
        "then": {"properties": {option: {"not": {}}}},
    }


_ACTION: dict[str, t.Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["type"],
    "properties": {
        "type": {"description": "What is done.", "enum": list(ACTION_TYPES)},
        "networks": _globs("For network_disconnect: globs for names of networks. Default: all."),
        "grace": {
            "description": "For stop: seconds from the signal to the kill.",
            "type": "integer",
            "minimum": 0,
            "maximum": MAX_GRACE,
        },
        "approval": {
            "description": "For stop and kill: whether it waits until a person approves of it. Meanwhile the container "
            "is held reversibly: for kill it is paused and disconnected, for stop disconnected. Default: false.",
            "type": "boolean",
        },
        "approval_timeout": {
            "description": "With approval: seconds for which it waits. Then the container stays held, and is not "
            f"ended. Default: {DEFAULT_APPROVAL_TIMEOUT}.",
            "type": "integer",
            "minimum": MIN_APPROVAL_TIMEOUT,
            "maximum": MAX_APPROVAL_TIMEOUT,
        },
    },
    "allOf": [
        _only_for(["network_disconnect"], "networks"),
        _only_for(["stop"], "grace"),
        _only_for(ENDING, "approval"),
        _only_for(ENDING, "approval_timeout"),
    ],
}

_EVIDENCE: dict[str, t.Any] = {
    "description": "A kind of evidence, or an archive.",
    # Rather than anyOf, of which the validator would not say which one was meant.
    "if": {"type": "object"},
    "then": {
        "additionalProperties": False,
        "required": ["type", "paths"],
        "properties": {
            "type": {"description": "What is collected.", "enum": [ARCHIVE]},
            "paths": {
                "description": "Absolute paths in the container.",
                "type": "array",
                "minItems": 1,
                "maxItems": MAX_PATHS,
                "items": {
                    "description": "An absolute path without control characters.",
                    "type": "string",
                    "maxLength": 4096,
                    # In Python $ alone would let a newline follow.
                    "pattern": r"^/[^\x00-\x1f\x7f]*$(?!\n)",
                },
            },
        },
    },
    "else": {"enum": list(EVIDENCE)},
}

_ON_BREACH: dict[str, t.Any] = {
    "description": "What the host service does where somebody undoes an isolation: repair, escalate or report, or a "
    "mapping with more. Default: repair.",
    # Rather than anyOf, of which the validator would not say which one was meant.
    "if": {"type": "object"},
    "then": {
        "additionalProperties": False,
        "properties": {
            "action": {
                "description": "repair isolates it again, escalate does at once what then says, report only tells. "
                "Default: repair.",
                "enum": list(ON_BREACH),
            },
            "max_repairs": {
                "description": "How often it is repaired within the window. Default: 5.",
                "type": "integer",
                "minimum": 1,
                "maximum": 1_000,
            },
            "window": {
                "description": "Seconds. Default: 600.",
                "type": "integer",
                "minimum": 1,
                "maximum": 86_400,
            },
            "then": {
                "description": "What is done once it was repaired so often: kill, network_disconnect, or report. "
                "Default: kill.",
                "enum": list(THEN),
            },
        },
    },
    "else": {"enum": list(ON_BREACH)},
}

POLICY: dict[str, t.Any] = {
    "title": "policy",
    "type": "object",
    "additionalProperties": False,
    "required": ["id"],
    "oneOf": [{"required": ["actions"]}, {"required": ["action"]}],
    "properties": {
        "id": {
            "description": "Unique in the set: up to 128 letters, digits and any of . _ - after a letter or a digit.",
            "type": "string",
            # In Python $ alone would let a newline follow.
            "pattern": r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$(?!\n)",
        },
        "name": {"description": "For people. Default: the id.", "type": "string", "maxLength": 256},
        "description": {"description": "For people.", "type": "string", "maxLength": 4096},
        "enabled": {"description": "Whether the policy is asked. Default: true.", "type": "boolean"},
        "priority": {
            "description": "Lower is asked first, then by id; the first match wins. Default: 100.",
            "type": "integer",
            "minimum": 0,
            "maximum": 1_000_000,
        },
        "mode": {"description": "enforce acts, audit only records. Default: enforce.", "enum": list(MODES)},
        "severity_threshold": {"description": "Least severity. Default: info.", "enum": list(SEVERITIES)},
        "sources": _globs("Globs for the detector. Default: any."),
        "rules": _globs("Globs for the rule of the detector. Default: any."),
        "tags": _globs("Globs, one of which a tag of the alert must match. Default: any."),
        "hosts": _globs(
            "Globs for the inventory name of the host, or what the detector says where that is unknown. Default: any."
        ),
        "scope": {
            "description": "alert_container answers alerts that mean one container, with that one. "
            "matching_containers answers alerts that say nothing about containers, of sources that do not name them, "
            "with the containers of their host that target_filter matches, within limits.max_containers_per_alert. "
            "Default: alert_container.",
            "enum": list(SCOPES),
        },
        "target_filter": {
            **_FILTER,
            "description": "Containers that the policy may reach. Every list that is not empty must match.",
            "properties": {**_FILTER_LISTS, "exclude": _FILTER},
        },
        "action": {**_ACTION, "description": "What is done, where it is one thing."},
        "actions": {
            "description": "What is done. Give this or action.",
            "type": "array",
            "minItems": 1,
            "maxItems": len(ACTION_TYPES),
            "items": _ACTION,
        },
        "fallback": {
            "description": "What is done instead where none of the actions can work on the container, such as "
            "network_disconnect on one that uses the network of the host.",
            "type": "array",
            "maxItems": len(ACTION_TYPES),
            "items": _ACTION,
        },
        "evidence": {
            "description": "What to collect of the container: kinds of evidence, and archives of paths.",
            "type": "array",
            "maxItems": len(EVIDENCE) + 1,
            "items": _EVIDENCE,
        },
        "cooldown": {
            "description": "Seconds in which the policy does not act again on the same container. Default: 0.",
            "type": "integer",
            "minimum": 0,
            "maximum": 604_800,
        },
        "release_after": {
            "description": "Seconds until the container is to be released; 0 for never. Default: 0.",
            "type": "integer",
            "minimum": 0,
            "maximum": 31_536_000,
        },
        "on_breach": _ON_BREACH,
    },
}

LIMITS: dict[str, t.Any] = {
    "description": "How much the guard may do by itself on one host.",
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "max_containers_per_alert": {
            "description": "Most containers that an alert which names none may isolate. Where more match, none is. "
            "Default: 1.",
            "type": "integer",
            "minimum": 1,
            "maximum": 1_000,
        },
        "max_isolations_per_window": {
            "description": "Most containers that are isolated within a time. Default: no limit.",
            "type": "object",
            "additionalProperties": False,
            "required": ["count", "seconds"],
            "properties": {
                "count": {"description": "How many.", "type": "integer", "minimum": 1, "maximum": 10_000},
                "seconds": {"description": "Length of the window.", "type": "integer", "minimum": 1, "maximum": 86_400},
            },
        },
        "max_alert_age": {
            "description": "Seconds after which an alert is answered no more, by the clock of the controller; 0 for "
            "never. Default: 900.",
            "type": "integer",
            "minimum": 0,
            "maximum": 86_400,
        },
    },
}

POLICY_FILE: dict[str, t.Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "container_guard policy file",
    "type": "object",
    "additionalProperties": False,
    "minProperties": 1,
    "properties": {
        "policies": {
            "description": "Policies, in any order.",
            "type": "array",
            "maxItems": MAX_POLICIES,
            "items": POLICY,
        },
        "protect": {**_FILTER, "description": "Containers that are never isolated, whatever a policy says."},
        "limits": LIMITS,
        "mode": {
            "description": "audit makes every policy of the set only record, enforce leaves them their own mode. "
            "Default: enforce.",
            "enum": list(MODES),
        },
    },
}
"""A file with many policies. A file with one is a POLICY by itself."""
