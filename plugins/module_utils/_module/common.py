# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What all modules share: options of the engine and the state directory, and the one place where errors are shown."""

from __future__ import annotations

import datetime
import os
import typing as t
import uuid

from ansible.module_utils.basic import AnsibleModule, env_fallback

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import parse_timestamp, utc_now
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.client import (
    DEFAULT_DOCKER_HOST,
    DockerEngine,
)
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.engine import Engine
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.lazy import connected_when_asked
from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.retry import NO_RETRY, Retry
from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._module.answers import answered
from ansible_collections.ironpost.container_guard.plugins.module_utils._policy.action import ACTION_TYPES
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import DEFAULT_STATE_DIR

DEFAULT_CONCURRENCY = 10
DEFAULT_POLICY_SET = "/etc/container-guard/policy_set.json"
Spec = t.Dict[str, t.Dict[str, t.Any]]


def engine_spec() -> Spec:
    """Options of the Docker engine."""
    return {
        "docker_host": {
            "type": "str",
            "default": DEFAULT_DOCKER_HOST,
            "fallback": (env_fallback, ["DOCKER_HOST"]),
            "aliases": ["docker_url"],
        },
        "action_timeout": {"type": "int", "default": 30},
    }


def retry_spec() -> Spec:
    """Options of trying again, and of working on several containers."""
    return {
        "retry_max_attempts": {"type": "int", "default": 3},
        "retry_backoff_base": {"type": "int", "default": 500},
        "max_concurrent_actions": {"type": "int", "default": DEFAULT_CONCURRENCY},
    }


def state_spec() -> Spec:
    """The option C(state_dir)."""
    return {"state_dir": {"type": "path", "default": DEFAULT_STATE_DIR}}


def actions_spec() -> Spec:
    """The option C(actions)."""
    return {
        "actions": {
            "type": "list",
            "elements": "dict",
            "options": {
                "type": {"type": "str", "choices": list(ACTION_TYPES), "required": True},
                "networks": {"type": "list", "elements": "str"},
                "grace": {"type": "int"},
            },
        }
    }


def trace_id_of(params: t.Mapping[str, t.Any]) -> str:
    """The trace id that was asked for, or a new one. Raises GuardError (C(invalid_option)) where it is none."""
    trace_id = text.token(params["trace_id"])
    if params["trace_id"] and not trace_id:
        raise invalid_option(
            "trace_id is not an identifier", "Use up to 128 letters, digits and any of . _ : -, such as a UUID"
        )
    return trace_id or str(uuid.uuid4())


def in_range(params: t.Mapping[str, t.Any], name: str, low: int, high: int) -> int:
    """The number of an option. Raises GuardError (C(invalid_option)) where it is out of bounds."""
    value = params[name]
    if not low <= value <= high:
        raise invalid_option(f"{name} is {value}, but must be from {low} to {high}")
    return int(value)


def invalid_option(message: str, remedy: str = "") -> GuardError:
    """The error of an option that cannot be used."""
    return GuardError(message, kind="invalid_option", remedy=remedy)


def engine_of(params: t.Mapping[str, t.Any], retry: Retry = NO_RETRY) -> DockerEngine:
    """The engine that the options name. Raises GuardError, EngineError."""
    timeout = in_range(params, "action_timeout", 1, 300)
    return retry.call(lambda: DockerEngine(params["docker_host"], timeout))


def lazy_engine_of(params: t.Mapping[str, t.Any], retry: Retry = NO_RETRY) -> Engine:
    """The same, connected when it is asked for the first time. Raises GuardError (C(invalid_option)) before that."""
    in_range(params, "action_timeout", 1, 300)
    return connected_when_asked(lambda: engine_of(params, retry))


def retry_of(params: t.Mapping[str, t.Any]) -> Retry:
    """How to try again. Raises GuardError (C(invalid_option)) where an option is out of bounds."""
    return Retry(
        max_attempts=in_range(params, "retry_max_attempts", 0, 10),
        backoff_base=in_range(params, "retry_backoff_base", 0, 30_000) / 1000,
    )


def concurrency_of(params: t.Mapping[str, t.Any]) -> int:
    """How many containers are worked on at a time. Raises GuardError (C(invalid_option)) where it is out of bounds."""
    return in_range(params, "max_concurrent_actions", 1, 100)


def clock_of(params: t.Mapping[str, t.Any]) -> t.Callable[[], datetime.datetime]:
    """The clock of the controller, where the option C(controller_time) tells it; else that of this host.

    Raises GuardError (C(invalid_option)) where the option is no moment.
    """
    told = params["controller_time"]
    moment = parse_timestamp(told) if told else None
    if told and moment is None:
        raise invalid_option(
            f"controller_time is {text.display(told, 80)!r}", "Give a moment in RFC 3339, such as 2026-04-05T12:43:02Z"
        )
    ahead = moment - utc_now() if moment else datetime.timedelta()
    return lambda: utc_now() + ahead


def state_dir_of(params: t.Mapping[str, t.Any]) -> str:
    """The state directory. Raises GuardError (C(invalid_option)) where it is not absolute."""
    if not os.path.isabs(params["state_dir"]):
        raise invalid_option(f"state_dir is {params['state_dir']}, but must be an absolute path")
    return str(params["state_dir"])


class GuardModule(AnsibleModule):  # type: ignore[misc]  # ansible-core has no type information
    """A module that takes its options as people give them.

    Attributes:
        unreadable: what is wrong with an option that could not be read, or None. It was left out.
    """

    unreadable: GuardError | None = None

    def _load_params(self) -> None:
        # Before they are checked by the argument spec. The error has to wait: a module says nothing so early.
        super()._load_params()
        for name, value in tuple(self.params.items()):
            try:
                found = answered(self.argument_spec, {name: value})
            except GuardError as error:
                self.unreadable = self.unreadable or error
                found = {}
            if name in found:
                self.params[name] = found[name]
            else:
                del self.params[name]

    def fail_json(self, msg: str, **found: t.Any) -> t.NoReturn:
        """Fail, by what could not be read in the first place: that it is missing would be no news."""
        error = self.unreadable
        super().fail_json(
            **({"msg": str(error), "changed": False, "error": error.to_dict()} if error else {"msg": msg, **found})
        )
        raise AssertionError  # as its type does not say that it ends the process


def run(module: GuardModule, body: t.Callable[[AnsibleModule], dict[str, t.Any]]) -> t.NoReturn:
    """Do what a module does, and leave: with its result, or with the error it raised.

    A result with C(failed) leaves as a failure that keeps everything that was found out.
    """
    try:
        if module.unreadable:
            raise module.unreadable
        result = body(module)
    except GuardError as error:
        module.fail_json(msg=str(error), changed=False, error=error.to_dict())
    for warning in result.pop("warnings", ()):
        module.warn(warning)
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)
    raise AssertionError  # exit_json and fail_json end the process, which their types do not say
