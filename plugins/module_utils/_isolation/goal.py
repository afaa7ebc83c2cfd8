# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The goal: what an isolation holds up. What several ask for is held up together."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import Refused
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import NO_NETWORK, Endpoint
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action, check_actions
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.glob import compiled


@dataclasses.dataclass(frozen=True)
class Goal:
    """What an isolation holds up: the union of all actions asked for.

    Attributes:
        pause: every process is frozen.
        stop: it ended, with grace seconds between the signal and the kill.
        kill: it ended at once.
        networks: globs for names of the networks that it left.
    """

    pause: bool = False
    stop: bool = False
    grace: int = 0
    networks: tuple[str, ...] = ()
    kill: bool = False

    @classmethod
    def of(cls, actions: t.Sequence[Action]) -> Goal:
        """The goal of those that wait for nobody's approval. Raises PolicyError where they exclude each other."""
        check_actions(actions)
        by_type = {action.type: action for action in actions if not action.approval}
        networks = by_type["network_disconnect"].networks if "network_disconnect" in by_type else ()
        return cls(
            pause="pause" in by_type,
            stop="stop" in by_type,
            grace=by_type["stop"].grace if "stop" in by_type else 0,
            networks=tuple(sorted(set(networks))),
            kill="kill" in by_type,
        )

    @classmethod
    def from_dict(cls, value: t.Mapping[str, t.Any]) -> Goal:
        """What dataclasses.asdict made of a goal. Raises KeyError or TypeError where it is something else."""
        return cls(**{**value, "networks": tuple(value["networks"])})

    def joined(self, other: Goal) -> Goal:
        """Both goals at once. Raises Refused where they exclude each other."""
        if (self.pause and other.stop) or (self.stop and other.pause):
            raise Refused(
                "the container is isolated by {}, and stopping a paused container would run it again".format(
                    "pause" if self.pause else "stop"
                ),
                remedy="Use kill, or release it first",
            )
        return self.with_all_of(other)

    def with_all_of(self, other: Goal) -> Goal:
        """All that either holds up, also where they exclude each other: what has to be undone in the end."""
        return Goal(
            pause=self.pause or other.pause,
            stop=self.stop or other.stop,
            grace=max(self.grace, other.grace),
            networks=tuple(sorted(set(self.networks + other.networks))),
            kill=self.kill or other.kill,
        )

    def without(self, actions: t.Container[str]) -> Goal:
        """What is left of it without these actions."""
        return Goal(
            pause=self.pause and "pause" not in actions,
            stop=self.stop and "stop" not in actions,
            grace=self.grace,
            networks=() if "network_disconnect" in actions else self.networks,
            kill=self.kill and "kill" not in actions,
        )

    def __bool__(self) -> bool:
        return self.pause or self.ends or bool(self.networks)

    @property
    def ends(self) -> bool:
        """Whether the container must not run."""
        return self.stop or self.kill

    def actions(self) -> tuple[str, ...]:
        """Names of the actions that it is made of."""
        wanted = {"pause": self.pause, "network_disconnect": self.networks, "stop": self.stop, "kill": self.kill}
        return tuple(name for name, held in wanted.items() if held)

    def cuts(self, endpoint: Endpoint) -> bool:
        """Whether the container must leave that network."""
        return endpoint.network != NO_NETWORK and any(
            compiled(pattern).matches(endpoint.network) for pattern in self.networks
        )


NOTHING = Goal()
