# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text that attackers write.

A process in a container chooses its command line, and the detector copies it into the alert. From there it reaches
terminals, logs and, as extra vars of a playbook, the template engine of the controller. Two kinds of text leave this
module: display text, which is bounded, printable and no template; and identifiers, which match a strict character set
or are dropped.
"""

from __future__ import annotations

import ipaddress
import re

DISPLAY_LIMIT = 1024
"""Longest display text, in characters."""

# Extra vars are templates. "{{", "{%" and "{#" open one; a "{" at the very end would, once a user's own template
# puts something behind it. A text that starts with "#jinja2:" chooses delimiters of its own: ansible-core 2.18 executes
# what stands between them, and 2.19 and later fail the playbook, which would silence the alert.
_OPENS_TEMPLATE = re.compile(r"\{(?=[{%#]|\Z)|\A#(?=jinja2:)")
_CONTAINER_ID = re.compile(r"[0-9a-f]{12,64}")
# RestrictedNamePattern of the Docker Engine (read in its daemon/names/names.go); the length bound is ours.
_CONTAINER_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{1,254}")
# Host names become a --limit pattern, in which ",", ":", "!", "&", "@", "*" and "[" have a meaning.
_HOST_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,252}")
_TOKEN = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.:-]{0,127}")
_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DECIMAL = re.compile(r"[0-9]{1,7}")
_LARGEST_PID = 1 << 22
"""PID_MAX_LIMIT of Linux."""


def inert(text: str) -> str:
    """The text with a space in everything that makes Ansible take it for a template: readable, and not one."""
    # Most texts have neither, and to look for that is cheap.
    return _OPENS_TEMPLATE.sub(r"\g<0> ", text) if "{" in text or text.startswith("#") else text


def display(value: object, limit: int = DISPLAY_LIMIT) -> str:
    """The value as bounded, printable, inert text; C("") for what is neither text nor a number.

    Idempotent, so that a record may pass through any number of processes.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return ""
    try:
        text = value if isinstance(value, str) else str(value)
    except ValueError:  # CPython refuses to print integers of more than 4,300 digits
        return ""
    text = text[: limit + 1]
    if not text.isprintable():
        # Newlines forge log lines, escape sequences drive terminals, bidirectional controls reorder what is read and
        # lone surrogates cannot be encoded: all are shown as escapes.
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    text = inert(text)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _matching(pattern: re.Pattern[str], value: object) -> str:
    return value if isinstance(value, str) and pattern.fullmatch(value) else ""


def container_id(value: object) -> str:
    """A container id or a prefix of one: 12 to 64 lower-case hexadecimal digits, else C("")."""
    return _matching(_CONTAINER_ID, value)


def container_name(value: object) -> str:
    """A container name without the leading slash, else C("")."""
    return _matching(_CONTAINER_NAME, value[1:] if isinstance(value, str) and value.startswith("/") else value)


def host_name(value: object) -> str:
    """A host name that is safe in a host pattern, else C("")."""
    return _matching(_HOST_NAME, value)


def token(value: object) -> str:
    """An opaque identifier such as a UUID, at most 128 characters, else C("")."""
    return _matching(_TOKEN, value)


def base64_text(value: object) -> str:
    """Text in the base64 alphabet, which holds no delimiter of any template, else C("")."""
    return _matching(_BASE64, value)


def sha256_hex(value: object) -> str:
    """A SHA-256 as 64 hexadecimal digits, else C("")."""
    return _matching(_SHA256, value)


def process_id(value: object) -> int:
    """The id of a process, as a number or in decimal digits, 1 to 4194304; else 0."""
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _LARGEST_PID:
        return value
    return 0


def address(value: object) -> str:
    """The IP address in its canonical form, without a zone, else C("").

    An IPv4 address that is written as one of IPv6 is that of IPv4.
    """
    if not isinstance(value, str) or "%" in value:
        return ""
    try:
        found = ipaddress.ip_address(value)
    except ValueError:
        return ""
    return str(getattr(found, "ipv4_mapped", None) or found)
