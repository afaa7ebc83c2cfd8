# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What certificates in PEM files say of themselves: how long they are valid, and whether strict checkers take them.

The standard library decodes the certificate of a peer only, and only once it was verified.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import datetime
import pathlib
import re

_PEM = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----(.+?)-----END", re.DOTALL)
_SEQUENCE, _VERSION, _UTC_TIME = 0x30, 0xA0, 0x17
_KEY_USAGE = b"\x06\x03\x55\x1d\x0f"
"""Object identifier of the extension, as it is encoded."""


@dataclasses.dataclass(frozen=True)
class Certificate:
    """One certificate.

    Attributes:
        not_before: from when on it is valid, in seconds since the epoch.
        not_after: until when.
        says_key_usage: whether it says what its key is for. Strict checkers want that of authorities.
    """

    not_before: float
    not_after: float
    says_key_usage: bool


def read_certificates(path: str) -> list[Certificate]:
    """The certificates in a PEM file. Raises OSError, and ValueError for one that cannot be decoded."""
    found = []
    for block in _PEM.findall(pathlib.Path(path).read_bytes()):
        try:
            der = base64.b64decode(block)
            not_before, not_after = _validity(der)
        except (binascii.Error, IndexError) as error:
            raise ValueError(f"a certificate in {path} cannot be decoded ({error})") from None
        found.append(Certificate(not_before, not_after, _KEY_USAGE in der))
    return found


def _validity(der: bytes) -> tuple[float, float]:
    # Certificate, tbsCertificate: version, serial number, algorithm, issuer, validity (RFC 5280, 4.1).
    _tag, start, _end = _element(der, 0)
    _tag, start, _end = _element(der, start)
    tag, _start, end = _element(der, start)
    position = end if tag == _VERSION else start
    for _serial_algorithm_issuer in range(3):
        _tag, _start, position = _element(der, position)
    tag, start, _end = _element(der, position)
    if tag != _SEQUENCE:
        raise IndexError("no validity where it should be")
    first = _element(der, start)
    return _time(der, first), _time(der, _element(der, first[2]))


def _element(der: bytes, position: int) -> tuple[int, int, int]:
    """Tag, start and end of the content of the element at a position. Raises IndexError."""
    tag, length, start = der[position], der[position + 1], position + 2
    if length & 0x80:
        octets = length & 0x7F
        length, start = int.from_bytes(der[start : start + octets], "big"), start + octets
    return tag, start, start + length


def _time(der: bytes, element: tuple[int, int, int]) -> float:
    tag, start, end = element
    text = der[start:end].decode("ascii", "replace")
    if tag == _UTC_TIME:  # two digits of the year, of 1950 to 2049
        text = ("19" if text[:2] >= "50" else "20") + text
    return datetime.datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=datetime.UTC).timestamp()
