# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module decision_info."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import hashlib
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text, timestamp
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.resolver import Resolver
from ansible_collections.ironpost.container_guard.plugins.module_utils._module import common
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.alert_response import read_alerts
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.engine import PolicyEngine
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.deployed import read_policy_set
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.judge import Judge
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.mutes import Mutes
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import StateDir


def argument_spec() -> common.Spec:
    """Options of the module."""
    return {
        "alerts": {"type": "list", "elements": "dict", "required": True},
        "host": {"type": "str", "default": ""},
        "policy_set": {"type": "path", "default": common.DEFAULT_POLICY_SET},
        "now": {"type": "str", "default": ""},
        "containers": {
            "type": "list",
            "elements": "dict",
            "options": {
                "name": {"type": "str", "required": True},
                "image": {"type": "str", "default": ""},
                "labels": {"type": "dict", "default": {}},
                "id": {"type": "str"},
            },
        },
        **common.engine_spec(),
        **common.state_spec(),
    }


def main() -> None:
    """Entry point."""
    # no_log keeps whole batches of alerts out of the system log of the host. It hides nothing in the result.
    common.run(common.GuardModule(argument_spec=argument_spec(), supports_check_mode=True, no_log=True), report)


def report(module: AnsibleModule) -> dict[str, t.Any]:
    """What the module does. Raises GuardError."""
    params = module.params
    given = params["containers"]
    policy_set = read_policy_set(params["policy_set"])
    alerts, rejected = read_alerts(params["alerts"])
    if given is None:
        resolver = Resolver(common.lazy_engine_of(params))
    else:
        if not params["host"]:
            raise common.invalid_option(
                "containers is given without host", "Say on which host they are, as policies may ask for it"
            )
        # What is asked is what would be if they were there, so an alert that does not say its host means this one.
        alerts = [
            alert if alert.inventory_host else dataclasses.replace(alert, inventory_host=params["host"])
            for alert in alerts
        ]
        resolver = Resolver(t.cast(Engine, _GivenContainers(given)))
    files, moment = StateDir(common.state_dir_of(params)), _moment(params["now"])
    mutes = Mutes(files).holding(moment or timestamp.utc_now())
    judge = Judge(PolicyEngine(policy_set), resolver, params["host"], now=moment, mutes=mutes)
    refused = {rejection["index"] for rejection in rejected}
    indexes = [index for index in range(len(params["alerts"])) if index not in refused]
    verdicts = [(index, verdict) for index, alert in zip(indexes, alerts) for verdict in judge.decide(alert)]
    decisions = [{"alert": index, **verdict.decision.to_dict()} for index, verdict in verdicts]
    return {
        "changed": False,
        "policy_set_digest": policy_set.digest,
        "decisions": decisions,
        "rejected": rejected,
        "summary": dict(collections.Counter(decision["outcome"] for decision in decisions)),
        "warnings": [
            *files.warnings,
            *(f"alert {index}: {warning}" for index, verdict in verdicts for warning in verdict.warnings),
        ],
    }


def _moment(now: str) -> datetime.datetime | None:
    moment = timestamp.parse_timestamp(now)
    if now and not moment:
        raise common.invalid_option(
            f"now is {text.display(now, 80)!r}, which is no moment", "Give it as RFC 3339, such as 2026-04-05T12:43:02Z"
        )
    return moment


class _GivenContainers:
    """What a resolver asks of an engine, answered from the option C(containers). Raises GuardError."""

    def __init__(self, containers: t.Sequence[dict[str, t.Any]]) -> None:
        self._inspected: dict[str, dict[str, t.Any]] = {}
        for container in containers:
            name, given_id = text.container_name(container["name"]), container["id"]
            if not name:
                raise common.invalid_option(f"{text.display(container['name'], 80)!r} is not a container name")
            if given_id is not None and not text.container_id(given_id):
                raise common.invalid_option(
                    f"the id of {name} is {text.display(given_id, 80)!r}",
                    "Give 12 to 64 lower-case hexadecimal digits, or leave it out",
                )
            # Those without an id get one that is no other's, and which no alert can mean.
            container_id = given_id or hashlib.sha256(name.encode("ascii")).hexdigest()
            if container_id in self._inspected or name in (found["Name"] for found in self._inspected.values()):
                raise common.invalid_option(f"container {name} is given twice", "Names and ids are unique on a host")
            self._inspected[container_id] = {
                "Id": container_id,
                "Name": name,
                "Config": {
                    "Image": container["image"],
                    "Labels": {str(key): str(value) for key, value in container["labels"].items()},
                },
            }

    def list_containers(self) -> list[dict[str, t.Any]]:
        return [{"Id": found["Id"], "Names": [f"/{found['Name']}"]} for found in self._inspected.values()]

    def past_events(self) -> list[dict[str, t.Any]]:
        return []

    def inspect_container(self, container_id: str) -> dict[str, t.Any]:
        return self._inspected[container_id]
