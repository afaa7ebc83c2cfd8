# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Messages of which tests want the alerts, and nothing else."""

from __future__ import annotations

from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.alert import Alert
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.errors import AlertError
from ansible_collections.ironpost.container_guard.plugins.module_utils._alert.intake import read_message


def alerts_from_bytes(body: bytes) -> list[Alert]:
    """The alerts in a message as received, all or none. Raises AlertError, and nothing else."""
    reading = read_message(body)
    if reading.rejected:
        first = reading.rejected[0]
        place = f"element {first.index}: " if reading.received > 1 else ""
        raise AlertError(f"{place}{first.reason}", kind=first.kind, remedy=first.remedy)
    return list(reading.alerts)
