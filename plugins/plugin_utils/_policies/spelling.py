# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The spellings in which people may write a policy file, brought to the one that is validated.

ironpost, from which the language comes, wrote TOML: capitalised severities, and actions as its programming language
spells them. These files stay valid, and all formats take their spellings. What is not known is left as it stands, so
that validation shows what was written.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import SEVERITIES
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import ACTION_TYPES
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.schema import POLICY, POLICY_FILE

_ACTION_KEYS = POLICY["properties"]["action"]["properties"]
_TABLES_KEY = "policy"
"""Another name of C(policies): in TOML each is a table of its own, C([[policy]])."""
# What both kinds of file can say, as the mode, does not tell which kind it is.
_KEYS_OF_ONE = POLICY["properties"].keys() - POLICY_FILE["properties"].keys()
_KEYS_OF_MANY = (POLICY_FILE["properties"].keys() - POLICY["properties"].keys()) | {_TABLES_KEY}


@dataclasses.dataclass(frozen=True)
class Origin:
    """Where something that was spelled differently stands in the file.

    Attributes:
        path: the keys and places in lists that lead to it.
        is_key: whether it is the last key of the path, not its value.
    """

    path: tuple[str, ...]
    is_key: bool = False


class Canonical:
    """A policy file in the canonical spelling.

    Attributes:
        content: what it holds, a mapping of POLICY_FILE as far as the file is one.
    """

    def __init__(self, content: t.Mapping[t.Any, t.Any]) -> None:
        self._origins: dict[tuple[str, ...], Origin] = {(): Origin(())}
        self.content: dict[t.Any, t.Any] = self._file(dict(content))

    def origin(self, path: t.Iterable[object]) -> Origin:
        """Where that which the canonical spelling has at the path stands in the file."""
        found, canonical = Origin(()), tuple(map(str, path))
        for depth in range(1, len(canonical) + 1):
            found = self._origins.get(canonical[:depth]) or Origin((*found.path, canonical[depth - 1]))
        return found

    def _move(self, path: tuple[str, ...], origin: Origin) -> None:
        self._origins[path] = origin

    def _file(self, content: dict[t.Any, t.Any]) -> dict[t.Any, t.Any]:
        if content.keys() & _KEYS_OF_ONE and not content.keys() & _KEYS_OF_MANY:
            self._move(("policies",), Origin(()))
            self._move(("policies", "0"), Origin(()))
            content = {"policies": [content]}
        elif _TABLES_KEY in content and "policies" not in content:
            self._move(("policies",), Origin((_TABLES_KEY,)))
            content = {("policies" if key == _TABLES_KEY else key): value for key, value in content.items()}
            if isinstance(content["policies"], dict):  # [policy] instead of [[policy]]
                self._move(("policies", "0"), Origin((_TABLES_KEY,)))
                content["policies"] = [content["policies"]]
        policies = content.get("policies")
        if isinstance(policies, list):
            content["policies"] = [
                self._policy(("policies", str(index)), policy) for index, policy in enumerate(policies)
            ]
        return content

    def _policy(self, path: tuple[str, ...], value: t.Any) -> t.Any:
        if not isinstance(value, dict):
            return value
        policy = dict(value)
        severity = policy.get("severity_threshold")
        if isinstance(severity, str) and severity.lower() in SEVERITIES:
            policy["severity_threshold"] = severity.lower()
        if "action" in policy:
            policy["action"] = self._action((*path, "action"), policy["action"])
        for key in ("actions", "fallback"):
            if isinstance(policy.get(key), list):
                policy[key] = [self._action((*path, key, str(index)), item) for index, item in enumerate(policy[key])]
        return policy

    def _action(self, path: tuple[str, ...], value: t.Any) -> t.Any:
        here = self.origin(path).path
        if isinstance(value, str):  # "Pause"
            self._move((*path, "type"), Origin(here))
            return {"type": action_type(value)}
        if not isinstance(value, dict):
            return value
        if isinstance(value.get("type"), str):
            return {**value, "type": action_type(value["type"])}
        if len(value) == 1:  # {Pause: []} or {NetworkDisconnect: {networks: [...]}}
            ((name, options),) = value.items()
            if not isinstance(name, str) or name in _ACTION_KEYS:
                return value
            if (isinstance(options, dict) and "type" not in options) or options in ([], None):
                self._move(path, Origin((*here, name)))
                self._move((*path, "type"), Origin((*here, name), is_key=True))
                return {"type": action_type(name), **(options or {})}
        return value


def action_type(name: str) -> str:
    """C(network_disconnect) for C(NetworkDisconnect), and so on; what is no type, as it stands."""
    folded = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    return folded if folded in ACTION_TYPES else name
