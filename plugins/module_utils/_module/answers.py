# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options as people give them: typed into a survey of AWX, or on a command line.

A survey knows text, numbers and lists of text. A question that was left blank is answered with an empty text.
"""

from __future__ import annotations

import json
import typing as t

from ansible_collections.ironpost.container_guard.plugins.module_utils._errors import GuardError
from ansible_collections.ironpost.container_guard.plugins.module_utils._response.durations import parse_duration

DURATIONS = ("action_timeout", "grace", "item_timeout", "release_after")
"""The options that are so many seconds."""
_Spec = t.Mapping[str, t.Mapping[str, t.Any]]


def answered(spec: _Spec, given: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The options as an argument spec wants them; what is in none of these shapes is left to Ansible.

    - Text that is blank is no answer. Only of options themselves: within one, it could widen what it was to narrow.
    - Lists may be text: JSON, lines, or, on one line, with commas. On several lines, commas belong to what is there.
    - A dictionary in a list may be the text of the one option that it needs, as C(pause) for C({"type": "pause"}).
    - Durations may have units.

    Args:
        spec: an argument spec of AnsibleModule.
        given: by name or alias. Names that the spec does not know stay as they are.

    Raises:
        GuardError: C(invalid_option).
    """
    names = {alias: name for name, option in spec.items() for alias in (name, *option.get("aliases", ()))}
    return {
        key: _value(names[key], spec[names[key]], value) if key in names else value
        for key, value in given.items()
        if not (key in names and isinstance(value, str) and not value.strip())
    }


def _value(name: str, option: t.Mapping[str, t.Any], value: t.Any) -> t.Any:
    kind = option.get("type", "str")
    if name in DURATIONS and kind == "int" and isinstance(value, str):
        return parse_duration(value, name)
    if kind == "list" and "elements" in option:
        elements = _elements(name, value) if isinstance(value, str) else value
        return [_element(option, element) for element in elements] if isinstance(elements, list) else elements
    if kind == "dict" and "options" in option:
        return _fields(option["options"], _json(name, value, "{"))
    return value


def _elements(name: str, text: str) -> t.Any:
    found = _json(name, text, "[")
    if not isinstance(found, str):
        return found
    lines = [line.strip().rstrip(",").rstrip() for line in text.strip().splitlines()]
    parts = lines if len(lines) > 1 else text.split(",")
    # One that is empty would ask for nothing, or narrow nothing down. Whoever reads a blank entry refuses it.
    return [part.strip() for part in parts if part.strip()] or [""]


def _element(option: t.Mapping[str, t.Any], value: t.Any) -> t.Any:
    options = option.get("options", {})
    if option["elements"] != "dict" or not options:
        return value
    needed = [name for name, one in options.items() if one.get("required")]
    if isinstance(value, str) and len(needed) == 1 and options[needed[0]].get("type", "str") == "str":
        return {needed[0]: value}
    return _fields(options, value)


def _fields(options: _Spec, value: t.Any) -> t.Any:
    if not isinstance(value, dict):
        return value
    return {key: _value(key, options[key], one) if key in options and one != "" else one for key, one in value.items()}


def _json(name: str, value: t.Any, opening: str) -> t.Any:
    """What text is that begins as JSON; anything else as it is."""
    if not isinstance(value, str) or not value.lstrip().startswith(opening):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise GuardError(
            f"{name} begins as JSON, and is none",
            kind="invalid_option",
            remedy="Put double quotes around texts, or give a list by lines, or with commas",
        ) from None
