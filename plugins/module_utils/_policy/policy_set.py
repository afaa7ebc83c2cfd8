# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The policy set: all policies and protected containers of one fleet, in one canonical form with a digest."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy import (
    ENFORCE,
    NO_FILTER,
    Policy,
    TargetFilter,
    stricter,
)

FORMAT = 1
"""Version of the deployed file."""
DEFAULT_MAX_ALERT_AGE = 900
"""Seconds."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """How much the guard may do by itself on one host.

    Attributes:
        max_containers_per_alert: where an alert names no container, the most that it may isolate. Where more match,
            none is: which of them would be chance.
        max_isolations: most containers that are isolated within the window; 0 for no limit.
        window: seconds.
        max_alert_age: seconds after which an alert is answered no more; 0 for never.
    """

    max_containers_per_alert: int = 1
    max_isolations: int = 0
    window: int = 0
    max_alert_age: int = DEFAULT_MAX_ALERT_AGE

    @classmethod
    def from_dict(cls, value: t.Mapping[str, t.Any] | None) -> Limits:
        """The limits in a mapping that the schema has checked."""
        value = value or {}
        window = value.get("max_isolations_per_window") or {}
        return cls(
            value.get("max_containers_per_alert", 1),
            window.get("count", 0),
            window.get("seconds", 0),
            value.get("max_alert_age", DEFAULT_MAX_ALERT_AGE),
        )

    def to_dict(self) -> dict[str, t.Any]:
        """The limits in their one canonical spelling."""
        limits: dict[str, t.Any] = {"max_containers_per_alert": self.max_containers_per_alert}
        if self.max_isolations:
            limits["max_isolations_per_window"] = {"count": self.max_isolations, "seconds": self.window}
        if self.max_alert_age != DEFAULT_MAX_ALERT_AGE:  # sets of older versions keep their digests
            limits["max_alert_age"] = self.max_alert_age
        return limits


NO_LIMITS = Limits()


@dataclasses.dataclass(frozen=True)
class PolicySet:
    """Policies in the order in which they are asked, what is never isolated, and how much may be.

    Attributes:
        policies: in the order in which they are asked.
        protect: what is never isolated.
        limits: how much the guard may do by itself.
        mode: C(audit) makes every policy one of that mode, C(enforce) leaves them theirs.
    """

    policies: tuple[Policy, ...]
    protect: TargetFilter = NO_FILTER
    limits: Limits = NO_LIMITS
    mode: str = ENFORCE

    @classmethod
    def of(
        cls,
        policies: t.Iterable[Policy],
        protect: TargetFilter = NO_FILTER,
        limits: Limits = NO_LIMITS,
        mode: str = ENFORCE,
    ) -> PolicySet:
        """The set of these policies, whatever order they come in. Raises PolicyError for an id that is not unique."""
        ordered = sorted(policies, key=lambda policy: (policy.priority, policy.id))
        ids = [policy.id for policy in ordered]
        repeated = sorted({name for name in ids if ids.count(name) > 1}) if len(set(ids)) < len(ids) else []
        if repeated:
            raise PolicyError("more than one policy has the id {}".format(", ".join(repeated)))
        return cls(
            tuple(ordered),
            TargetFilter(**{name: tuple(sorted(set(values))) for name, values in protect.to_dict().items()}),
            limits,
            stricter(ENFORCE, mode),
        )

    def _content(self) -> dict[str, t.Any]:
        return {
            "policies": [policy.to_dict() for policy in self.policies],
            "protect": self.protect.to_dict(),
            "limits": self.limits.to_dict(),
            **({} if self.mode == ENFORCE else {"mode": self.mode}),  # sets of older versions keep their digests
        }

    @property
    def digest(self) -> str:
        """SHA-256 over the content, C(sha256:...): equal for equal policies, whatever files they came from."""
        return "sha256:" + hashlib.sha256(_canonical(self._content())).hexdigest()

    def to_json(self) -> str:
        """The deployed form: one line of canonical JSON."""
        return _canonical({"format": FORMAT, "digest": self.digest, **self._content()}).decode("ascii") + "\n"

    @classmethod
    def from_json(cls, text: str, origin: str) -> PolicySet:
        """The set in its deployed form.

        Args:
            text: what to_json wrote.
            origin: where it was read, for messages.

        Raises:
            PolicyError: C(policy_set_damaged) where it is not what to_json wrote.
        """
        try:
            content = json.loads(text)
            version = content["format"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise _damaged(f"{origin} is not a deployed policy set ({error!r})") from error
        if version != FORMAT:
            raise _damaged(f"{origin} has format {version!r}; this version of the collection reads {FORMAT}")
        try:
            policies = [Policy.from_dict(policy) for policy in content["policies"]]
            loaded = cls.of(
                policies,
                TargetFilter.from_dict(content["protect"]),
                Limits.from_dict(content["limits"]),
                content.get("mode", ENFORCE),
            )
            intact = content["digest"] == loaded.digest
        except (GuardError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise _damaged(f"{origin} is not a deployed policy set ({error!r})") from error
        if not intact:
            raise _damaged(f"{origin} was changed after it was deployed: its digest does not fit its content")
        return loaded


def _damaged(message: str) -> PolicyError:
    return PolicyError(message, kind="policy_set_damaged", remedy="Deploy the policy set again")


def _canonical(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode("ascii")
