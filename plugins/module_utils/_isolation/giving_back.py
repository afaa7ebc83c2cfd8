# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Giving back: what it will meet, as preflight found it out. Of isolating, nothing that stands in the way."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._isolation.plan import Want


class Preflight(t.NamedTuple):
    """What giving back will meet.

    Attributes:
        want: what to lead the container to: with the ids of networks that were re-created meanwhile under the same
            name in its snapshot, and with what stays as somebody else left it.
        problems: what has to be mended first.
        recreated: names of those networks, with the id before and after.
        conflicts: what somebody else changed while it was isolated: what, before, found.
    """

    want: Want
    problems: tuple[str, ...] = ()
    recreated: tuple[t.Mapping[str, str], ...] = ()
    conflicts: tuple[t.Mapping[str, str], ...] = ()

    def with_problem(self, problem: str) -> Preflight:
        """The same with one more problem, unless that is empty."""
        return self._replace(problems=(*self.problems, problem)) if problem else self
