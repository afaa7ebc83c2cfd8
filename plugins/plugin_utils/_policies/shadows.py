# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Policies that can never answer, because an earlier one of the set answers all that they would.

The check is sound, not complete: whom it names is shadowed, and some that are shadowed it does not see.
"""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.glob import Glob, GlobIndex
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import (
    SCOPES,
    Policy,
    TargetFilter,
)

_Lists = dict[str, tuple[str, ...]]


def shadowed(policies: t.Iterable[Policy]) -> t.Iterator[tuple[Policy, Policy]]:
    """The enabled policies that can never answer, each with the first one that always answers before it.

    Policies come in the order in which they are asked. A thousand cost a few milliseconds: each is a bit, and each list
    of a policy selects the mask of those before it whose list lets through at least as much.
    """
    before = [policy for policy in policies if policy.enabled]
    by_severity = dict.fromkeys(Severity, 0)
    by_scope = dict.fromkeys(SCOPES, 0)
    covers: dict[str, _Covers] = {}
    for index, policy in enumerate(before):
        lists = {
            "sources": policy.sources,
            "rules": policy.rules,
            "tags": policy.tags,
            "hosts": policy.hosts,
            **_comparable(policy.target_filter),
        }
        candidates = by_severity[policy.severity_threshold] & by_scope[policy.scope]
        for name, patterns in lists.items():
            if candidates:
                candidates &= covers[name].all_of(patterns)
        while candidates:
            lowest = candidates & -candidates
            candidates ^= lowest
            earlier = before[lowest.bit_length() - 1]
            if _excludes_no_more(earlier.exclude, policy.exclude):
                yield policy, earlier
                break
        bit = 1 << index
        by_scope[policy.scope] |= bit
        for severity in Severity:
            if severity >= policy.severity_threshold:
                by_severity[severity] |= bit
        for name, patterns in lists.items():
            covers.setdefault(name, _Covers()).add(patterns, bit)


class _Covers:
    """One list of the policies: which of them let everything through that another's lets."""

    def __init__(self) -> None:
        self._unrestricted = 0
        self._same: dict[str, int] = {}
        self._globs = GlobIndex()

    def add(self, patterns: t.Sequence[str], bit: int) -> None:
        """The policy of the bit has this list."""
        if not patterns:
            self._unrestricted |= bit
        for pattern in patterns:
            self._same[pattern] = self._same.get(pattern, 0) | bit
            if _comparable_glob(pattern):
                self._globs.add(pattern, bit)

    def all_of(self, patterns: t.Sequence[str]) -> int:
        """The policies of which each of the patterns is covered by one of theirs."""
        found = -1 if patterns else self._unrestricted
        for pattern in patterns:
            found &= self._unrestricted | self._same.get(pattern, 0) | self._globs.mask(pattern)
        return found


def _excludes_no_more(earlier: TargetFilter, later: TargetFilter) -> bool:
    by = _comparable(later)
    return all(_covered(pattern, by[name]) for name, patterns in _comparable(earlier).items() for pattern in patterns)


def _covered(pattern: str, by: t.Iterable[str]) -> bool:
    return any(pattern == other or (_comparable_glob(other) and Glob(other).matches(pattern)) for other in by)


def _comparable_glob(pattern: str) -> bool:
    """Whether the pattern matches all that another does, if it matches the text of that other.

    It does where its only wildcard is C(*): the wildcards of the other then stand where this one takes any text. The
    key of a label is no glob.
    """
    key, separator, _value = pattern.partition("=")
    return "?" not in pattern and not (separator and "*" in key)


def _comparable(target_filter: TargetFilter) -> _Lists:
    """The lists of a filter as globs: a label becomes one for C(key=value)."""
    return {
        "container_names": target_filter.container_names,
        "image_patterns": target_filter.image_patterns,
        "labels": tuple(label if "=" in label else f"{label}=*" for label in target_filter.labels),
    }
