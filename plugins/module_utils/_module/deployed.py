# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading the policy set of a host: all of it that answering alerts needs."""

from __future__ import annotations

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.errors import PolicyError
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.policy_set import PolicySet


def read_policy_set(path: str) -> PolicySet:
    """The policy set that is deployed at the path. Raises PolicyError."""
    return PolicySet.from_json(read_text(path), path)


def read_text(path: str) -> str:
    """The file that is deployed at the path. Raises PolicyError."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        raise PolicyError(
            f"no policy set is deployed at {path}",
            kind="policy_set_missing",
            remedy="Check the path (policy_set; guard_policy_set_path of the playbooks), or deploy a set there with "
            "the playbook ironpost.container_guard.deploy_policies",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"cannot read {path}: {error}", kind="policy_set_damaged") from error
