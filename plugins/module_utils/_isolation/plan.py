# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans: the steps that are missing between the state of a container and what is wanted of it.

Pure functions of what was read. A walk reads, plans, acts and reads again until nothing is missing, so a second run has
nothing to do, check mode shows the first plan, and a run that follows a crash just goes on.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.errors import Refused
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.goal import Goal
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import (
    ContainerState,
    Endpoint,
    RestartPolicy,
)

RESUMING = ("set_restart_policy", "start", "unpause")
"""Steps after which the container runs, or may be started by the engine."""


@dataclasses.dataclass(frozen=True)
class Want:
    """What is wanted of a container.

    While anything holds it, the engine may not start it; nor does the guard, unless it holds its network alone, for the
    sake of others. Without that it is to be as in the snapshot.

    Attributes:
        snapshot: the container before the guard touched it.
        hold: what its claims hold up together.
        held: what was held up until now: what C(hold) lacks of it is undone.
        owes_start: the guard ended it, or kept the engine from starting it again.
        creates: networks that are gone and to be made anew, by name, as the engine once described them.
        end_first: when the process began that has to end before anything comes back; empty where none has to.
        gone: ids of networks that are gone, and that keep it from starting while it has keys for them.
        runs: a release left nobody who holds the container itself, so that it runs again.
    """

    snapshot: ContainerState
    hold: Goal
    held: Goal
    owes_start: bool = False
    end_first: str = ""
    creates: t.Mapping[str, t.Mapping[str, t.Any]] = dataclasses.field(default_factory=dict)
    gone: tuple[str, ...] = ()
    runs: bool = False

    @property
    def gives_back_anything(self) -> bool:
        """Whether something is to be undone."""
        return self.gives_back_processes or self.hold != self.held

    @property
    def gives_back_processes(self) -> bool:
        """Whether it is to run as before."""
        return self.runs or not self.hold

    def gives_back(self, endpoint: Endpoint) -> bool:
        """Whether the container must come back on that network."""
        return self.held.cuts(endpoint) and not self.hold.cuts(endpoint)

    def must_start(self, state: ContainerState) -> bool:
        """Whether it ran, and the guard ended it, or took the restart policy that would have brought it back."""
        if not self.gives_back_processes or not self.snapshot.running or state.running:
            return False
        ended = self.held.ends or self.owes_start or self.snapshot.restarting or bool(self.end_first)
        return ended or comes_back_by_itself(self.snapshot.restart_policy, state)


def comes_back_by_itself(policy: RestartPolicy, state: ContainerState) -> bool:
    """Whether the engine would have started the container again that is down now, by that restart policy (measured)."""
    return policy.name in ("always", "unless-stopped") or (policy.name == "on-failure" and state.exit_code != 0)


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


def missing_steps(state: ContainerState, want: Want) -> list[Step]:
    """The steps that lead from the state to what is wanted, in the order that loses least.

    What holds comes first: pausing stops the last byte soonest, leaves the process no time to react, and keeps a
    container with auto-remove from deleting itself. The restart policy goes to C(no) because the engine starts paused
    and stopped containers anew after a restart of its own. Of what is given back networks come first, while the
    container is still frozen and nothing starts it.
    """
    if want.end_first and state.running and state.started_at == want.end_first:
        return [_kill(state)]  # nothing comes back before it is known to have ended
    return (_holding(state, want.hold) if want.hold else []) + _giving_back(state, want)


def _holding(state: ContainerState, hold: Goal) -> list[Step]:
    cut = [_disconnect(state, endpoint) for endpoint in state.live_endpoints if hold.cuts(endpoint)]
    keep_down = [] if state.restart_policy.name == "no" else [_set_restart_policy(state, RestartPolicy())]
    if state.restarting:
        # The engine waits for up to a minute and starts it once more, with its networks, whatever its restart policy
        # says by then; only a stop ends that (measured). It has no process that could lose anything.
        return [*keep_down, _stop(state, 0), *cut]
    steps = [_pause(state)] if hold.pause and state.running and not state.paused else []
    steps += [*cut, *keep_down]
    if hold.kill and state.running:
        steps.append(_kill(state))
    elif hold.stop and state.running:
        steps.append(_stop(state, hold.grace))
    return steps


def _giving_back(state: ContainerState, want: Want) -> list[Step]:
    snapshot, hold, held = want.snapshot, want.hold, want.held
    stale = [endpoint for endpoint in state.endpoints if endpoint.network_id in want.gone]
    missing = [e for e in snapshot.endpoints if want.gives_back(e) and state.endpoint_like(e) in (None, *stale)]
    steps = [_create(want.creates[endpoint.network]) for endpoint in missing if endpoint.network in want.creates]
    steps += [_disconnect(state, endpoint) for endpoint in stale]
    steps += [_connect(state, endpoint) for endpoint in missing]
    thaw = held.pause and not hold.pause and state.paused and not snapshot.paused
    if not hold and state.restart_policy != snapshot.restart_policy:
        steps.append(_set_restart_policy(state, snapshot.restart_policy))
    if want.gives_back_processes:
        starts = want.must_start(state)
        if starts:
            steps.append(Step("start", lambda engine: engine.start(state.id)))
        ended = held.ends or bool(want.end_first) or want.owes_start
        if ended and snapshot.paused and (starts or (state.running and not state.paused)):
            steps.append(_pause(state))
    if thaw:
        steps.append(Step("unpause", lambda engine: engine.unpause(state.id)))
    return steps


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


def _pause(state: ContainerState) -> Step:
    return Step("pause", lambda engine: engine.pause(state.id))


def _kill(state: ContainerState) -> Step:
    return Step("kill", lambda engine: engine.kill(state.id))


def _stop(state: ContainerState, grace: int) -> Step:
    return Step("stop", lambda engine: engine.stop(state.id, grace))


def _disconnect(state: ContainerState, endpoint: Endpoint) -> Step:
    # The keys of one that is down go by name, and their networks may be gone (measured).
    reference = endpoint.reference if state.running else endpoint.network
    return Step("disconnect", lambda engine: engine.disconnect(reference, state.id), endpoint.network, reference)


def _create(definition: t.Mapping[str, t.Any]) -> Step:
    name = str(definition["Name"])

    def run(engine: Engine) -> None:
        try:
            engine.inspect_network(name)
        except NotFound:
            engine.create_network(definition)

    return Step("create_network", run, name)


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
