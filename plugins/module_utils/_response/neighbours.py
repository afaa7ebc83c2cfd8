# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Neighbours: the other containers that an isolation touches, though nobody asked for theirs."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError


def neighbour_warnings(
    resolver: Resolver, container_id: str, actions: t.Iterable[t.Mapping[str, t.Any]]
) -> tuple[str, ...]:
    """What to say of the others once a container was isolated by these actions (measured)."""
    # Ending the owner of a network leaves those that use it without one, until they are restarted.
    cut = any(action["type"] in ("network_disconnect", "stop", "kill") for action in actions)
    state = "cut off with it" if cut else "still connected"
    try:
        warnings = [
            f"container {peer.name} shares its network: {state}, and not paused or ended"
            for peer in resolver.network_peers(container_id)
        ]
        linked = resolver.linked_from(container_id) if cut else []
    except GuardError as error:  # what was done is done, and must be told
        return (f"which containers share its network or link to it is not known: {error.message}",)
    warnings += [
        f"container {name} links to it (--link): commands cannot be run in that one and it cannot be started until "
        "this one is released, and where its health is checked it turns unhealthy"
        for name in linked
    ]
    return tuple(warnings)
