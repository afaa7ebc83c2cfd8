# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading the policy set of a host: all of it that answering alerts needs."""

from __future__ import annotations

import os

from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.deployment import Deployment
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
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


def read_deployment(path: str) -> Deployment:
    """The policy set that is deployed at the path, with its provenance. Raises PolicyError."""
    return Deployment.from_json(read_text(path), path)


def deployed(path: str) -> tuple[Deployment | None, str]:
    """What is deployed, or None and, where something is there that cannot be read, what is wrong with it."""
    try:
        return read_deployment(path), ""
    except PolicyError as error:
        return None, "" if error.kind == "policy_set_missing" else error.message


def protecting(path: str, usual: str) -> PolicyEngine | None:
    """The policies of a host, which say what is protected; None where there are none.

    Args:
        path: where they are deployed.
        usual: the path at which there need not be any.

    Raises:
        PolicyError: also where there is no file and somebody said that there is one: it may hold what is protected.
    """
    if path == usual and not _is_there(path):
        return None
    return PolicyEngine(read_policy_set(path))


def unprotected(path: str) -> str:
    """What to say once something was isolated without policies."""
    return f"no policy set is deployed at {path}, so that only parts of the guard itself are protected"


def _is_there(path: str) -> bool:
    """Whether there is anything, even a link that leads nowhere, or something that this user must not look at."""
    try:
        os.lstat(path)
    except OSError as error:
        return not isinstance(error, FileNotFoundError)
    return True
