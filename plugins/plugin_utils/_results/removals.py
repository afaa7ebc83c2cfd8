# Copyright (c) Ironpost contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the playbook remove tells of a fleet."""

from __future__ import annotations

import typing as t

from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.fleet import (
    counted,
    mapping,
    not_reached,
    texts,
)
from ansible_collections.ironpost.container_guard.plugins.plugin_utils._results.table import table

COLUMNS = ("host", "removed", "kept", "left")
_WIDTH = 120


def removals(hosts: t.Mapping[str, t.Any], check_mode: bool = False) -> dict[str, t.Any]:
    """What is gone, and what stays.

    Args:
        hosts: by host what removal returned; of those that failed, too.
        check_mode: whether it was only said what would be done.

    Returns:
        C(hosts): of each host the paths C(removed), C(kept) and C(left). C(not_removed): why, by host. C(complete):
        whether there is no such host. C(lines): for people.
    """
    failed = {str(host): why for host, found in hosts.items() if (why := not_reached(found, "removed"))}
    told = {
        str(host): {key: texts(mapping(found).get(key)) for key in COLUMNS[1:]}
        for host, found in hosts.items()
        if str(host) not in failed
    }
    verb = "would be taken off" if check_mode else "is taken off"
    return {
        "hosts": told,
        "not_removed": failed,
        "complete": not failed,
        "lines": [
            f"the guard {verb} {counted(len(told), 'host')}",
            *table([{"host": host, **one} for host, one in told.items()], COLUMNS, cell_width=_WIDTH),
            *(f"{host}: NOT REMOVED: {why}" for host, why in failed.items()),
        ],
    }
