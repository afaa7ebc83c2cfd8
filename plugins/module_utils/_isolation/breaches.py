# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Breaches: what somebody, or the engine, did to a container that should be isolated."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.errors import EngineError, NotFound
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import (
    ResolutionError,
    Resolver,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation import advice
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.entry import ISOLATED, Entry
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.isolator import Isolator
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.state import ContainerState
from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.verify import Finding


class Inspection(t.NamedTuple):
    """An isolation, compared with what the engine says.

    Attributes:
        entry: what the journal says.
        state: the container now; None where it is gone or cannot be read.
        breaches: what does not agree. Kinds beside those of Finding: C(restarted), C(ended), C(removed), C(recreated)
            (gone, and another container has its name), C(contradiction), C(unreadable) and C(interrupted).
    """

    entry: Entry
    state: ContainerState | None
    breaches: tuple[Finding, ...]


def inspect(isolator: Isolator, resolver: Resolver, entry: Entry) -> Inspection:
    """Compare an isolation with what is true now."""
    breaches = []
    state: ContainerState | None = None
    try:
        state, verification = isolator.verify(entry)
        if entry.started_at and state.started_at != entry.started_at:
            message = f"its process began at {state.started_at}, after it was isolated"
            breaches.append(Finding("restarted", message))
        if entry.snapshot.running and _was_ended(entry, state):
            breaches.append(Finding("ended", advice.of_an_end(state)))
        breaches += verification.unmet
        breaches += [Finding("contradiction", message) for message in verification.contradictions]
    except NotFound:
        breaches.append(_gone(resolver, entry))
    except EngineError as error:
        breaches.append(Finding("unreadable", error.message))
    if entry.phase != ISOLATED:
        message = f"the journal says {entry.phase}: a run was interrupted or did not succeed"
        breaches.append(Finding("interrupted", message))
    return Inspection(entry, state, tuple(breaches))


def _was_ended(entry: Entry, state: ContainerState) -> bool:
    """Whether somebody else, a restart of the engine or a reboot ended it, and no repair has taken note of that."""
    by_the_guard = entry.hold.ends or (entry.owes_start and not entry.ended_at)
    return not (state.running or by_the_guard) and entry.ended_at != state.finished_at


def _gone(resolver: Resolver, entry: Entry) -> Finding:
    try:
        successor = resolver.by_name(entry.snapshot.name)
    except (ResolutionError, EngineError):
        return Finding("removed", "it no longer exists")
    message = f"it no longer exists, and container {successor.id[:12]} has its name"
    return Finding("recreated", message)
