# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the event filters.

ansible-rulebook does not template the arguments of filters, so options come from a file or from the environment.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import typing as t
from collections.abc import Mapping

import yaml

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.detector import Overrides, read_overrides
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import DETECTORS, NO_OVERRIDES
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake import option_values as values
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._intake.hosts import HostNames

PREFIX = "GUARD_"
"""How the environment variables begin that hold options."""
CONFIG = PREFIX + "CONFIG"
"""The environment variable that holds the path of the file of options."""
MOST_BYTES = 1_048_576
"""Largest file of options."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FilterOptions:
    """What the filters are told.

    Attributes:
        names: how hosts are called.
        detector: of which all messages are; empty where the shape of a message tells.
        severities: what L(read_overrides) made.
        body_limit: largest message, in bytes as JSON.
        policy_set: file of the policy set by which alerts are dropped; empty for none.
        policy_set_confirmed_for: how long the set before counts beside a new one, in seconds.
        fold_window: how long repeats of an alert are dropped, in seconds.
    """

    names: HostNames = dataclasses.field(default_factory=HostNames)
    detector: str = ""
    severities: Overrides = NO_OVERRIDES
    body_limit: int = 1_048_576
    policy_set: str = ""
    policy_set_confirmed_for: float = 3600.0
    fold_window: float = 10.0


def _detector(name: str, value: object) -> str:
    if not isinstance(value, str) or value not in DETECTORS:
        raise values.misspelt(name, value, DETECTORS)
    return value


def _severities(_name: str, value: object) -> Overrides:
    try:
        return read_overrides(value)
    except AlertError as error:
        raise ValueError(str(error)) from None


def _path(name: str, value: object) -> str:
    path = values.string(name, value)
    if not os.path.isabs(path):
        raise ValueError(f"{name} is {values.shown(path)}. Set it to an absolute path")
    return str(path)


_OF_NAMES: dict[str, values.Reader] = {
    "hosts": values.list_of(values.host, "host names"),
    "host_map": values.mapping_of(values.host, values.host, "detector host name: inventory host name"),
    "lookup_hosts": values.list_of(values.host, "host names"),
}
_READERS: dict[str, values.Reader] = {
    **_OF_NAMES,
    "detector": _detector,
    "severities": _severities,
    "body_limit": values.integer(1024, 10_485_760),
    "policy_set": _path,
    "policy_set_confirmed_for": values.seconds(0, 604_800),
    "fold_window": values.seconds(0, 3600),
}
_LISTS, _MAPPINGS = ("hosts", "lookup_hosts"), ("host_map", "severities")


def options_of_file(content: bytes) -> FilterOptions:
    """The options in a YAML or JSON file. Raises ValueError."""
    try:
        found = yaml.safe_load(content)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"it is no YAML: {text.display(str(error), 200)}") from None
    return _options({} if found is None else found)


def options_of_environment(environment: Mapping[str, str]) -> FilterOptions:
    """The options in the variables C(GUARD_...). Others are left alone, as they may be of other programs.

    Raises ValueError.
    """
    given = {name: environment[PREFIX + name.upper()] for name in _READERS if PREFIX + name.upper() in environment}
    return _options({name: _parsed(name, value) for name, value in given.items() if value.strip()})


def misspelt(environment: Mapping[str, str]) -> list[str]:
    """What to say of variables that are almost those of options."""
    known = ["CONFIG", *(name.upper() for name in _READERS)]
    names = [name.removeprefix(PREFIX) for name in environment if name.startswith(PREFIX)]
    likely = {name: values.near(name, known) for name in names if name not in known}
    return [
        f"the environment variable {text.display(PREFIX + name, 64)} is unknown. Did you mean {PREFIX}{near}?"
        for name, near in likely.items()
        if near
    ]


def _parsed(name: str, value: str) -> t.Any:
    """What the text of a variable means: JSON, or a list with commas or blanks between its elements."""
    if name in _MAPPINGS or (name in _LISTS and value.lstrip().startswith("[")):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            raise ValueError(f"{name} is no JSON") from None
    return [part for part in re.split(r"[,\s]+", value) if part] if name in _LISTS else value


def _options(found: object) -> FilterOptions:
    if not isinstance(found, Mapping):
        raise ValueError("it is no mapping of options")
    given = values.fields("", found, _READERS, "option")
    names = HostNames(**{name: given.pop(name) for name in _OF_NAMES if name in given})
    return FilterOptions(names=names, **given)
