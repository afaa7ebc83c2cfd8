# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a policy does to a container."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError

ACTION_TYPES = ("network_disconnect", "pause", "stop", "kill")
DEFAULT_GRACE = 10
MAX_GRACE = 300
ENDING = ("stop", "kill")
"""Those after which a container no longer runs, and what it had in memory is lost."""
DEFAULT_APPROVAL_TIMEOUT = 86_400
MIN_APPROVAL_TIMEOUT, MAX_APPROVAL_TIMEOUT = 60, 604_800


@dataclasses.dataclass(frozen=True)
class Action:
    """One action.

    Attributes:
        type: one of ACTION_TYPES.
        networks: for C(network_disconnect): globs for names of networks to leave; C(*) for all.
        grace: for C(stop): seconds from the signal to the kill, 0 to 300.
        approval: for C(stop) and C(kill): it waits until a person approves of it.
        approval_timeout: seconds for which it waits.
    """

    type: str
    networks: tuple[str, ...] = ("*",)
    grace: int = DEFAULT_GRACE
    approval: bool = False
    approval_timeout: int = DEFAULT_APPROVAL_TIMEOUT

    @classmethod
    def from_dict(cls, value: t.Mapping[str, t.Any]) -> Action:
        """The action in a mapping that the schema or an argument spec has checked."""
        return cls(
            type=value["type"],
            networks=tuple(value.get("networks") or ("*",)),
            grace=DEFAULT_GRACE if value.get("grace") is None else value["grace"],
            approval=value.get("approval", False),
            approval_timeout=value.get("approval_timeout", DEFAULT_APPROVAL_TIMEOUT),
        )

    def to_dict(self) -> dict[str, t.Any]:
        """The action with the options that its type has."""
        options: dict[str, dict[str, t.Any]] = {
            "network_disconnect": {"networks": list(self.networks)},
            "stop": {"grace": self.grace},
        }
        # Where it is not asked for, sets of older versions keep their digests.
        approval = {"approval": True, "approval_timeout": self.approval_timeout} if self.approval else {}
        return {"type": self.type, **options.get(self.type, {}), **approval}

    @property
    def ends(self) -> bool:
        """Whether it ends the container at once, without waiting for anybody."""
        return self.type in ENDING and not self.approval


def preceded(actions: tuple[Action, ...]) -> tuple[Action, ...]:
    """The actions, with what holds the container meanwhile before one that waits for approval.

    That can be undone, and leaves what is in memory: before C(kill) pause and disconnect, before C(stop), which would
    run a paused container again, disconnect. Networks that the policy itself names are those.
    """
    waiting = next((action for action in actions if action.approval), None)
    if waiting is None:
        return actions
    types = {action.type for action in actions}
    holding = ("pause", "network_disconnect") if waiting.type == "kill" else ("network_disconnect",)
    return (*(Action(name) for name in holding if name not in types), *actions)


def check_actions(actions: t.Sequence[Action]) -> None:
    """Raises PolicyError (C(invalid_action)) where the actions cannot work together."""
    types = [action.type for action in actions]
    if not types:
        raise PolicyError("there is no action", kind="invalid_action", remedy="Give at least one")
    repeated = sorted({name for name in types if types.count(name) > 1})
    if repeated:
        raise PolicyError(
            "action {} is given twice".format(", ".join(repeated)),
            kind="invalid_action",
            remedy="Give each once; one network_disconnect takes a list of networks",
        )
    if "pause" in types and "stop" in types:
        # Any signal thaws a paused container (measured), so it would run again for the grace period.
        raise PolicyError(
            "pause and stop exclude each other: stopping runs a paused container again until it ends",
            kind="invalid_action",
            remedy="Keep pause, which keeps the evidence in memory, or use kill, which ends a paused container at once",
        )
    if "stop" in types and "kill" in types:
        raise PolicyError(
            "stop and kill exclude each other: both end the container",
            kind="invalid_action",
            remedy="Keep stop, which leaves it time to end by itself, or kill",
        )
