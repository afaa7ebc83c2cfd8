# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the alert intake: checked once, immutable after."""

from __future__ import annotations

import dataclasses
import difflib
import re
import typing as t
from collections.abc import Callable, Mapping

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert import text

MIN_SECRET = 16
"""Shortest token, in characters."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """What the intake is told. Made by L(parse_options), which documents ranges by enforcing them.

    Attributes:
        host: address to listen on.
        port: TCP port to listen on; 0 lets the system choose.
        token: Bearer token that senders must show, if any.
        path_token: secret last part of the path that senders must use, if any.
        certfile: PEM file with the certificate chain; TLS when set.
        keyfile: PEM file with the private key, if C(certfile) does not hold it.
        cafile: PEM file with the authorities of client certificates; senders need one when set.
        body_limit: largest body of a request, in bytes, after decompression.
        read_timeout: longest time for a body to arrive, in seconds.
        batch_window: longest time that an alert waits for company, in seconds.
        batch_interval: least time between two events, in seconds.
        batch_max: most alerts in an event.
        queue_max: most alerts held in memory.
        hosts: inventory names that detectors use as they are.
        host_map: host name as detectors say it -> inventory name.
        lookup_hosts: inventory hosts or groups that are asked about alerts of unknown hosts.
    """

    host: str = "127.0.0.1"
    port: int = 5000
    token: str | None = dataclasses.field(default=None, repr=False)
    path_token: str | None = dataclasses.field(default=None, repr=False)
    certfile: str | None = None
    keyfile: str | None = None
    cafile: str | None = None
    body_limit: int = 1_048_576
    read_timeout: float = 10.0
    batch_window: float = 0.2
    batch_interval: float = 1.0
    batch_max: int = 500
    queue_max: int = 10_000
    hosts: tuple[str, ...] = ()
    host_map: Mapping[str, str] = dataclasses.field(default_factory=dict)
    lookup_hosts: tuple[str, ...] = ("all",)

    def inventory_host(self, detector_host: str) -> str:
        """The inventory name of the host that a detector names, or C("") where it is not known."""
        mapped = self.host_map.get(detector_host)
        if mapped is not None:
            return mapped
        return detector_host if detector_host in self.hosts else ""


def parse_options(args: Mapping[str, object]) -> Options:
    """The options in the arguments of the event source. None counts as not given.

    Raises ValueError for an unknown option, a value out of range, or options that do not go together.
    """
    given = {name: _parser(name)(name, value) for name, value in args.items() if value is not None}
    options = Options(**t.cast(dict[str, t.Any], given))
    if not (options.token or options.path_token or options.cafile):
        raise ValueError(
            "no way to tell senders apart from attackers is set. Set token for senders that can send an Authorization "
            "header, path_token for those that cannot (Falco), or cafile to require client certificates"
        )
    for name in ("keyfile", "cafile"):
        if getattr(options, name) and not options.certfile:
            raise ValueError(f"{name} is set without certfile. Set certfile to the certificate of this listener")
    return options


def _parser(name: str) -> Callable[[str, object], object]:
    try:
        return _PARSERS[name]
    except KeyError:
        near = difflib.get_close_matches(str(name), _PARSERS, n=1)
        hint = f"Did you mean {near[0]}?" if near else "Known options: {}".format(", ".join(sorted(_PARSERS)))
        raise ValueError(f"unknown option {text.display(name, 64)!r}. {hint}") from None


def _shown(value: object) -> str:
    return text.display(repr(value), 80)


def _integer(least: int, most: int) -> Callable[[str, object], int]:
    def parse(name: str, value: object) -> int:
        # A value out of a rulebook variable or the environment arrives as text.
        number = int(value) if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,18}\s*", value) else value
        if isinstance(number, bool) or not isinstance(number, int) or not least <= number <= most:
            raise ValueError(f"{name} is {_shown(value)}. Set it to a whole number from {least} to {most}")
        return number

    return parse


def _seconds(least: float, most: float) -> Callable[[str, object], float]:
    def parse(name: str, value: object) -> float:
        try:
            number = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else None
        except (ValueError, OverflowError):
            number = None
        if number is None or not least <= number <= most:  # NaN compares false
            raise ValueError(f"{name} is {_shown(value)}. Set it to a number of seconds from {least:g} to {most:g}")
        return number

    return parse


def _text(name: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{name} is {_shown(value)}. Set it to a text, or leave it out")
    return value


def _secret(allowed: str, description: str) -> Callable[[str, object], str]:
    pattern = re.compile(rf"[{allowed}]{{{MIN_SECRET},}}")

    def parse(name: str, value: object) -> str:
        if not isinstance(value, str):
            # ansible-rulebook evaluates what a template yields: a token such as 1_000 or 12e4 becomes another number.
            raise ValueError(
                f"{name} was read as {type(value).__name__}, not as text. Use one that starts with a letter"
            )
        if not pattern.fullmatch(value):
            raise ValueError(f"{name} is not usable. Set it to at least {MIN_SECRET} characters, all of {description}")
        return value

    return parse


def _host(name: str, value: object) -> str:
    checked = text.host_name(value)
    if not checked:
        raise ValueError(
            f"{name} holds {_shown(value)}. Host names start with a letter or digit and go on with letters, digits, "
            "'.', '_' and '-', at most 253 characters"
        )
    return checked


def _hosts(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)):
        raise ValueError(f"{name} is {_shown(value)}. Set it to a list of host names")
    return tuple(_host(name, item) for item in value)


def _host_map(name: str, value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError(
            f"{name} is {_shown(value)}. Set it to a dictionary of detector host name: inventory host name"
        )
    return {_host(name, key): _host(name, mapped) for key, mapped in value.items()}


_PARSERS: dict[str, Callable[[str, object], object]] = {
    "host": _text,
    "port": _integer(0, 65_535),
    "token": _secret("!-~", "visible ASCII"),
    "path_token": _secret("A-Za-z0-9._~-", "letters, digits, '-', '.', '_' and '~'"),
    "certfile": _text,
    "keyfile": _text,
    "cafile": _text,
    "body_limit": _integer(1024, 10_485_760),
    "read_timeout": _seconds(1, 60),
    "batch_window": _seconds(0, 10),
    "batch_interval": _seconds(0, 3600),
    "batch_max": _integer(1, 10_000),
    "queue_max": _integer(1, 1_000_000),
    "hosts": _hosts,
    "host_map": _host_map,
    "lookup_hosts": _hosts,
}
