# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Timestamps: RFC 3339 in UTC with microseconds, as text."""

from __future__ import annotations

import datetime
import re

# Detectors write nanoseconds (Falco), offsets without a colon (Wazuh) and a space for the T. datetime.fromisoformat
# takes none of these before Python 3.11, and modules run on 3.8.
_TIMESTAMP = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,12}))?\s?(?:[Zz]|([+-])(\d\d):?(\d\d))", re.ASCII
)


def parse_timestamp(value: object) -> datetime.datetime | None:
    """The moment that the text names, in UTC, or None where it names none."""
    match = _TIMESTAMP.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction, sign, offset_hours, offset_minutes = match.groups()[6:]
    try:
        moment = datetime.datetime(  # a leap second counts as the second before
            year,
            month,
            day,
            hour,
            minute,
            min(second, 59),
            int((fraction or "0")[:6].ljust(6, "0")),
            tzinfo=datetime.timezone.utc,
        )
        if sign:
            offset = datetime.timedelta(hours=int(offset_hours), minutes=int(offset_minutes))
            moment = moment - offset if sign == "+" else moment + offset
    except (ValueError, OverflowError):
        return None
    return moment


def of_epoch(seconds: object) -> datetime.datetime | None:
    """The moment so many seconds after 1970, in UTC, or None where that is no moment."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        return None
    try:
        return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    except (ValueError, OverflowError, OSError):
        return None


def format_timestamp(moment: datetime.datetime) -> str:
    """RFC 3339 with microseconds and Z."""
    return moment.astimezone(datetime.timezone.utc).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def utc_now() -> datetime.datetime:
    """The moment it is, in UTC. C(datetime.UTC) is not there before Python 3.11."""
    return datetime.datetime.now(datetime.timezone.utc)


def now() -> str:
    """This moment."""
    return format_timestamp(utc_now())
