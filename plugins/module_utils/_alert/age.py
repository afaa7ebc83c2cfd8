# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How old an alert is, by the clock of the controller that received it, and whether clocks agree."""

from __future__ import annotations

import datetime

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.sources import source_of
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.timestamp import parse_timestamp

BELIEVED = datetime.timedelta(hours=24)
"""How far the detector's own time may lie from the receipt and still count."""
SKEW = datetime.timedelta(seconds=60)
"""How far clocks may be apart without a warning."""


def age_of(alert: Alert, now: datetime.datetime) -> datetime.timedelta:
    """How long ago it was that the alert is about, as far as can be known; never negative.

    Args:
        alert: received by the clock that C(now) is of.
        now: with a zone.
    """
    received, happened = parse_timestamp(alert.received_at), _happened(alert)
    if received and happened and abs(received - happened) > BELIEVED:
        happened = None
    known = [moment for moment in (received, happened) if moment]
    return max(now - min(known), datetime.timedelta(0)) if known else datetime.timedelta(0)


def seen_at(alert: Alert) -> datetime.datetime | None:
    """The earliest moment of which the alert may speak, or None where it says none.

    Whatever clock is wrong, what came to be after that moment need not be what the alert means.
    """
    known = [moment for moment in (parse_timestamp(alert.received_at), _happened(alert)) if moment]
    return min(known) if known else None


def skew_of(alert: Alert) -> str:
    """What to say of the clock of its detector, or empty."""
    received, happened = parse_timestamp(alert.received_at), _happened(alert)
    if happened is None or received is None:
        return ""
    host = alert.inventory_host or alert.host or "its host"
    if happened - received > SKEW:
        ahead = (happened - received).total_seconds()
        return f"the alert was received {ahead:.0f} seconds before its own time: check the clock of {host}"
    if received - happened > BELIEVED:
        hours = (received - happened).total_seconds() / 3600
        return f"the time of the alert lies {hours:.0f} hours before its receipt and does not count"
    return ""


def _happened(alert: Alert) -> datetime.datetime | None:
    """When it happened, as the detector says, or None where it says nothing of that."""
    return parse_timestamp(alert.time) if source_of(alert.source).time_is_of_event else None


def clock_skew(here: datetime.datetime, controller: datetime.datetime) -> str:
    """What to say of two readings that should be of one moment, or empty."""
    apart = (here - controller).total_seconds()
    if abs(apart) <= SKEW.total_seconds():
        return ""
    side = "ahead of" if apart > 0 else "behind"
    return f"the clock of this host is {abs(apart):.0f} seconds {side} that of the controller"
