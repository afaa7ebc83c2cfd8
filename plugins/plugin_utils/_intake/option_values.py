# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a value of an option may be. Each reader takes the name, for its message, and the value; raises ValueError."""

from __future__ import annotations

import difflib
import re
import typing as t
from collections.abc import Callable, Iterable, Mapping

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.severity import Severity

MIN_SECRET = 16
"""Shortest token, in characters."""

Reader = Callable[[str, object], t.Any]

_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")


def shown(value: object) -> str:
    """A value for a message: bounded, and no template."""
    return text.display(repr(value), 80)


def near(name: object, known: Iterable[str], how: float = 0.6) -> str:
    """The known name that a misspelt one is like, or empty. C(how) much, from 0 to 1."""
    return next(iter(difflib.get_close_matches(str(name), list(known), n=1, cutoff=how)), "")


def misspelt(what: str, name: object, known: Iterable[str]) -> ValueError:
    """The error for a name that is none of the known ones."""
    like = near(name, known)
    hint = f"Did you mean {like}?" if like else "Known are: {}".format(", ".join(sorted(known)))
    return ValueError(f"unknown {what} {text.display(name, 64)!r}. {hint}")


def integer(least: int, most: int) -> Reader:
    """A whole number."""

    def read(name: str, value: object) -> int:
        # A value out of a rulebook variable or the environment arrives as text.
        number = int(value) if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,18}\s*", value) else value
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
            raise ValueError(f"{name} is {shown(value)}. Set it to a whole number from {least} to {most}")
        return number

    return read


def seconds(least: float, most: float, unit: str = "seconds") -> Reader:
    """A number of seconds, or of another unit."""

    def read(name: str, value: object) -> float:
        try:
            number = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None
        except (ValueError, OverflowError):
            number = None
        if number is None or not least <= number <= most:  # NaN compares false
            raise ValueError(f"{name} is {shown(value)}. Set it to a number of {unit} from {least:g} to {most:g}")
        return number

    return read


def boolean(name: str, value: object) -> bool:
    """Yes or no, in the words of YAML."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.strip().lower() in (*_TRUE, *_FALSE):
        return value.strip().lower() in _TRUE
    raise ValueError(f"{name} is {shown(value)}. Set it to true or false")


def string(name: str, value: object) -> str:
    """A text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is {shown(value)}. Set it to a text, or leave it out")
    return value


def matching(pattern: str, what: str) -> Reader:
    """A text of a pattern; C(what) says which."""
    compiled = re.compile(pattern)

    def read(name: str, value: object) -> str:
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError(f"{name} is {shown(value)}. Set it to {what}")
        return value

    return read


def secret(allowed: str, description: str) -> Reader:
    """A token; its value is in no message."""
    pattern = re.compile(rf"[{allowed}]{{{MIN_SECRET},}}")

    def read(name: str, value: object) -> str:
        if not isinstance(value, str):
            # ansible-rulebook evaluates what a template yields: a token such as 1_000 or 12e4 becomes another number.
            raise ValueError(
                f"{name} was read as {type(value).__name__}, not as text. Use one that starts with a letter"
            )
        if not pattern.fullmatch(value):
            raise ValueError(f"{name} is not usable. Set it to at least {MIN_SECRET} characters, all of {description}")
        return value

    return read


def host(name: str, value: object) -> str:
    """A host name."""
    checked = text.host_name(value)
    if not checked:
        raise ValueError(
            f"{name} holds {shown(value)}. Host names start with a letter or digit and go on with letters, digits, "
            "'.', '_' and '-', at most 253 characters"
        )
    return checked


def severity(name: str, value: object) -> str:
    """A severity, in lower case."""
    try:
        return str(Severity.parse(value))
    except AlertError as error:
        raise ValueError(f"{name} is {shown(value)}: {error.message}") from None


def list_of(read: Reader, what: str, *, some: bool = False) -> Reader:
    """A list; with C(some), of one element at least. C(what) says of what."""

    def read_list(name: str, value: object) -> tuple[t.Any, ...]:
        # The value is not shown: a secret could stand where a list of them belongs.
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{name} is no list. Set it to a list of {what}")
        if some and not value:
            raise ValueError(f"{name} is empty. Set it to a list of {what}")
        return tuple(read(name, element) for element in value)

    return read_list


def mapping_of(read_key: Reader, read_value: Reader, what: str) -> Reader:
    """A mapping. C(what) says from what to what."""

    def read_mapping(name: str, value: object) -> dict[t.Any, t.Any]:
        if not isinstance(value, Mapping):
            raise ValueError(f"{name} is {shown(value)}. Set it to a dictionary of {what}")
        return {read_key(name, key): read_value(name, element) for key, element in value.items()}

    return read_mapping


def fields(name: str, value: object, readers: Mapping[str, Reader], what: str) -> dict[str, t.Any]:
    """The fields of a mapping, each by its reader. None counts as not given.

    Args:
        name: of the mapping, as a prefix of messages; may be empty.
        value: the mapping.
        readers: by the name of the field.
        what: a field is called.
    """
    # The value is not shown: it may hold secrets, as JSON in a text does.
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} is no dictionary. Set it to a dictionary of {', '.join(sorted(readers))}")
    found = {}
    for key, element in value.items():
        if key not in readers:
            raise misspelt(f"{what} of {name}" if name else what, key, readers)
        if element is not None:
            found[key] = readers[key](f"{name}.{key}" if name else key, element)
    return found
