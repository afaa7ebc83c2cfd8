# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The deployment: a policy set as it lies on a host, with where it came from."""

from __future__ import annotations

import dataclasses
import json
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet


@dataclasses.dataclass(frozen=True)
class Deployment:
    """A policy set and its provenance.

    The provenance is not part of the digest: equal sets are equal whenever and from whichever files they were deployed.

    Attributes:
        policy_set: what decides.
        files: names of the files on the controller that it was compiled from.
        deployed_at: when it was put in place, RFC 3339; empty before that.
    """

    policy_set: PolicySet
    files: tuple[str, ...] = ()
    deployed_at: str = ""

    def to_json(self) -> str:
        """The deployed form of the set, which PolicySet.from_json reads too, with its provenance."""
        content = json.loads(self.policy_set.to_json())
        content["provenance"] = {"files": list(self.files), "deployed_at": self.deployed_at}
        return json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n"

    @classmethod
    def from_json(cls, text: str, origin: str) -> Deployment:
        """The deployment that to_json, or PolicySet.to_json, wrote.

        Args:
            text: what was written.
            origin: where it was read, for messages.

        Raises:
            PolicyError: C(policy_set_damaged).
        """
        policy_set = PolicySet.from_json(text, origin)
        provenance: t.Any = json.loads(text).get("provenance", {"files": [], "deployed_at": ""})
        if not _is_provenance(provenance):
            raise PolicyError(
                f"{origin} does not say in a readable way where its policies came from",
                kind="policy_set_damaged",
                remedy="Deploy the policy set again",
            )
        return cls(policy_set, tuple(provenance["files"]), provenance["deployed_at"])


def _is_provenance(value: t.Any) -> bool:
    return (
        isinstance(value, dict)
        and isinstance(value.get("deployed_at"), str)
        and isinstance(value.get("files"), list)
        and all(isinstance(name, str) for name in value["files"])
    )
