# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The configuration of the host service: checked once, immutable after."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import re
import typing as t
import urllib.parse
from collections.abc import Callable, Mapping

from ansible_collections.ironpost.container_guard.plugins.module_utils._docker.client import DEFAULT_DOCKER_HOST
from ansible_collections.ironpost.container_guard.plugins.module_utils._state_dir import DEFAULT_STATE_DIR
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import option_values as values
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.options import Options, parse_options
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.reports import INTERVALS
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._service.link import Controller

DIRECTORY = "/etc/container-guard"
DEFAULT_CONFIG = f"{DIRECTORY}/service.json"
DEFAULT_POLICY_SET = f"{DIRECTORY}/policy_set.json"
DEFAULT_MODE = f"{DIRECTORY}/mode"
DEFAULT_SPOOL = f"{DEFAULT_STATE_DIR}/spool"
DEFAULT_SOCKET = "/run/container-guard.sock"
DEFAULT_PORT = 5001
LOCAL = "local"
"""The sender that shows a token of the host itself."""
_MOST_BYTES = 1_048_576

# Of the options of the event source those that concern one host which answers by itself.
_OF_THE_SOURCE = (
    *("certfile", "keyfile", "cafile", "certificate_required", "hmac_header", "body_limit", "read_timeout"),
    *("max_connections", "max_connections_per_address", "max_requests", "max_requests_per_address"),
    *("severities", "spool", "spool_max_bytes", "spool_max_alerts", "history_days", "history_max_bytes", "raw_hours"),
    *("queue_max", "answer_deadline", "fold_isolated"),
)
_OF_THE_SENDER = {
    "token": "tokens",
    "path_token": "path_tokens",
    "hmac_secret": "hmac_secrets",
    **{name: name for name in ("tokens", "path_tokens", "hmac_secrets")},
}
"""Options by which senders on the host are told apart from strangers, and what they are called of one sender."""
_BY_HAND = (
    *("host", "socket", "docker_host", "state_dir", "policy_set", "mode"),
    *("action_timeout", "retry_max_attempts", "retry_backoff_base", "max_concurrent_actions"),
)
"""Settings that count where there is no service."""


class ConfigError(ValueError):
    """The configuration cannot be used."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """What the service is told.

    Attributes:
        host: inventory name of this host.
        intake: how alerts are taken.
        socket: path of the Unix socket where alerts are taken; empty for none.
        docker_host: URL of the engine.
        state_dir: absolute path of the state directory.
        policy_set: where the policy set is deployed.
        mode: file that says C(enforce) or C(audit); where there is none, it is C(enforce).
        action_timeout: seconds that one call to the engine may take, 1 to 300.
        retry_max_attempts: 0 to 10.
        retry_backoff_base: milliseconds, 0 to 30,000.
        max_concurrent_actions: containers that are worked on at a time, 1 to 100.
        controller: to whom it is reported what was done; None for nobody.
    """

    host: str
    intake: Options
    socket: str = DEFAULT_SOCKET
    docker_host: str = DEFAULT_DOCKER_HOST
    state_dir: str = DEFAULT_STATE_DIR
    policy_set: str = DEFAULT_POLICY_SET
    mode: str = DEFAULT_MODE
    action_timeout: int = 30
    retry_max_attempts: int = 3
    retry_backoff_base: int = 500
    max_concurrent_actions: int = 10
    controller: Controller | None = None


def unconfigured() -> Config:
    """What holds on a host where nobody has configured a service."""
    return Config(host="", intake=Options(port=DEFAULT_PORT))


def read_config(path: str) -> Config:
    """The configuration in a file. Raises ConfigError."""
    return _read(path, parse_config)


def read_by_hand(path: str) -> Config:
    """The configuration in a file, for whoever does by hand what the service does not do. Raises ConfigError.

    What concerns the service alone may be wrong in it, and is then as on a host without one.
    """
    return _read(path, _by_hand)


def _read(path: str, parse: Callable[[object], Config]) -> Config:
    try:
        with open(path, "rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise ConfigError(f"{path} is larger than {_MOST_BYTES} bytes")
        return parse(json.loads(content))
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} is no JSON: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: {error}") from None


def _by_hand(given: object) -> Config:
    try:
        return parse_config(given)
    except ValueError:
        # A setting that is misspelt may be the one that says where the journal is, so that none may be unknown.
        readers = {name: reader if name in _BY_HAND else _as_it_is for name, reader in _READERS.items()}
        found = values.fields("", given, readers, "setting")
        return dataclasses.replace(unconfigured(), **{name: found[name] for name in _BY_HAND if name in found})


def parse_config(given: object) -> Config:
    """The configuration in a mapping. Raises ValueError for what is unknown, out of range, or does not go together."""
    found = values.fields("", given, _READERS, "setting")
    if "host" not in found:
        raise ValueError("host is missing. Set it to the name of this host in the inventory")
    intake = found.pop("intake", {})
    host = found.pop("host")
    return Config(host=host, intake=_intake(host, intake), **found)


def _intake(host: str, given: Mapping[str, t.Any]) -> Options:
    """The options of an event source that takes alerts about one host, and delivers them to that at once."""
    local: dict[str, list[object]] = {_OF_THE_SENDER[name]: [] for name in _OF_THE_SENDER}
    options: dict[str, t.Any] = {"port": DEFAULT_PORT, "spool": DEFAULT_SPOOL}
    for name, value in given.items():
        if name in _OF_THE_SENDER:
            local[_OF_THE_SENDER[name]] += value if name in local and isinstance(value, (list, tuple)) else [value]
        else:
            options[name] = value
    senders = [_bound(sender, host) for sender in options.pop("senders", ())]
    if local["tokens"] or local["path_tokens"]:
        senders.insert(0, {"name": LOCAL, "hosts": [host], **{name: them for name, them in local.items() if them}})
    elif local["hmac_secrets"]:
        raise ValueError("intake.hmac_secret is set without a token or path_token. Set one of these, too")
    files = [_of_host(file, host) for file in options.pop("files", ())]
    return parse_options(
        {
            **options,
            **({"senders": senders} if senders else {}),
            **({"files": files} if files else {}),
            "hosts": [host],
            "lookup_hosts": [host],
            # Each alert is taken to the only host at once, and one that waits for another has its company.
            "batch_window": 0,
            "batch_interval": 0,
            # Whoever answers is this process: what it has begun, it ends, or is gone.
            "answer_timeout": options.get("answer_deadline", Options.answer_deadline),
        }
    )


def _bound(sender: object, host: str) -> object:
    return {**sender, "hosts": [host]} if isinstance(sender, Mapping) and "hosts" not in sender else sender


def _of_host(file: object, host: str) -> object:
    if isinstance(file, str):
        return {"path": file, "host": host}
    return {"host": host, **file} if isinstance(file, Mapping) else file


def _section(name: str, value: object) -> Mapping[str, t.Any]:
    return values.fields(name, value, _INTAKE_READERS, "setting")


def _controller(name: str, value: object) -> Controller:
    given = values.fields(name, value, _CONTROLLER_READERS, "setting")
    if "url" not in given:
        raise ValueError(f"{name} has no url. Set it to the address of the event source, without /events")
    controller = Controller(url=given.pop("url"), **given)
    secure = controller.url.startswith("https:")
    if controller.token and controller.token_file:
        raise ValueError(f"{name} has a token and a token_file. Set one of these")
    if not (controller.token or controller.token_file or controller.certfile):
        raise ValueError(f"{name} has nothing to show to the controller. Set token_file, token, or certfile")
    if controller.keyfile and not controller.certfile:
        raise ValueError(f"{name} has a keyfile and no certfile")
    if not secure and (controller.certfile or controller.cafile):
        raise ValueError(f"{name} has certificates, and its url is none of https")
    return controller


def _url(name: str, value: object) -> str:
    url = values.string(name, value)
    parts = urllib.parse.urlsplit(url)
    extra = parts.username or parts.password or parts.query or parts.fragment
    if parts.scheme not in ("http", "https") or not parts.hostname or extra or not re.fullmatch("[!-~]+", url):
        raise ValueError(
            f"{name} is {values.shown(value)}. Set it to an address such as https://guard.example.com:5000"
        )
    return url


def _as_it_is(_name: str, value: object) -> object:
    return value


def _absolute(name: str, value: object) -> str:
    path = values.string(name, value)
    if not pathlib.PurePath(path).is_absolute():
        raise ValueError(f"{name} is {values.shown(value)}. Set it to an absolute path")
    return path


def _socket(name: str, value: object) -> str:
    return "" if value == "" else _absolute(name, value)


_INTAKE_READERS: dict[str, values.Reader] = dict.fromkeys(
    ("host", "port", "senders", "files", *_OF_THE_SENDER, *_OF_THE_SOURCE), _as_it_is
)
_CONTROLLER_READERS: dict[str, values.Reader] = {
    "url": _url,
    "token": values.secret("!-~", "visible ASCII"),
    **dict.fromkeys(("token_file", "cafile", "certfile", "keyfile"), _absolute),
    "heartbeat": values.seconds(*INTERVALS),
}
_READERS: dict[str, values.Reader] = {
    "host": values.host,
    "intake": _section,
    "socket": _socket,
    "docker_host": values.string,
    "state_dir": _absolute,
    "policy_set": _absolute,
    "mode": _absolute,
    "action_timeout": values.integer(1, 300),
    "retry_max_attempts": values.integer(0, 10),
    "retry_backoff_base": values.integer(0, 30_000),
    "max_concurrent_actions": values.integer(1, 100),
    "controller": _controller,
}
