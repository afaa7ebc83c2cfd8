# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans: the steps that are missing between the state of a container and what is wanted of it.

Pure functions of what was read. Isolating and releasing both read, plan, act and read again until nothing is missing,
so a second run has nothing to do, check mode shows the first plan, and a run that follows a crash just goes on.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import Refused
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import (
    NO_NETWORK,
    ContainerState,
    Endpoint,
    RestartPolicy,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import Action, check_actions
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.glob import compiled

RESUMING = ("set_restart_policy", "start", "unpause")
"""Steps after which the container runs, or may be started by the engine."""


@dataclasses.dataclass(frozen=True)
class Goal:
    """What an isolation holds up: the union of all actions asked for so far.

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
        """The goal of the actions. Raises PolicyError where they exclude each other."""
        check_actions(actions)
        by_type = {action.type: action for action in actions}
        networks = by_type["network_disconnect"].networks if "network_disconnect" in by_type else ()
        return cls(
            pause="pause" in by_type,
            stop="stop" in by_type,
            grace=by_type["stop"].grace if "stop" in by_type else 0,
            networks=tuple(sorted(set(networks))),
            kill="kill" in by_type,
        )

    def joined(self, other: Goal) -> Goal:
        """Both goals at once. Raises Refused where they exclude each other."""
        if (self.pause and other.stop) or (self.stop and other.pause):
            raise Refused(
                "the container is isolated by {}, and stopping a paused container would run it again".format(
                    "pause" if self.pause else "stop"
                ),
                remedy="Use kill, or release it first",
            )
        return Goal(
            pause=self.pause or other.pause,
            stop=self.stop or other.stop,
            grace=max(self.grace, other.grace),
            networks=tuple(sorted(set(self.networks + other.networks))),
            kill=self.kill or other.kill,
        )

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


@dataclasses.dataclass(frozen=True)
class Step:
    """One call to the engine.

    Attributes:
        action: what is done.
        run: does it. Raises EngineError.
        detail: on what, for people.
        network: what calls to the engine name the network by, where the step is about one.
    """

    action: str
    run: t.Callable[[Engine], None] = dataclasses.field(compare=False, repr=False)
    detail: str = ""
    network: str = ""

    def __str__(self) -> str:
        return f"{self.action} {self.detail}".rstrip()


def applicable(
    state: ContainerState, goal: Goal, force: bool = False, owner: ContainerState | None = None
) -> tuple[Goal, list[str]]:
    """The part of the goal that can work on this container, and why the rest cannot.

    Args:
        state: of the container.
        goal: what is wanted.
        force: end it although the engine deletes it then.
        owner: of its network, where it uses that of another container which still exists.

    Raises:
        Refused: where no part can.
    """
    reasons = []
    if goal.networks and state.network_mode == "host":
        reasons.append("network_disconnect: it uses the network of the host, which cannot be taken from it")
    if goal.networks and state.network_owner and (owner is None or not owner.own_network):
        reasons.append(
            "network_disconnect: it uses the network of container {}, which {}".format(
                owner.name if owner else state.network_owner[:12],
                "has none of its own" if owner else "no longer exists",
            )
        )
    if reasons:
        goal = dataclasses.replace(goal, networks=())
    if goal.ends and state.auto_remove and not force:
        name = "stop" if goal.stop else "kill"
        reasons.append(f"{name}: the engine would delete it at once (auto-remove), and the evidence with it")
        goal = dataclasses.replace(goal, stop=False, kill=False)
    if goal.stop and state.paused:
        reasons.append("stop: it is paused, and any signal would run it again; kill ends it at once")
        goal = dataclasses.replace(goal, stop=False)
    if reasons and not goal.actions():
        raise Refused(
            "container {} cannot be isolated in this way: {}".format(state.name, "; ".join(reasons)),
            remedy="Use another action: pause works on every running container",
        )
    return goal, reasons


def isolation_steps(state: ContainerState, goal: Goal) -> list[Step]:
    """The steps that lead from the state to the goal, in the order that loses least.

    Pausing first stops the last byte soonest, leaves the process no time to react, and keeps a container with
    auto-remove from deleting itself. The restart policy goes to C(no) because the engine starts paused and stopped
    containers anew after a restart of its own.
    """
    cut = [_disconnect(state, endpoint) for endpoint in state.live_endpoints if goal.cuts(endpoint)]
    keep_down = [] if state.restart_policy.name == "no" else [_set_restart_policy(state, RestartPolicy())]
    if state.restarting:
        # The engine waits for up to a minute and starts it once more, with its networks, whatever its restart policy
        # says by then; only a stop ends that (measured). It has no process that could lose anything.
        return [*keep_down, _stop(state, 0), *cut]
    steps = [pause_step(state)] if goal.pause and state.running and not state.paused else []
    steps += [*cut, *keep_down]
    if goal.kill and state.running:
        steps.append(kill_step(state))
    elif goal.stop and state.running:
        steps.append(_stop(state, goal.grace))
    return steps


def release_steps(state: ContainerState, snapshot: ContainerState, goal: Goal) -> list[Step]:
    """The steps that lead from the state back to the snapshot, as far as the goal changed it.

    Networks come back first, while the container is still frozen and nothing starts it.
    """
    steps = [
        _connect(state, endpoint)
        for endpoint in snapshot.endpoints
        if goal.cuts(endpoint) and state.endpoint_like(endpoint) is None
    ]
    if state.restart_policy != snapshot.restart_policy:
        steps.append(_set_restart_policy(state, snapshot.restart_policy))
    starts = must_start(state, snapshot, goal)
    if starts:
        steps.append(Step("start", lambda engine: engine.start(state.id)))
    if goal.ends and snapshot.paused and (starts or (state.running and not state.paused)):
        steps.append(pause_step(state))
    if goal.pause and state.paused and not snapshot.paused:
        steps.append(Step("unpause", lambda engine: engine.unpause(state.id)))
    return steps


def must_start(state: ContainerState, snapshot: ContainerState, goal: Goal) -> bool:
    """Whether it was running and the guard ended it, so that a release starts it."""
    return (goal.ends or snapshot.restarting) and snapshot.running and not state.running


def predict(state: ContainerState, steps: t.Iterable[Step]) -> dict[str, t.Any]:
    """The summary of the state once the steps are done, for check mode."""
    after = state.summary()
    for step in steps:
        if step.action in ("pause", "unpause"):
            after["paused"] = step.action == "pause"
        elif step.action in ("stop", "kill", "start"):
            after.update(running=step.action == "start", paused=False)
        elif step.action == "disconnect":
            after["networks"] = [name for name in after["networks"] if name != step.detail]
        elif step.action == "connect":
            after["networks"] = sorted([*after["networks"], step.detail])
        elif step.action == "set_restart_policy":
            after["restart_policy"] = step.detail
    return after


def pause_step(state: ContainerState) -> Step:
    """Freeze every process."""
    return Step("pause", lambda engine: engine.pause(state.id))


def kill_step(state: ContainerState) -> Step:
    """End every process at once."""
    return Step("kill", lambda engine: engine.kill(state.id))


def _stop(state: ContainerState, grace: int) -> Step:
    return Step("stop", lambda engine: engine.stop(state.id, grace))


def _disconnect(state: ContainerState, endpoint: Endpoint) -> Step:
    reference = endpoint.reference
    return Step("disconnect", lambda engine: engine.disconnect(reference, state.id), endpoint.network, reference)


def _connect(state: ContainerState, endpoint: Endpoint) -> Step:
    reference = endpoint.reference
    return Step(
        "connect",
        lambda engine: engine.connect(reference, state.id, endpoint.settings),
        endpoint.network,
        reference,
    )


def _set_restart_policy(state: ContainerState, policy: RestartPolicy) -> Step:
    return Step(
        "set_restart_policy",
        lambda engine: engine.set_restart_policy(state.id, policy.name, policy.maximum_retry_count),
        str(policy),
    )
